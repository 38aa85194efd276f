//! Child processes that write to a file and end with their value.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Starting takes a moment; preparing an engine beside a compiler takes longer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at what a process has written.
const POLL: Duration = Duration::from_millis(10);
/// So many of its last lines are shown when a process ends by itself.
const SHOWN_LINES: usize = 20;

/// A running child.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with nothing in its environment but PATH and what the command sets itself. It writes to a file
    /// rather than to a pipe, which this process would have to read while it measures.
    pub fn start(name: &'static str, folder: &Path, command: &mut Command) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        Ok(Self { name, child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error with its last lines if it has ended.
    pub fn check_runs(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().rev().take(SHOWN_LINES).collect();
        lines.reverse();
        anyhow::bail!("{} has ended ({status}):\n{}", self.name, lines.join("\n"))
    }

    /// Waits until `find` finds something, for as long as the process runs.
    pub async fn until<T>(&mut self, what: &str, mut find: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
        let began = Instant::now();
        loop {
            if let Some(found) = find() {
                return Ok(found);
            }
            self.check_runs()?;
            anyhow::ensure!(
                began.elapsed() < START_LIMIT,
                "{what} of {}: not within {} s",
                self.name,
                START_LIMIT.as_secs()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// The port in its start line: `{"message": .., "role": .., "port": ..}`.
    pub async fn port(&mut self) -> anyhow::Result<u16> {
        let log = self.log.clone();
        self.until("the start line", || std::fs::read_to_string(&log).ok()?.lines().find_map(port_in)).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // There is nothing to save and nobody to be answered. It fails only if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn port_in(line: &str) -> Option<u16> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("role")?;
    u16::try_from(line.get("port")?.as_u64()?).ok()
}

/// A program of this workspace: beside this one.
///
/// # Errors
/// It is not there; says what builds it.
pub fn ours(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("this program's own path is unknown")?.with_file_name(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing: run `make bench`, or `cargo build --workspace --bins`",
        path.display()
    );
    Ok(path)
}

/// The nats-server: the one that `NATS_SERVER_BIN` names, else from PATH, else where `make setup` puts it.
///
/// # Errors
/// There is none; says what installs it.
pub fn nats_server() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("NATS_SERVER_BIN").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin");
    let found = std::env::split_paths(&search)
        .chain([installed])
        .map(|folder| folder.join("nats-server"))
        .find(|path| path.is_file());
    found.context("nats-server is missing: run `make setup`, or set NATS_SERVER_BIN")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.env_clear().args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn the_port_is_read_from_the_start_line_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let lines = r#"echo '{"port": 1}'; echo 'role port 2'; echo '{"role":"worker","port":4711}'; exec sleep 1000"#;
        let mut process = Process::start("worker", folder.path(), &mut shell(lines)).unwrap();
        assert_eq!(process.port().await.unwrap(), 4711);
    }

    #[tokio::test]
    async fn a_process_that_ends_before_its_start_line_is_an_error_with_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut process =
            Process::start("worker", folder.path(), &mut shell("echo no bucket >&2; exit 64")).unwrap();
        let error = process.port().await.unwrap_err().to_string();
        assert!(error.contains("64") && error.contains("no bucket"), "{error}");
    }

    #[test]
    fn a_missing_program_is_an_error_that_says_what_to_do() {
        let error = ours("no-such-program").unwrap_err().to_string();
        assert!(error.contains("make bench"), "{error}");
    }
}
