//! Redis, for debug events: one that is there already, or our own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::children::{Children, Spec, StartError};
use super::paths::DataDir;
use super::ports;

/// A server on loopback answers at once or is none.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// It loads nothing.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Ports that may be taken between looking and binding before this gives up.
const TRIES: usize = 5;

/// Who answers on a port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A Redis that can be used.
    Redis,
    /// A Redis that asks for a password.
    Locked,
    /// Something else.
    Other,
    /// Nobody.
    Nobody,
}

/// Asks.
pub(super) async fn probe(port: u16) -> Found {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"PING\r\n").await.ok()?;
        let mut answer = [0; 64];
        let read = stream.read(&mut answer).await.ok()?;
        let answer = answer.get(..read)?;
        Some(match answer {
            _ if answer.starts_with(b"+PONG") => Found::Redis,
            _ if answer.starts_with(b"-NOAUTH") => Found::Locked,
            _ => Found::Other,
        })
    };
    match tokio::time::timeout(PROBE_LIMIT, ask).await {
        Ok(Some(found)) => found,
        Ok(None) if TcpStream::connect(("127.0.0.1", port)).await.is_err() => Found::Nobody,
        Ok(None) | Err(_) => Found::Other,
    }
}

/// Starts our own on the first free port from `wished` on (none: any) and gives its port.
pub(super) async fn start(
    children: &mut Children,
    data: &DataDir,
    program: PathBuf,
    wished: Option<u16>,
    env: &BTreeMap<String, OsString>,
) -> anyhow::Result<u16> {
    let dir = data.part("redis")?;
    let mut last: Option<StartError> = None;
    for _ in 0..TRIES {
        let port = match wished {
            Some(port) => ports::next_free(port).await?,
            None => ports::any().await?,
        };
        // Events of a development session: nothing is kept over a restart, and streams that expire go first when memory is short.
        let port_text = port.to_string();
        let args = ["--port", &port_text, "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]
            .into_iter()
            .chain(["--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "volatile-lru"])
            .map(OsString::from)
            .chain(["--dir".into(), dir.clone().into()])
            .collect();
        let spec =
            Spec { name: "redis".into(), program: program.clone(), args, env: env.clone(), on_screen: false };
        let id = children.start(&spec)?;
        match children.while_running(START_LIMIT, answers(port, id)).await {
            Ok(()) => return Ok(port),
            Err(error) if error.is_port_in_use() => last = Some(error),
            Err(error) => return Err(error.about("starting redis-server")),
        }
    }
    Err(last
        .map_or_else(|| anyhow::anyhow!("redis-server found no port"), |e| e.about("starting redis-server")))
}

/// Waits until the process `id` answers on `port`.
async fn answers(port: u16, id: u32) -> anyhow::Result<()> {
    loop {
        if let Ok(mut connection) = connect(port).await {
            let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
            anyhow::ensure!(
                info.lines().any(|line| line.trim() == format!("process_id:{id}")),
                "another Redis has taken port {port} meanwhile: start again"
            );
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A connection whose commands may take as long as a blocking read does.
pub(super) async fn connect(port: u16) -> anyhow::Result<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).context("no Redis address")?;
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PROBE_LIMIT))
        .set_response_timeout(Some(Duration::from_secs(5)));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut ping = [0; 6];
            stream.read_exact(&mut ping).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn a_redis_is_told_from_a_locked_one_and_from_anything_else() {
        assert_eq!(probe(answering(b"+PONG\r\n").await).await, Found::Redis);
        assert_eq!(probe(answering(b"-NOAUTH Authentication required.\r\n").await).await, Found::Locked);
        assert_eq!(probe(answering(b"HTTP/1.1 400 Bad Request\r\n").await).await, Found::Other);
        assert_eq!(probe(ports::any().await.unwrap()).await, Found::Nobody);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert_eq!(probe(silent.local_addr().unwrap().port()).await, Found::Other);
    }
}
