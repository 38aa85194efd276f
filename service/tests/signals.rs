//! Signals, seen from outside: this program starts itself as the process that gets them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use longshore_service::lifecycle::{Signals, Tasks, run_until_shutdown};
use rustix::process::{Pid, Signal, kill_process};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("child") {
        return child(args.next().as_deref() == Some("deaf"));
    }
    // What the test harness would answer.
    if std::env::args().any(|arg| arg == "--list") {
        // A runner lists the ignored ones separately.
        if !std::env::args().any(|arg| arg == "--ignored") {
            println!("signals: test");
        }
        return ExitCode::SUCCESS;
    }
    the_first_signal_drains();
    a_second_signal_ends_at_once();
    println!("test signals ... ok");
    ExitCode::SUCCESS
}

/// A process with one task, which obeys the drain or does not.
fn child(deaf: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks = Tasks::new();
        let signals = Signals::install().unwrap();
        let drain = tasks.drain().clone();
        tasks.spawn("call", async move {
            drain.cancelled().await;
            println!("draining");
            if deaf {
                std::future::pending::<()>().await;
            }
        });
        println!("ready");
        run_until_shutdown(signals, &tasks, Duration::from_secs(60)).await
    })
}

struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(kind: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", kind])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut running = Self { child, lines };
        running.expect("ready");
        running
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.lines.next().unwrap().unwrap(), line);
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn the_first_signal_drains() {
    for signal in [Signal::TERM, Signal::INT] {
        let running = Running::start("obedient");
        running.send(signal);
        assert_eq!(running.code(), Some(0), "{signal:?}");
    }
}

fn a_second_signal_ends_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut running = Running::start("deaf");
        running.send(Signal::TERM);
        running.expect("draining");
        let asked = Instant::now();
        running.send(signal);
        assert_eq!(running.code(), Some(code), "{signal:?}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
}
