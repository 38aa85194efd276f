//! A nats-server with the users and rights of `deploy/nats.conf`.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;

use crate::process::Process;
use crate::{paths, wait};

/// The users of `deploy/nats.conf`.
const USERS: [&str; 5] = ["shim", "worker", "caller", "control", "admin"];

/// A server, its port and the passwords of its users.
pub struct Nats {
    folder: TempDir,
    process: Option<Process>,
    port: u16,
    passwords: [String; USERS.len()],
}

/// A letter, then letters and digits: the server reads a password as it reads its configuration, where `123` is a number.
pub fn password() -> String {
    format!("p{:032x}", rand::random::<u128>())
}

impl Nats {
    /// Starts one on a free port and waits until it answers.
    pub async fn start() -> Self {
        let passwords = USERS.map(|_| password());
        let mut nats = Self { folder: tempfile::tempdir().unwrap(), process: None, port: 0, passwords };
        let mut process = nats.spawn("-1");
        let ports = nats.folder.path().join(format!("nats-server_{}.ports", process.id()));
        nats.port = wait::until("the port of nats-server", wait::LIMIT, async || {
            process.check_runs();
            let text = std::fs::read_to_string(&ports).map_err(|error| error.to_string())?;
            let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let url = json["nats"][0].as_str().ok_or("no client port")?;
            url.rsplit(':')
                .next()
                .and_then(|port| port.parse().ok())
                .ok_or_else(|| format!("no port in {url}"))
        })
        .await;
        nats.process = Some(process);
        nats.answers().await;
        nats
    }

    /// A port on which nothing listens yet: [`Self::start_again`] starts the server on it.
    pub fn not_yet() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            process: None,
            port: paths::free_port(),
            passwords: USERS.map(|_| password()),
        }
    }

    fn spawn(&self, port: &str) -> Process {
        let folder = self.folder.path().to_str().unwrap();
        let mut command = Command::new(paths::server("nats-server", "NATS_SERVER_BIN"));
        command
            .env_clear()
            .args(["-c".as_ref(), paths::repository().join("deploy/nats.conf").as_os_str()])
            .args(["-p", port, "--ports_file_dir", folder])
            // Quotes inside the value: without them a folder with a blank in its path stops the server.
            .env("NATS_STORE_DIR", format!("\"{folder}/jetstream\""));
        for (user, password) in USERS.iter().zip(&self.passwords) {
            command.env(format!("NATS_{}_PASSWORD", user.to_uppercase()), password);
        }
        Process::start("nats-server", &mut command)
    }

    async fn answers(&mut self) {
        let port = self.port;
        let process = self.process.as_mut().unwrap();
        wait::until("an answer of nats-server", wait::LIMIT, async || {
            process.check_runs();
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).await?;
            if line.starts_with("INFO ") { Ok(()) } else { Err(std::io::Error::other(line)) }
        })
        .await;
    }

    /// Kills the server, as a failing machine does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it in its tracks, as a machine that swaps or a disk that hangs does: connections stay, nothing answers.
    pub fn pause(&mut self) {
        self.process.as_mut().unwrap().stop();
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.process.as_mut().unwrap().signal(rustix::process::Signal::CONT);
    }

    /// Starts it again on the same port and waits until it answers.
    pub async fn start_again(&mut self) {
        // A connection of anybody on this machine may hold the port for a moment.
        for _ in 0..50 {
            self.process = Some(self.spawn(&self.port.to_string()));
            let process = self.process.as_mut().unwrap();
            let lines = process.lines().clone();
            let up = lines
                .wait("nats-server, starting again", wait::LIMIT, |line| {
                    if line.contains("Server is ready") {
                        Some(true)
                    } else if line.contains("address already in use") || line.contains("Error listening") {
                        Some(false)
                    } else {
                        None
                    }
                })
                .await;
            if up {
                return self.answers().await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nats-server did not get its port {} back", self.port);
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The password of a user of `deploy/nats.conf`.
    pub fn password(&self, user: &str) -> &str {
        &self.passwords[USERS.iter().position(|known| *known == user).unwrap()]
    }

    /// A connection as `user`, whose inbox is where that user may listen. Errors are collected: refused rights arrive as such.
    pub async fn client(&self, user: &str) -> Client {
        let errors = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let seen = errors.clone();
        let client = async_nats::ConnectOptions::with_user_and_password(
            user.to_owned(),
            self.password(user).to_owned(),
        )
        .custom_inbox_prefix(format!("_R.{user}"))
        .event_callback(move |event| {
            seen.lock().push(event.to_string());
            async {}
        })
        .connect(self.url())
        .await
        .unwrap();
        Client { client, events: errors }
    }
}

/// A connection and what happened to it.
pub struct Client {
    /// The connection.
    pub client: async_nats::Client,
    events: std::sync::Arc<parking_lot::Mutex<Vec<String>>>,
}

impl Client {
    /// Waits for an event (a refused right, for example) whose text contains `text`, whatever its case.
    pub async fn event(&self, text: &str) -> String {
        wait::until(text, wait::LIMIT, async || {
            let events = self.events.lock();
            let found = events.iter().find(|event| event.to_lowercase().contains(&text.to_lowercase()));
            found.cloned().ok_or_else(|| format!("{events:?}"))
        })
        .await
    }
}
