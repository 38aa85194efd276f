//! A redis-server of our own, which keeps nothing on disk.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::process::Process;

/// It ends when it is dropped.
pub struct Redis {
    _process: Process,
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
        Ok(Self { _process: process, port })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
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
