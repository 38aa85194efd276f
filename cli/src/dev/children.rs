//! Child processes: started, watched, and ended in order within a bound.
//!
//! Each child is its own process group, so that Ctrl-C in the terminal reaches this process alone, which then ends the others in the right order.
//! A child dies with this process ([`crate::child`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::logs::{Pump, Shown, Tail};
use super::ui::Ui;

/// After SIGKILL a process is gone as soon as the kernel gets to it.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// A child's children may hold its output open; its last lines are not worth more than this.
const LAST_LINES_LIMIT: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Clone)]
pub(super) struct Spec {
    /// For messages and the log file.
    pub(super) name: String,
    /// The program.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) args: Vec<OsString>,
    /// Its whole environment: nothing is inherited.
    pub(super) env: BTreeMap<String, OsString>,
    /// Its lines may be shown on the screen.
    pub(super) on_screen: bool,
}

/// A child that ended without being asked to.
#[derive(Debug)]
pub(super) struct Exit {
    /// Which.
    pub(super) name: String,
    /// How, in words.
    pub(super) how: String,
    /// How long it had run.
    pub(super) ran: Duration,
    /// The last lines it printed.
    pub(super) tail: Vec<String>,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ended ({})", self.name, self.how)?;
        for line in &self.tail {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

struct Running {
    name: String,
    terminate: CancellationToken,
    kill: CancellationToken,
    /// Ends when the child has ended.
    watcher: JoinHandle<()>,
}

/// All children.
pub(super) struct Children {
    longshore: PathBuf,
    logs: PathBuf,
    ui: Ui,
    shown: Shown,
    running: Vec<Running>,
    exits: (mpsc::UnboundedSender<Exit>, mpsc::UnboundedReceiver<Exit>),
}

impl Children {
    /// None yet. `longshore` is the path of this command, `logs` a folder.
    pub(super) fn new(longshore: PathBuf, logs: PathBuf, ui: Ui, shown: Shown) -> Self {
        Self { longshore, logs, ui, shown, running: Vec::new(), exits: mpsc::unbounded_channel() }
    }

    /// Starts one and gives its process id. Must be called on the thread that lives as long as this process: the kernel takes the end of the
    /// thread that started a child for the end of its parent.
    pub(super) fn start(&mut self, spec: &Spec) -> anyhow::Result<u32> {
        let (reader, writer) = std::io::pipe().context("no pipe")?;
        let mut command = crate::child::command(&self.longshore, &spec.program);
        command.args(&spec.args).env_clear().envs(&spec.env).process_group(0).stdin(Stdio::null());
        command.stdout(writer.try_clone().context("no pipe")?).stderr(writer);
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", spec.name))?;
        let id = child.id().unwrap_or_default();
        let tail = Tail::default();
        let pump = Pump {
            name: spec.name.clone(),
            path: self.logs.join(format!("{}.log", spec.name)),
            tail: tail.clone(),
            screen: spec.on_screen.then(|| (self.ui.clone(), self.shown.clone())),
        };
        let mut output = tokio::spawn(pump.run(Receiver::from_owned_fd(reader.into()).context("no pipe")?));
        let (terminate, kill) = (CancellationToken::new(), CancellationToken::new());
        let (asked, forced) = (terminate.clone(), kill.clone());
        let (exits, name, started) = (self.exits.0.clone(), spec.name.clone(), Instant::now());
        let watcher = tokio::spawn(async move {
            let (mut terminated, mut killed) = (false, false);
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status,
                    () = asked.cancelled(), if !terminated => {
                        terminated = true;
                        signal(&child, |pid| kill_process(pid, Signal::TERM));
                    }
                    () = forced.cancelled(), if !killed => {
                        killed = true;
                        // With whatever it has started: it is the first of its group.
                        signal(&child, |pid| kill_process_group(pid, Signal::KILL));
                    }
                }
            };
            if tokio::time::timeout(LAST_LINES_LIMIT, &mut output).await.is_err() {
                output.abort();
            }
            if !terminated && !killed {
                let tail = tail.lock().iter().cloned().collect();
                let how = status.map_or_else(|error| error.to_string(), in_words);
                // Nobody listens any more only when everything ends.
                let _ = exits.send(Exit { name, how, ran: started.elapsed(), tail });
            }
        });
        self.running.retain(|running| running.name != spec.name);
        self.running.push(Running { name: spec.name.clone(), terminate, kill, watcher });
        Ok(id)
    }

    /// Whether any has been started and not been stopped.
    pub(super) fn any(&self) -> bool {
        !self.running.is_empty()
    }

