//! The one thread that moves the engine's epoch on.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Guests yield and limits are checked each time. 10 ms is what a guest can hold a thread for at most; a tenth of it
/// would cost a run of JavaScript about 1 % in wake-ups, ten times it would make a neighbour's p99 visible.
pub const TICK: Duration = Duration::from_millis(10);

/// Ticks until dropped; dropping joins the thread.
pub struct Ticker {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread.
    pub fn start(engine: &wasmtime::Engine) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (engine, seen) = (engine.weak(), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("epoch".to_owned()).spawn(move || {
            let (stopped, wake) = &*seen;
            let mut stopped = stopped.lock();
            while !*stopped {
                wake.wait_for(&mut stopped, TICK);
                // Instances outlive the owner of this ticker only in tests that leak them.
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the epoch ticker panicked");
        }
    }
}
