//! `wasi:clocks`: readings are recorded as numbers. Timers run while recording; a replay never waits, because what
//! `poll` said of them is recorded.

use std::time::Duration;

use longshore_proto::trace::Clock;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::clocks::WasiClocksView as _;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};

use super::{Note, Wait};
use crate::host::RunState;
use crate::host::tape::Tape;

const WALL: &str = "wasi:clocks/wall-clock@0.2.12";
const MONOTONIC: &str = "wasi:clocks/monotonic-clock@0.2.12";
/// Nanoseconds, of both clocks: what Linux says. A replay elsewhere must say the same.
const RESOLUTION: u32 = 1;

pub(super) fn shadow(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    let mut wall = linker.instance(WALL)?;
    wall.func_wrap("now", |mut store, (): ()| Ok((store.data_mut().wall_now()?,)))?;
    wall.func_wrap("resolution", |_, (): ()| {
        Ok((wall_clock::Datetime { seconds: 0, nanoseconds: RESOLUTION },))
    })?;
    let mut monotonic = linker.instance(MONOTONIC)?;
    monotonic.func_wrap("now", |mut store, (): ()| Ok((store.data_mut().monotonic_now()?,)))?;
    monotonic.func_wrap("resolution", |_, (): ()| Ok((u64::from(RESOLUTION),)))?;
    monotonic.func_wrap("subscribe-instant", |mut store, (when,): (u64,)| {
        let run = store.data_mut();
        let pollable = monotonic_clock::Host::subscribe_instant(&mut run.clocks(), when)?;
        Ok((run.timer(pollable, format!("until {when} ns")),))
    })?;
    monotonic.func_wrap("subscribe-duration", |mut store, (duration,): (u64,)| {
        let run = store.data_mut();
        let pollable = monotonic_clock::Host::subscribe_duration(&mut run.clocks(), duration)?;
        Ok((run.timer(pollable, format!("for {duration} ns")),))
    })
}

impl RunState {
    fn wall_now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        if let Tape::Replaying(player) = &self.scope.tape {
            let now = Duration::from_nanos(player.clock(Clock::Wall));
            return Ok(wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() });
        }
        let now = wall_clock::Host::now(&mut self.clocks())?;
        if let Tape::Recording(recorder) = &self.scope.tape {
            let ns = now.seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(now.nanoseconds));
            recorder.clock(Clock::Wall, ns);
        }
        Ok(now)
    }

    fn monotonic_now(&mut self) -> wasmtime::Result<u64> {
        if let Tape::Replaying(player) = &self.scope.tape {
            return Ok(player.clock(Clock::Monotonic));
        }
        let now = monotonic_clock::Host::now(&mut self.clocks())?;
        if let Tape::Recording(recorder) = &self.scope.tape {
            recorder.clock(Clock::Monotonic, now);
        }
        Ok(now)
    }

    fn timer(&mut self, pollable: Resource<DynPollable>, words: String) -> Resource<DynPollable> {
        self.taped.put(pollable.rep(), Some(Note::Waits(Wait::Outside(words))));
        pollable
    }
}
