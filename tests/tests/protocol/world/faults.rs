//! What goes wrong, and what came of it.

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub(super) loss: f64,
    pub(super) duplicate: f64,
    pub(super) max_delay_ms: u64,
    pub(super) links: u32,
    pub(super) cuts: u32,
    pub(super) pauses: u32,
    pub(super) kills: u32,
    pub(super) shim_kills: u32,
    pub(super) leaves: u32,
    pub(super) calls: u32,
    pub(super) max_run_ms: u64,
    pub(super) min_budget_ms: u64,
}

impl Faults {
    pub fn none() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            max_delay_ms: 3,
            links: 0,
            cuts: 0,
            pauses: 0,
            kills: 0,
            shim_kills: 0,
            leaves: 0,
            calls: 60,
            max_run_ms: 300,
            min_budget_ms: 20_000,
        }
    }

    pub fn lossy(seed: u64) -> Self {
        Self {
            loss: [0.01, 0.1, 0.3][(seed % 3) as usize],
            duplicate: [0.0, 0.2, 0.5][(seed / 3 % 3) as usize],
            max_delay_ms: [5, 300, 3_000][(seed / 9 % 3) as usize],
            max_run_ms: 3_000,
            min_budget_ms: 500,
            ..Self::none()
        }
    }

    pub fn wild(seed: u64) -> Self {
        Self {
            links: 4,
            cuts: 3,
            pauses: 2,
            kills: 2,
            shim_kills: (seed % 2) as u32,
            leaves: 1,
            ..Self::lossy(seed)
        }
    }

    pub fn leaving() -> Self {
        Self { leaves: 4, ..Self::none() }
    }

    pub fn reconnects() -> Self {
        Self { links: 6, max_run_ms: 2_000, ..Self::none() }
    }
}

/// What came of a simulation.
#[derive(Debug, Default, Clone, Copy)]
pub struct Totals {
    pub calls: u64,
    pub ok: u64,
    pub failed: u64,
    pub lost: u64,
    pub resets: u64,
    pub abandoned: u64,
    pub runs: u64,
    pub second_runs_of_safe_calls: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, o: Self) {
        self.calls += o.calls;
        self.ok += o.ok;
        self.failed += o.failed;
        self.lost += o.lost;
        self.resets += o.resets;
        self.abandoned += o.abandoned;
        self.runs += o.runs;
        self.second_runs_of_safe_calls += o.second_runs_of_safe_calls;
    }
}
