//! A child process whose lines are kept, and which does not outlive its value.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process};
use tokio::sync::watch;

use crate::wait;

/// So many lines of each process are shown when a test fails.
const SHOWN_LINES: usize = 120;
/// And so much of each.
const SHOWN_BYTES: usize = 600;

/// What a process has printed so far, stdout and stderr together.
#[derive(Clone)]
pub struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    count: Arc<watch::Sender<usize>>,
}

impl Lines {
    fn new() -> Self {
        Self { lines: Arc::default(), count: Arc::new(watch::Sender::new(0)) }
    }

    fn read(&self, pipe: impl Read + Send + 'static) {
        let own = self.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                own.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        });
    }

    fn push(&self, line: String) {
        let mut lines = self.lines.lock();
        lines.push(line);
        self.count.send_replace(lines.len());
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// Those that contain `text`.
    pub fn with(&self, text: &str) -> Vec<String> {
        self.lines.lock().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// What guests have printed and logged, where the worker's `LONGSHORE_GUEST_LOG` is `stdout`. Unlike events this is on its way before the guest goes
    /// on, so that it tells the truth about a worker that was killed.
    pub fn of_guests(&self) -> Vec<String> {
        let lines = self.lines.lock();
        let json = lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        json.filter(|line| line["target"] == "guest")
            .map(|line| line["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// What `find` makes of the first line that it accepts, now or later.
    pub async fn wait<T>(&self, what: &str, limit: Duration, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let mut changed = self.count.subscribe();
        let mut seen = 0;
        let search = async {
            loop {
                changed.borrow_and_update();
                {
                    let lines = self.lines.lock();
                    if let Some(found) = lines[seen..].iter().find_map(|line| find(line)) {
                        return found;
                    }
                    seen = lines.len();
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(limit, search).await {
            Ok(found) => found,
            Err(_) => panic!("{what}: no such line within {limit:?}"),
        }
    }
}

/// A running (or ended) child process.
pub struct Process {
    name: String,
    child: Child,
    lines: Lines,
}

impl Process {
    /// Starts `command` with a bare environment: PATH and what `command` sets itself.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} ({}): {error}", command.get_program().display()));
        let lines = Lines::new();
        lines.read(child.stdout.take().unwrap());
        lines.read(child.stderr.take().unwrap());
        Self { name: name.to_owned(), child, lines }
    }

    /// What it has printed.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
    }

    /// SIGSTOP, and waits until every thread stands still: on another core one may still answer for a moment after the signal was sent.
    pub fn stop(&mut self) {
        self.signal(Signal::STOP);
        if self.ended().is_none() {
            let id = WaitId::Pid(Pid::from_child(&self.child));
            rustix::process::waitid(
                id,
                WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            )
            .unwrap();
        }
    }

    /// SIGTERM.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        wait::until(&format!("the end of {name}"), limit, async || self.ended().ok_or("it still runs")).await
    }

    /// Panics, with what it printed, if it has ended: nobody will answer then.
    pub fn check_runs(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} has ended with {status}: {}", self.name, self.lines.all().join("\n"));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let lines = self.lines.all();
            let left_out = lines.len().saturating_sub(SHOWN_LINES);
            eprintln!("---- {} printed {} lines, the last of them:", self.name, lines.len());
            for line in &lines[left_out..] {
                let end = line.floor_char_boundary(SHOWN_BYTES.min(line.len()));
                eprintln!("{}", &line[..end]);
            }
        }
    }
}
