//! The programs that `longshore dev` starts: where they are and whether they are new enough.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use semver::Version;

use super::options::DevArgs;

/// From this version on the server has everything that later parts use of JetStream.
const NATS_MIN: Version = Version::new(2, 12, 0);
/// What distributions have had for years; older ones are not tested.
const REDIS_MIN: Version = Version::new(7, 0, 0);

/// A program and its version.
#[derive(Debug)]
pub(super) struct Program {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it says of itself.
    pub(super) version: Version,
}

/// All of them. Redis is looked for only where none answers already.
#[derive(Debug)]
pub(super) struct Programs {
    /// This command, through which children are started.
    pub(super) longshore: PathBuf,
    /// The message server.
    pub(super) nats: Program,
    /// Runs executions.
    pub(super) worker: PathBuf,
    /// Takes HTTP.
    pub(super) shim: PathBuf,
    /// Keeps installs.
    pub(super) admin: PathBuf,
}

impl Programs {
    /// Finds them.
    ///
    /// # Errors
    /// One is missing or too old; says which and what to do.
    pub(super) fn find(args: &DevArgs, search: &SearchPath) -> anyhow::Result<Self> {
        let longshore = std::env::current_exe().context("this program's own path is unknown")?;
        let beside = |name: &str| {
            let path = longshore.with_file_name(name);
            anyhow::ensure!(
                path.is_file(),
                "`{name}` is not beside this program ({}): run `make run`, or `cargo build --bins`",
                path.display()
            );
            Ok(path)
        };
        let (worker, shim, admin) = (beside("worker")?, beside("gateway-shim")?, beside("longshore-admin")?);
        let named = args.nats_server_bin.as_deref();
        let nats = search.program("nats-server", named, "NATS_SERVER_BIN", &NATS_MIN)?;
        Ok(Self { nats, worker, shim, admin, longshore })
    }

    /// The Redis to start.
    pub(super) fn redis(args: &DevArgs, search: &SearchPath) -> anyhow::Result<Program> {
        search.program("redis-server", args.redis_server_bin.as_deref(), "REDIS_SERVER_BIN", &REDIS_MIN)
    }
}

/// Folders in which programs are looked for, in order.
pub(super) struct SearchPath(Vec<PathBuf>);

impl SearchPath {
    /// `.venv/bin` of the current folder, where `make setup` installs, then the PATH.
    pub(super) fn of_environment() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let local = std::env::current_dir().map(|dir| dir.join(".venv/bin"));
        Self(local.into_iter().chain(std::env::split_paths(&path)).collect())
    }

    fn program(
        &self,
        name: &str,
        named: Option<&Path>,
        variable: &str,
        min: &Version,
    ) -> anyhow::Result<Program> {
        if let Some(path) = named.filter(|path| !path.as_os_str().is_empty()) {
            let version = version_of(path, name).with_context(|| format!("{variable}={}", path.display()))?;
            anyhow::ensure!(
                version >= *min,
                "{variable}={} is {version}: >= {min} is needed",
                path.display()
            );
            return Ok(Program { path: path.to_owned(), version });
        }
        // An old one in front must not hide a new one behind it.
        let mut seen = Vec::new();
        for path in self.0.iter().map(|dir| dir.join(name)).filter(|path| path.is_file()) {
            match version_of(&path, name) {
                Ok(version) if version >= *min => return Ok(Program { path, version }),
                Ok(version) => seen.push(format!("{} is {version}", path.display())),
                Err(error) => seen.push(format!("{}: {error:#}", path.display())),
            }
        }
        let seen = if seen.is_empty() { "none found".to_owned() } else { seen.join("; ") };
        anyhow::bail!("{name} >= {min} is missing ({seen}): run `make setup`, or set {variable}")
    }
}

/// What `program --version` says, if it says that it is `name`.
fn version_of(program: &Path, name: &str) -> anyhow::Result<Version> {
    let output = Command::new(program).arg("--version").output().context("it cannot be run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "nats-server: v2.15.1", "Redis server v=7.0.15 sha=..."
    let kind = name.split('-').next().unwrap_or(name);
    anyhow::ensure!(text.to_ascii_lowercase().contains(kind), "it is no {name}");
    first_version(&text).context("it does not say its version")
}

/// The first `number.number.number` in a text, with or without what follows.
fn first_version(text: &str) -> Option<Version> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|part| Version::parse(part).ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A file that is open for writing cannot be run, and a process that another test has just forked holds every file that was open: one at a time.
    static ONE_AT_A_TIME: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

    /// A folder with a script that prints `says`.
    fn fake(dir: &Path, name: &str, says: &str) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn versions_are_read_from_what_the_servers_print() {
        assert_eq!(first_version("nats-server: v2.15.1"), Some(Version::new(2, 15, 1)));
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64";
        assert_eq!(first_version(redis), Some(Version::new(7, 0, 15)));
        assert_eq!(first_version("nats-server: v2.12.0-preview.1"), Some(Version::new(2, 12, 0)));
        assert_eq!(first_version("usage: 3"), None);
    }

    #[test]
    fn an_old_program_in_front_does_not_hide_a_new_one_behind() {
        let _guard = ONE_AT_A_TIME.lock();
        let dir = tempfile::tempdir().unwrap();
        fake(&dir.path().join("a"), "nats-server", "nats-server: v2.9.0");
        let new = fake(&dir.path().join("b"), "nats-server", "nats-server: v2.12.3");
        let search = SearchPath(vec![dir.path().join("a"), dir.path().join("b")]);
        assert_eq!(search.program("nats-server", None, "NATS_SERVER_BIN", &NATS_MIN).unwrap().path, new);
    }

    #[test]
    fn a_missing_or_old_program_is_an_error_that_says_what_to_do() {
        let _guard = ONE_AT_A_TIME.lock();
        let dir = tempfile::tempdir().unwrap();
        let search = SearchPath(vec![dir.path().to_owned()]);
        let none = search.program("redis-server", None, "REDIS_SERVER_BIN", &REDIS_MIN).unwrap_err();
        assert_eq!(
            none.to_string(),
            "redis-server >= 7.0.0 is missing (none found): run `make setup`, or set REDIS_SERVER_BIN"
        );
        let old = fake(dir.path(), "redis-server", "Redis server v=6.0.16 sha=0");
        let error =
            search.program("redis-server", None, "REDIS_SERVER_BIN", &REDIS_MIN).unwrap_err().to_string();
        assert!(error.contains("is 6.0.16"), "{error}");
        let named = search.program("redis-server", Some(&old), "REDIS_SERVER_BIN", &REDIS_MIN).unwrap_err();
        assert!(named.to_string().contains(">= 7.0.0 is needed"), "{named}");
    }

    #[test]
    fn another_program_under_the_name_is_refused() {
        let _guard = ONE_AT_A_TIME.lock();
        let dir = tempfile::tempdir().unwrap();
        let path = fake(dir.path(), "nats-server", "something 9.9.9");
        let search = SearchPath(Vec::new());
        let error = search.program("nats-server", Some(&path), "NATS_SERVER_BIN", &NATS_MIN).unwrap_err();
        assert!(format!("{error:#}").contains("it is no nats-server"), "{error:#}");
    }
}
