//! `longshore dev` where something is in its way, and its children when it is killed. That it works at all is shown by `longshore dev --once` with the
//! real programs (`make test`).

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const LONGSHORE: &str = env!("CARGO_BIN_EXE_longshore");

/// A process that another test has just forked holds the files that were open, and a program that is open for writing cannot be run.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A folder with this command and programs that are found but never get so far as to run.
struct Place {
    dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Where a hard link to the command is possible: it looks for the others beside its own real path.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::hard_link(LONGSHORE, dir.path().join("longshore")).unwrap();
        let place = Self { dir, _alone: alone };
        place.script("worker", "exit 1");
        place.script("gateway-shim", "exit 1");
        place.script("longshore-admin", "exit 1");
        place.script("nats-server", "echo 'nats-server: v2.12.3'; exit 1");
        place
    }

    fn script(&self, name: &str, script: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn dev(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        Command::new(self.dir.path().join("longshore"))
            .args(["dev", "--once"])
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", self.dir.path())
            .envs(env.iter().copied())
            .output()
            .unwrap()
    }
}

fn stderr(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_port_in_use_is_named_with_the_option_and_the_variable_that_change_it() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let store = stderr(&place.dev(&["--s3-port", &port], &[]));
    assert!(store.contains(&port) && store.contains("LONGSHORE_DEV_S3_PORT"), "{store}");
    let shim = stderr(&place.dev(&["--s3-port", "0"], &[("RUNNER_DOCKER_PORT", &port)]));
    assert!(shim.contains(&port) && shim.contains("the shim") && shim.contains("--port PORT"), "{shim}");
}

#[test]
fn a_missing_server_is_an_error_that_says_what_to_run() {
    let place = Place::new();
    std::fs::remove_file(place.dir.path().join("nats-server")).unwrap();
    // A variable that is set and empty is not set.
    let nats =
        stderr(&place.dev(&["--ports", "auto"], &[("NATS_SERVER_BIN", ""), ("RUNNER_DOCKER_PORT", "")]));
    assert!(nats.contains("nats-server >= 2.12.0 is missing") && nats.contains("make setup"), "{nats}");
    std::fs::remove_file(place.dir.path().join("worker")).unwrap();
    let worker = stderr(&place.dev(&["--ports", "auto"], &[]));
    assert!(worker.contains("`worker` is not beside this program"), "{worker}");
}

#[test]
fn a_second_one_in_the_same_folder_is_told_so() {
    let place = Place::new();
    let data = place.dir.path().join(".longshore");
    std::fs::create_dir(&data).unwrap();
    let lock = std::fs::File::create(data.join("lock")).unwrap();
    lock.lock().unwrap();
    let error = stderr(&place.dev(&[], &[]));
    assert!(error.contains("another `longshore dev` is running") && error.contains("--data DIR"), "{error}");
}

#[test]
fn a_server_that_does_not_start_is_reported_with_its_last_words() {
    let place = Place::new();
    place.script(
        "nats-server",
        "case $1 in --version) echo 'nats-server: v2.12.3';; *) echo 'no store today'; exit 1;; esac",
    );
    let output = place.dev(&["--ports", "auto"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("nats ended (exit status: 1)") && text.contains("no store today"), "{text}");
}

#[test]
fn a_child_ends_when_its_parent_is_killed() {
    // The shell is the parent that is killed; the child tells its own process id, which stays when it becomes the program.
    let script = format!("'{LONGSHORE}' child --parent $$ -- /bin/sh -c 'echo $$; exec sleep 1000'; true");
    let mut parent = Command::new("/bin/sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child: u32 = line.trim().parse().unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_running(child) {
        assert!(Instant::now() < deadline, "process {child} outlives its parent");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that nobody has waited for yet has ended all the same.
fn is_running(id: u32) -> bool {
    let mut stat = String::new();
    let read = std::fs::File::open(Path::new("/proc").join(id.to_string()).join("stat"))
        .and_then(|mut file| file.read_to_string(&mut stat));
    read.is_ok() && !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
}

#[test]
fn a_child_whose_parent_has_ended_already_does_not_start() {
    // No process has the id 0.
    let output =
        Command::new(LONGSHORE).args(["child", "--parent", "0", "--", "/bin/echo", "x"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
}
