//! Which calls are made and which faults happen, decided by the seed before the simulation starts.

use super::*;

impl World {
    pub(super) fn plan_calls(&mut self) {
        for n in 0..self.faults.calls {
            let execution = ExecutionId::from_bytes((self.seed as u128 * 1_000 + n as u128).to_be_bytes());
            let at = self.rng.random_range(10..FAULTS_UNTIL_MS);
            let shim = self.rng.random_range(0..SHIMS);
            let budget = self.rng.random_range(self.faults.min_budget_ms..self.faults.min_budget_ms + 10_000);
            let safe = self.rng.random_bool(0.5);
            let tenant: TenantId = ["a", "b", "c"][self.rng.random_range(0..3usize)].parse().unwrap();
            let meta = CallMeta {
                tenant,
                extension: "e".parse().unwrap(),
                pool: PoolName::default(),
                component: ContentHash::from_bytes([self.rng.random_range(0..3u8); 32]),
                safe,
                weight: 1,
                answer_by_ms: at + budget,
            };
            self.callers
                .insert(execution, Caller { shim, safe, abandoned: false, answers: Vec::new(), runs: 0 });
            self.agenda.at(at, Event::Submit(shim, execution, Box::new(meta)));
            self.agenda.at(at + budget, Event::ShimDeadline(shim));
            if self.rng.random_bool(0.05) {
                let later = self.rng.random_range(0..2_000);
                self.agenda.at(at + later, Event::Abandon(shim, execution));
            }
        }
    }

    pub(super) fn plan_faults(&mut self) {
        let f = self.faults;
        let for_a_while = |world: &mut Self, on: fn(usize, bool) -> Fault, many: usize, max_ms: u64| {
            let who = world.rng.random_range(0..many);
            let from = world.rng.random_range(100..FAULTS_UNTIL_MS - max_ms);
            let until = from + world.rng.random_range(10..max_ms);
            // Links are told as "is it up", the others as "is it broken".
            let begin = !matches!(on(0, true), Fault::ShimLink(..) | Fault::WorkerLink(..));
            world.agenda.at(from, Event::Fault(on(who, begin)));
            world.agenda.at(until, Event::Fault(on(who, !begin)));
        };
        for n in 0..f.links {
            let max_ms = if f.kills == 0 { 2_000 } else { 6_000 };
            let on = if n % 2 == 0 { Fault::ShimLink } else { Fault::WorkerLink };
            for_a_while(self, on, if n % 2 == 0 { SHIMS } else { WORKERS }, max_ms);
        }
        for n in 0..f.cuts {
            let on = if n % 2 == 0 { Fault::WorkerCut } else { Fault::ShimCut };
            for_a_while(self, on, if n % 2 == 0 { WORKERS } else { SHIMS }, 8_000);
        }
        for _ in 0..f.pauses {
            for_a_while(self, Fault::ShimPause, SHIMS, 5_000);
        }
        for _ in 0..f.kills {
            let at = self.rng.random_range(100..FAULTS_UNTIL_MS);
            let who = self.rng.random_range(0..WORKERS);
            self.agenda.at(at, Event::Fault(Fault::KillWorker(who)));
            self.agenda.at(at + 500, Event::Fault(Fault::StartWorker));
        }
        if f.shim_kills > 0 {
            self.agenda.at(self.rng.random_range(5_000..FAULTS_UNTIL_MS), Event::Fault(Fault::KillShim(0)));
        }
        for n in 0..f.leaves {
            let at = 1_000 + u64::from(n) * 4_000 + self.rng.random_range(0..1_000);
            self.agenda.at(at, Event::Fault(Fault::StartWorker));
            self.agenda.at(at + 1_500, Event::Fault(Fault::LeaveWorker(n as usize)));
        }
    }
}