    /// The next child that ends without being asked to. Safe to drop and call again.
    pub(super) async fn next_exit(&mut self) -> Exit {
        match self.exits.1.recv().await {
            Some(exit) => exit,
            // Not reached: `self` holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Waits for `what`, but not longer than `limit` and not when a child ends meanwhile.
    pub(super) async fn while_running<T>(
        &mut self,
        limit: Duration,
        what: impl Future<Output = anyhow::Result<T>>,
    ) -> Result<T, StartError> {
        tokio::select! {
            result = what => result.map_err(StartError::Failed),
            exit = self.next_exit() => Err(StartError::Exit(exit)),
            () = tokio::time::sleep(limit) => Err(StartError::Slow(limit)),
        }
    }

    /// Ends all whose name begins with one of `prefixes`: SIGTERM, after `grace` SIGKILL. Gives the names of those that had to be killed.
    pub(super) async fn stop(&mut self, prefixes: &[&str], grace: Duration) -> Vec<String> {
        let (mut ending, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|child| prefixes.iter().any(|prefix| child.name.starts_with(prefix)));
        self.running = rest;
        for child in &ending {
            child.terminate.cancel();
        }
        let deadline = tokio::time::Instant::now() + grace;
        let mut killed = Vec::new();
        for child in &mut ending {
            if tokio::time::timeout_at(deadline, &mut child.watcher).await.is_err() {
                child.kill.cancel();
                let _ = tokio::time::timeout(KILL_LIMIT, &mut child.watcher).await;
                killed.push(child.name.clone());
            }
        }
        killed
    }
}

/// Why what was waited for did not come.
#[derive(Debug)]
pub(super) enum StartError {
    /// It failed by itself.
    Failed(anyhow::Error),
    /// A child ended.
    Exit(Exit),
    /// It took too long.
    Slow(Duration),
}

impl StartError {
    /// The child ended because another process has its port.
    pub(super) fn is_port_in_use(&self) -> bool {
        matches!(self, Self::Exit(exit) if exit.tail.iter().any(|line| line.to_ascii_lowercase().contains("address already in use")))
    }

    /// As an error about `what`.
    pub(super) fn about(self, what: &str) -> anyhow::Error {
        match self {
            Self::Failed(error) => error.context(format!("{what} failed")),
            Self::Exit(exit) => anyhow::anyhow!("{what} failed: {exit}"),
            Self::Slow(limit) => anyhow::anyhow!("{what} took longer than {} s", limit.as_secs()),
        }
    }
}

fn signal(child: &tokio::process::Child, send: impl FnOnce(Pid) -> rustix::io::Result<()>) {
    // `id` is none once the child has been waited for, so this cannot hit another process.
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    // It can fail only because the child has just ended.
    let _ = pid.map(send);
}

fn in_words(status: ExitStatus) -> String {
    // "exit status: 1", "signal: 9 (SIGKILL)"
    status.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn children(logs: &tempfile::TempDir) -> Children {
        let longshore = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/as-child.sh"));
        Children::new(longshore, logs.path().to_owned(), Ui::new(), Shown::default())
    }

    fn shell(name: &str, script: &str) -> Spec {
        Spec {
            name: name.into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: BTreeMap::from([("PATH".into(), std::env::var_os("PATH").unwrap())]),
            on_screen: false,
        }
    }

    #[tokio::test]
    async fn a_child_that_ends_by_itself_is_reported_with_its_last_lines() {
        let logs = tempfile::tempdir().unwrap();
        let mut children = children(&logs);
        children.start(&shell("nats", "echo one; echo two >&2; exit 3")).unwrap();
        let exit = children.next_exit().await;
        assert_eq!(exit.to_string(), "nats ended (exit status: 3)\n    one\n    two");
        assert_eq!(std::fs::read_to_string(logs.path().join("nats.log")).unwrap(), "one\ntwo\n");
    }

    #[tokio::test]
    async fn a_wait_ends_when_a_child_ends_and_a_port_in_use_is_recognised() {
        let logs = tempfile::tempdir().unwrap();
        let mut children = children(&logs);
        children.start(&shell("redis", "echo 'bind: Address already in use'; exit 1")).unwrap();
        let waited =
            children.while_running(Duration::from_secs(60), std::future::pending::<anyhow::Result<()>>());
        let error = waited.await.unwrap_err();
        assert!(error.is_port_in_use(), "{error:?}");
    }

    #[tokio::test]
    async fn only_the_named_are_stopped_and_stopping_is_no_unexpected_end() {
        let logs = tempfile::tempdir().unwrap();
        let mut children = children(&logs);
        children.start(&shell("worker-1", "exec sleep 1000")).unwrap();
        children.start(&shell("nats", "exec sleep 1000")).unwrap();
        assert_eq!(children.stop(&["worker-"], Duration::from_secs(60)).await, [""; 0]);
        assert!(children.any());
        children.stop(&["nats"], Duration::from_secs(60)).await;
        assert!(!children.any() && children.exits.1.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_child_that_is_deaf_is_killed_when_its_time_is_over_and_named() {
        let logs = tempfile::tempdir().unwrap();
        let mut children = children(&logs);
        children.start(&shell("worker-1", "trap '' TERM; echo deaf; while :; do sleep 1000; done")).unwrap();
        let log = logs.path().join("worker-1.log");
        // It is deaf only once it has said so.
        while std::fs::read_to_string(&log).unwrap_or_default().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(children.stop(&["worker-"], Duration::from_millis(200)).await, ["worker-1"]);
    }
}
