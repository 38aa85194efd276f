//! NATS with the users and rights of `deploy/nats.conf`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

use super::children::{Children, Spec};
use super::paths::DataDir;
use super::ports;

/// The same file that compose and all tests use: who may publish what is part of the sandbox.
const CONFIG: &str = include_str!("../../../deploy/nats.conf");
/// It is up in a fraction of a second; a large JetStream folder takes longer.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Ports that may be taken between looking and binding before this gives up.
const TRIES: usize = 5;
/// The first line of a server, with much room.
const MAX_INFO_BYTES: u64 = 64 * 1024;

/// A running server.
pub(super) struct Nats {
    /// Its port on 127.0.0.1.
    pub(super) port: u16,
    /// The password of the user `shim`.
    pub(super) shim_password: String,
    /// The password of the user `worker`.
    pub(super) worker_password: String,
    /// The password of the user `control`.
    pub(super) control_password: String,
}

/// Where and how.
pub(super) struct Wish<'a> {
    /// The program.
    pub(super) program: &'a Path,
    /// The wished port; none: any.
    pub(super) port: Option<u16>,
    /// PATH and the like.
    pub(super) env: &'a BTreeMap<String, std::ffi::OsString>,
}

/// Starts it, with new passwords, and waits until it answers.
pub(super) async fn start(children: &mut Children, data: &DataDir, wish: Wish<'_>) -> anyhow::Result<Nats> {
    let config = data.write("nats.conf", CONFIG.as_bytes())?;
    let store = store_dir(&data.part("nats")?)?;
    let [shim, worker, caller, control, admin] = [(); 5].map(|()| password());
    let mut last = None;
    for _ in 0..TRIES {
        let port = match wish.port {
            Some(port) => ports::next_free(port).await?,
            None => ports::any().await?,
        };
        // Its own name tells it from another server that took the port.
        let name = format!("longshore-dev-{}", password());
        let mut env = wish.env.clone();
        let own = [
            ("NATS_SHIM_PASSWORD", &shim),
            ("NATS_WORKER_PASSWORD", &worker),
            ("NATS_CALLER_PASSWORD", &caller),
            ("NATS_CONTROL_PASSWORD", &control),
            ("NATS_ADMIN_PASSWORD", &admin),
            ("NATS_STORE_DIR", &store),
        ];
        env.extend(own.map(|(variable, value)| (variable.to_owned(), value.into())));
        let args = ["-c".into(), config.clone().into(), "-a".into(), "127.0.0.1".into()]
            .into_iter()
            .chain(["-p".into(), port.to_string().into(), "-n".into(), name.clone().into()])
            .collect();
        let program: PathBuf = wish.program.to_owned();
        children.start(&Spec { name: "nats".into(), program, args, env, on_screen: false })?;
        match children.while_running(START_LIMIT, answers(port, &name)).await {
            Ok(()) => {
                return Ok(Nats {
                    port,
                    shim_password: shim,
                    worker_password: worker,
                    control_password: control,
                });
            }
            Err(error) if error.is_port_in_use() => last = Some(error),
            Err(error) => return Err(error.about("starting nats-server")),
        }
    }
    Err(last
        .map_or_else(|| anyhow::anyhow!("nats-server found no port"), |e| e.about("starting nats-server")))
}

/// A letter, then letters and digits: the server reads a password as it reads its configuration, where `123` is a number.
fn password() -> String {
    format!("p{:032x}", rand::random::<u128>())
}

/// The folder in the form that the configuration parser reads as one text.
fn store_dir(path: &Path) -> anyhow::Result<String> {
    let path = path.to_str().context("the data folder's path is not UTF-8, which nats-server cannot read")?;
    anyhow::ensure!(
        !path.contains(['"', '\\', '\n']),
        "the data folder {path} has a quote, backslash or newline in its path, which nats-server cannot read: name another by `--data DIR`"
    );
    Ok(format!("\"{path}\""))
}

async fn answers(port: u16, name: &str) -> anyhow::Result<()> {
    loop {
        if let Ok(info) = info(port).await {
            anyhow::ensure!(
                info.get("server_name").and_then(|v| v.as_str()) == Some(name),
                "another NATS server has taken port {port} meanwhile: start again"
            );
            anyhow::ensure!(
                info.get("jetstream").and_then(serde_json::Value::as_bool) == Some(true),
                "nats-server runs without JetStream"
            );
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a server says to whoever connects.
async fn info(port: u16) -> anyhow::Result<serde_json::Value> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_INFO_BYTES)).read_line(&mut line).await?;
    let json = line.strip_prefix("INFO ").context("no INFO")?;
    Ok(serde_json::from_str(json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_that_the_configuration_reads_as_text() {
        let password = password();
        assert!(password.starts_with('p') && password.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(password, super::password());
    }

    #[test]
    fn a_folder_that_cannot_be_quoted_is_refused() {
        assert_eq!(store_dir(Path::new("/a b/c")).unwrap(), "\"/a b/c\"");
        assert!(store_dir(Path::new("/a\"b")).is_err());
    }
}
