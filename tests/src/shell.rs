//! What a user types: the command `longshore`, and `curl`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::admin::{ADMIN_TOKEN, Admin};
use crate::paths;
use crate::service::Service;

/// A terminal in a folder of its own, with the fleet's addresses in the environment.
pub struct Shell {
    gateway: String,
    env: Vec<(String, String)>,
    folder: TempDir,
}

/// What a command has said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its stdout as JSON; null where it is none.
    pub json: Value,
    /// Its stdout.
    pub stdout: String,
    /// Stdout and stderr.
    pub all: String,
}

impl Said {
    /// The code of a failure, which must be in the object that `--json` prints and agree with the process's exit code.
    pub fn failure(&self) -> (i32, &str) {
        let error = &self.json["error"];
        assert_eq!(error["exit"], self.code, "{}", self.all);
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", self.all);
        (self.code, error["code"].as_str().unwrap_or_default())
    }
}

impl Shell {
    /// One whose commands go to this fleet, for this tenant.
    pub fn new(admin: &Admin, gateway: &Service, tenant: &str) -> Self {
        let gateway = format!("http://{}", gateway.address());
        let mut shell = Self { gateway, ..Self::without_fleet() };
        shell.set("LONGSHORE_TENANT", tenant);
        shell.set("LONGSHORE_ADMIN_URL", &admin.url());
        shell.set("LONGSHORE_ADMIN_TOKEN", ADMIN_TOKEN);
        shell.set("LONGSHORE_GATEWAY_URL", &shell.gateway.clone());
        shell
    }

    /// One that knows of no fleet.
    pub fn without_fleet() -> Self {
        Self { gateway: String::new(), env: Vec::new(), folder: tempfile::tempdir().unwrap() }
    }

    /// Sends its `curl` to a gateway that another command has started.
    pub fn at_gateway(&mut self, url: &str) {
        url.clone_into(&mut self.gateway);
    }

    /// Exports a variable; empty: as good as none.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// The current folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The gateway's address.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The command, with nothing in its environment but what was exported.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(paths::program("longshore"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder());
        command
    }

    /// Runs the command as people do, without `--json`.
    pub fn plain(&self, args: &[&str]) -> Said {
        let output = self.command(args).output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let all = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!all.contains(ADMIN_TOKEN), "longshore {}: it prints the token: {all}", args.join(" "));
        let json = serde_json::from_str(&stdout).unwrap_or(Value::Null);
        Said { code: output.status.code().unwrap(), json, stdout, all }
    }

    /// Runs the command with `--json`.
    pub fn longshore(&self, args: &[&str]) -> Said {
        self.plain(&[args, &["--json"]].concat())
    }

    /// The same where it must go well; the document.
    pub fn ok(&self, args: &[&str]) -> Value {
        let said = self.longshore(args);
        assert_eq!(said.code, 0, "longshore {}: {}", args.join(" "), said.all);
        assert!(!said.json.is_null(), "longshore {}: no document: {}", args.join(" "), said.all);
        said.json
    }

    /// `curl` at the gateway: status, head in lower case, and body.
    pub fn curl(&self, args: &[&str], path: &str) -> (u16, String, Vec<u8>) {
        let (body, head) = (self.folder().join("body"), self.folder().join("head"));
        let status = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "60", "--output"])
            .arg(&body)
            .arg("--dump-header")
            .arg(&head)
            .args(args)
            .arg(format!("{}{path}", self.gateway))
            .status()
            .unwrap();
        assert!(status.success(), "curl {args:?} {path}");
        let head = std::fs::read_to_string(head).unwrap().to_lowercase();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        let bytes = std::fs::read(&body).unwrap_or_default();
        let _ = std::fs::remove_file(body);
        (code, head, bytes)
    }
}
