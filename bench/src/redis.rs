//! A redis-server of our own, which keeps nothing on disk.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::process::Process;

/// It ends when it is dropped.
pub struct Redis {
    process: Process,
    port: u16,
}

impl Redis {
    /// Starts one and waits until it takes connections.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        // Free a moment ago; redis-server cannot choose one itself.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new(server()?);
        command
            .env_clear()
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"])
            .arg(folder);
        let mut process = Process::start("redis-server", folder, &mut command)?;
        let log = folder.join("redis-server.log");
        let ready = || {
            let log = std::fs::read_to_string(&log).ok()?;
            log.contains("Ready to accept connections").then_some(())
        };
        process.until("the first connection", ready).await?;
        Ok(Self { process, port })
    }

    /// Stops it where it is: it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// It has ended.
    pub fn stall(&self) -> anyhow::Result<Stalled> {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("redis-server has no process id")?;
        kill_process(pid, Signal::STOP).context("redis-server cannot be stopped")?;
        Ok(Stalled(pid))
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// A server that answers nothing until this is dropped.
pub struct Stalled(Pid);

impl Drop for Stalled {
    fn drop(&mut self) {
        // It fails only if the process has ended.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// The one that `REDIS_SERVER_BIN` names, else from PATH.
fn server() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("REDIS_SERVER_BIN").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&search).map(|folder| folder.join("redis-server")).find(|path| path.is_file());
    found.context(
        "redis-server is missing: run `make setup`, set REDIS_SERVER_BIN, or leave this out (--only calls)",
    )
}
