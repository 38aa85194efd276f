//! A worker or a shim.

use std::net::SocketAddr;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::call::{Call, Reply};
use crate::http::Http;
use crate::process::{Lines, Process};
use crate::{paths, wait};

/// A process of ours with its HTTP port.
pub struct Service {
    process: Process,
    http: Http,
    address: SocketAddr,
}

/// A command of one of our programs, with nothing in its environment but `settings`.
pub fn command(program: &str, settings: &[(&str, String)]) -> Command {
    let mut command = Command::new(paths::program(program));
    command.env_clear().env("RUST_BACKTRACE", "1").envs(settings.iter().map(|(name, value)| (name, value)));
    command
}

impl Service {
    /// Starts `program` and waits until its start line names its port.
    pub async fn start(program: &str, name: &str, settings: &[(&str, String)]) -> Self {
        let process = Process::start(name, &mut command(program, settings));
        let lines = process.lines().clone();
        let what = format!("the start line of {name}");
        let address = lines.wait(&what, wait::LIMIT, address_in).await;
        Self { process, http: Http::new(address), address }
    }

    /// Waits until `/readyz` says so.
    pub async fn ready(&mut self) {
        wait::until("readiness", wait::LIMIT, async || {
            self.process.check_runs();
            let reply = self.http.get("/readyz").await;
            if reply.transport == 200 {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&reply.bytes).into_owned())
            }
        })
        .await;
    }

    /// Its HTTP client; cheap to clone.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has printed.
    pub fn lines(&self) -> &Lines {
        self.process.lines()
    }

    /// Calls `/v1/execute`.
    pub async fn call(&self, call: &Call) -> Reply {
        self.http.call(call).await
    }

    /// The sum of all samples of a metric, whatever their labels; 0 where there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        self.metric_with(name, "").await
    }

    /// The sum of the samples of a metric whose labels contain `labels`.
    pub async fn metric_with(&self, name: &str, labels: &str) -> f64 {
        let page = self.http.get("/metrics").await;
        let text = String::from_utf8(page.bytes.to_vec()).unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (own, rest) = series.split_once('{').unwrap_or((series, ""));
            (own == name && rest.contains(labels)).then(|| value.parse::<f64>().unwrap())
        });
        samples.sum()
    }

    /// Waits until `content` is content with a metric.
    pub async fn metric_until(&self, name: &str, content: impl Fn(f64) -> bool) {
        wait::until(name, wait::LIMIT, async || {
            let value = self.metric(name).await;
            if content(value) { Ok(()) } else { Err(format!("it is {value}")) }
        })
        .await;
    }

    /// SIGTERM.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP: it lives and does nothing.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// SIGCONT.
    pub fn go_on(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Waits for its end.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait(limit).await
    }

    /// Asserts that it drains and ends with 0.
    pub async fn drained(&mut self, limit: Duration) {
        let status = self.wait(limit).await;
        assert_eq!(
            status.code(),
            Some(0),
            "{:#?}",
            self.lines().all().iter().rev().take(5).collect::<Vec<_>>()
        );
    }
}

/// The start line of each program names role and port: `{"message": .., "role": .., "port": ..}`.
fn address_in(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    line.get("role")?;
    let port = u16::try_from(line.get("port")?.as_u64()?).ok()?;
    Some(SocketAddr::from(([127, 0, 0, 1], port)))
}
