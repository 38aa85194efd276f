//! Tasks with names, tracked until they end.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Outcome;
use crate::metrics::Metrics;

/// The tasks of a process, on however many runtimes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tracker: TaskTracker,
    drain: CancellationToken,
    force: CancellationToken,
    end: CancellationToken,
    failed: CancellationToken,
    failure: Mutex<Option<String>>,
    panics: AtomicU64,
    panic_counter: Counter,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Exports `longshore_task_panics_total`.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register("task_panics", "Tasks that panicked", self.0.panic_counter.clone());
    }

    /// Cancelled when the process takes nothing new.
    pub fn drain(&self) -> &CancellationToken {
        &self.0.drain
    }

    /// Cancelled when the grace period is over.
    pub fn force(&self) -> &CancellationToken {
        &self.0.force
    }

    /// Cancelled when an essential task has failed.
    pub fn failed(&self) -> &CancellationToken {
        &self.0.failed
    }

    /// The first failure of an essential task: its name and what happened.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.lock().clone()
    }

    /// How many tasks have panicked.
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// How many tasks a drain would wait for now.
    pub fn running(&self) -> usize {
        self.0.tracker.len()
    }

    /// Spawns a task that a drain waits for. A panic in it is logged and counted.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_on(&Handle::current(), name, future);
    }

    /// As [`Tasks::spawn`], on another runtime.
    pub fn spawn_on<F>(&self, runtime: &Handle, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.tracker.spawn_on(self.clone().guarded(name, future), runtime);
    }

    /// Spawns a task that serves to the very end (an admin server, a metrics pusher): a drain does not wait for it; it is dropped when
    /// everything else has ended.
    pub fn spawn_background<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let end = self.0.end.clone();
        let guarded = self.clone().guarded(name, future);
        tokio::spawn(async move { end.run_until_cancelled(guarded).await });
    }

    /// Spawns a task without which the process is of no use: a panic, an error or an end before the drain is logged and
    /// ends the process with a non-zero code. A drain waits for it.
    pub fn spawn_essential<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        self.spawn_essential_on(&Handle::current(), name, future);
    }

    /// As [`Tasks::spawn_essential`], on another runtime.
    pub fn spawn_essential_on<F>(&self, runtime: &Handle, name: &'static str, future: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        // Made before the task runs: a runtime that is dropped never polls it.
        let mut watch = DropWatch { tasks: self.clone(), name, ended: false };
        let task = async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            watch.ended = true;
            match outcome.map(Outcome::into_result) {
                Err(panic) => {
                    let message = panic_message(&*panic);
                    watch.tasks.count_panic(name, &message);
                    watch.tasks.fail(name, &format!("panicked: {message}"));
                }
                Ok(Err(error)) => watch.tasks.fail(name, &error),
                Ok(Ok(())) if !watch.tasks.0.drain.is_cancelled() => {
                    watch.tasks.fail(name, "ended although nothing asked it to");
                }
                Ok(Ok(())) => tracing::debug!(task = name, "task ended"),
            }
        };
        self.0.tracker.spawn_on(task, runtime);
    }

    /// Records a failure that ends the process, for what is essential and no task (a thread, for example).
    pub fn fail(&self, name: &str, what: &str) {
        tracing::error!(task = name, error = what, "an essential task failed: the process ends");
        self.0.failure.lock().get_or_insert_with(|| format!("{name}: {what}"));
        self.0.failed.cancel();
    }

    /// Step one of the end: nothing new is taken.
    pub fn begin_drain(&self) {
        self.0.drain.cancel();
        self.0.tracker.close();
    }

    /// Step two: no more patience. Implies the drain.
    pub fn begin_force(&self) {
        self.begin_drain();
        self.0.force.cancel();
    }

    /// Waits until a drain has begun and all tasks that it waits for have ended.
    pub async fn drained(&self) {
        self.0.tracker.wait().await;
    }

    pub(super) fn end(&self) {
        self.0.end.cancel();
    }

    async fn guarded<F: Future<Output = ()>>(self, name: &'static str, future: F) {
        if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
            self.count_panic(name, &panic_message(&*panic));
        }
    }

    fn count_panic(&self, name: &'static str, message: &str) {
        self.0.panics.fetch_add(1, Ordering::Relaxed);
        self.0.panic_counter.inc();
        tracing::error!(task = name, panic = message, "a task panicked");
    }
}

/// Notices an essential task that is dropped without having ended, as happens when its runtime goes away.
struct DropWatch {
    tasks: Tasks,
    name: &'static str,
    ended: bool,
}

impl Drop for DropWatch {
    fn drop(&mut self) {
        if !self.ended && !self.tasks.0.drain.is_cancelled() {
            self.tasks.fail(self.name, "was dropped with its runtime");
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_task_is_counted_and_harms_nobody() {
        let tasks = Tasks::new();
        tasks.spawn("panics", async { panic!("on purpose") });
        tasks.begin_drain();
        tasks.drained().await;
        assert_eq!((tasks.panics(), tasks.failure()), (1, None));
    }

    #[tokio::test]
    async fn a_panic_in_an_essential_task_is_a_failure() {
        let tasks = Tasks::new();
        tasks.spawn_essential("loop", async { assert!(std::process::id() == 0, "on {}", "purpose") });
        tasks.failed().cancelled().await;
        assert_eq!(tasks.failure().unwrap(), "loop: panicked: on purpose");
        assert_eq!(tasks.panics(), 1);
    }

    #[tokio::test]
    async fn an_error_of_an_essential_task_is_a_failure_even_during_the_drain() {
        let tasks = Tasks::new();
        let drain = tasks.drain().clone();
        tasks.spawn_essential("publisher", async move {
            drain.cancelled().await;
            Err::<(), _>("lost its queue")
        });
        tasks.begin_drain();
        tasks.drained().await;
        assert_eq!(tasks.failure().unwrap(), "publisher: lost its queue");
    }

    #[tokio::test]
    async fn an_essential_task_may_end_only_during_the_drain() {
        let early = Tasks::new();
        early.spawn_essential("loop", async {});
        early.failed().cancelled().await;
        assert_eq!(early.failure().unwrap(), "loop: ended although nothing asked it to");

        let tasks = Tasks::new();
        tasks.spawn_essential("loop", tasks.drain().clone().cancelled_owned());
        tasks.begin_drain();
        tasks.drained().await;
        assert_eq!(tasks.failure(), None);
    }

    #[test]
    fn an_essential_task_that_goes_with_its_runtime_is_a_failure() {
        let tasks = Tasks::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tasks.spawn_essential_on(runtime.handle(), "nats", std::future::pending::<()>());
        drop(runtime);
        assert_eq!(tasks.failure().unwrap(), "nats: was dropped with its runtime");
    }

    #[test]
    fn a_drain_waits_for_tasks_on_other_runtimes() {
        let tasks = Tasks::new();
        let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn_on(other.handle(), "call", async move {
            let _ = released.await;
        });
        tasks.begin_drain();
        assert_eq!(tasks.running(), 1);
        release.send(()).unwrap();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(tasks.drained());
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn a_background_task_is_not_waited_for_and_ends_at_the_end() {
        let tasks = Tasks::new();
        let (alive, gone) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn_background("admin", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        tasks.begin_drain();
        tasks.drained().await;
        tasks.end();
        gone.await.unwrap_err();
    }
}
