//! Few log lines about what happens often.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Attempts to connect come every quarter of a second; a line about them is enough this often.
const WINDOW: Duration = Duration::from_secs(5);

/// Lets a burst of lines through in each window.
pub(super) struct Throttle {
    burst: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    started: Option<Instant>,
    passed: u32,
    held: u64,
}

impl Throttle {
    pub(super) fn new(burst: u32) -> Self {
        Self { burst, state: Mutex::default() }
    }

    /// `Some(how many were held back before)` when a line may be written.
    pub(super) fn pass(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.started.is_none_or(|started| started.elapsed() >= WINDOW) {
            state.started = Some(Instant::now());
            state.passed = 0;
        }
        if state.passed >= self.burst {
            state.held += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.held))
    }

    /// The next line is news again.
    pub(super) fn reset(&self) {
        *self.state.lock() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_after_the_burst_are_held_back_and_counted() {
        let throttle = Throttle::new(2);
        assert_eq!([throttle.pass(), throttle.pass()], [Some(0), Some(0)]);
        assert_eq!([throttle.pass(), throttle.pass(), throttle.pass()], [None; 3]);
        throttle.state.lock().started = Instant::now().checked_sub(WINDOW);
        assert_eq!([throttle.pass(), throttle.pass(), throttle.pass()], [Some(3), Some(0), None]);
        throttle.reset();
        assert_eq!(throttle.pass(), Some(0));
    }
}
