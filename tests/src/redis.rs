//! A redis-server and the debug events in it.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use longshore_proto::event::{MORE, Part, iso8601, parts};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands as _, AsyncConnectionConfig};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::Process;
use crate::{paths, wait};

/// One event of a stream: the id of its entry under `id`, and its fields.
pub type Event = BTreeMap<String, String>;

/// A server and its port.
pub struct Redis {
    folder: TempDir,
    process: Option<Process>,
    port: u16,
}

impl Redis {
    /// Starts one on a free port and waits until it answers.
    pub async fn start() -> Self {
        let mut redis = Self { folder: tempfile::tempdir().unwrap(), process: None, port: 0 };
        for _ in 0..10 {
            redis.port = paths::free_port();
            if redis.try_start().await {
                return redis;
            }
        }
        panic!("redis-server found no port");
    }

    async fn try_start(&mut self) -> bool {
        let mut command = Command::new(paths::server("redis-server", "REDIS_SERVER_BIN"));
        command
            .env_clear()
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(["--daemonize", "no", "--dir"])
            .arg(self.folder.path());
        let process = Process::start("redis-server", &mut command);
        let lines = process.lines().clone();
        self.process = Some(process);
        lines
            .wait("redis-server, starting", wait::LIMIT, |line| {
                if line.contains("Ready to accept connections") {
                    Some(true)
                } else if line.contains("Failed listening") || line.contains("Could not create server") {
                    Some(false)
                } else {
                    None
                }
            })
            .await
    }

    /// Kills the server, as a failing machine does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn stop(&mut self) {
        self.process.as_mut().unwrap().stop();
    }

    /// SIGCONT.
    pub fn go_on(&mut self) {
        self.process.as_mut().unwrap().signal(Signal::CONT);
    }

    /// Starts it again, empty, on the same port.
    pub async fn start_again(&mut self) {
        for _ in 0..50 {
            if self.try_start().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("redis-server did not get its port {} back", self.port);
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn connection(&self) -> MultiplexedConnection {
        // Without a word every command, a blocking read too, ends after 500 ms.
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
    }

    /// Reads the stream `key` from its beginning until `enough` is content with all its events; gives them.
    pub async fn wait(&self, key: &str, what: &str, mut enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
        let mut connection = self.connection().await;
        let options = StreamReadOptions::default().block(500).count(10_000);
        let (began, mut last, mut events) = (Instant::now(), "0".to_owned(), Vec::new());
        loop {
            let reply: Option<StreamReadReply> =
                connection.xread_options(&[key], &[&last], &options).await.unwrap();
            for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
                last.clone_from(&entry.id);
                let text = |value| redis::from_redis_value::<String>(value).unwrap();
                let mut event: Event =
                    entry.map.into_iter().map(|(name, value)| (name, text(value))).collect();
                event.insert("id".to_owned(), entry.id);
                events.extend(apart(event));
            }
            if enough(&events) {
                return events;
            }
            assert!(
                began.elapsed() < wait::LIMIT,
                "{what}: not in {key} within {:?}: {events:#?}",
                wait::LIMIT
            );
        }
    }

    /// The number of entries in the stream `key` now.
    pub async fn len(&self, key: &str) -> usize {
        self.connection().await.xlen(key).await.unwrap()
    }

    /// The keys there are.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.connection().await.keys("*").await.unwrap();
        keys.sort();
        keys
    }

    /// A command whose answer nobody wants.
    pub async fn command(&self, words: &[&str]) {
        let (name, args) = words.split_first().unwrap();
        let answer =
            redis::cmd(name).arg(args).query_async::<redis::Value>(&mut self.connection().await).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    /// The bytes of everything that is kept, whatever its type, by key: what somebody finds who has the whole server.
    pub async fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let mut connection = self.connection().await;
        let mut contents = BTreeMap::new();
        for key in self.keys().await {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.unwrap();
            let read = match kind.as_str() {
                "stream" => redis::cmd("XRANGE").arg(&key).arg("-").arg("+").to_owned(),
                "hash" => redis::cmd("HGETALL").arg(&key).to_owned(),
                "zset" => redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).arg("WITHSCORES").to_owned(),
                "set" => redis::cmd("SMEMBERS").arg(&key).to_owned(),
                "list" => redis::cmd("LRANGE").arg(&key).arg(0).arg(-1).to_owned(),
                _ => redis::cmd("GET").arg(&key).to_owned(),
            };
            let mut bytes = Vec::new();
            flatten(&read.query_async(&mut connection).await.unwrap(), &mut bytes);
            contents.insert(key, bytes);
        }
        contents
    }

    /// How many seconds a key has left; negative without an end.
    pub async fn ttl(&self, key: &str) -> i64 {
        redis::cmd("TTL").arg(key).query_async(&mut self.connection().await).await.unwrap()
    }
}

/// The events that share an entry, as if each had one.
fn apart(entry: Event) -> Vec<Event> {
    let (kind, message) = (field(&entry, "kind"), field(&entry, "message"));
    let parts = parts(kind, message, entry.get(MORE).map(String::as_str));
    let event = |part: Part<'_>| {
        let mut event = entry.clone();
        event.remove(MORE);
        if entry.contains_key("message") {
            event.insert("message".to_owned(), part.message.into_owned());
        }
        if let Some(own) = part.own {
            event.insert("kind".to_owned(), part.kind.into_owned());
            event.extend(own.at_ms.map(|at_ms| ("ts".to_owned(), iso8601(at_ms))));
            event.extend(own.level.map(|level| ("level".to_owned(), level)));
            event.remove("data");
            event.extend(own.data.map(|data| ("data".to_owned(), data.to_string())));
        }
        event
    };
    parts.into_iter().map(event).collect()
}

/// Every string in a reply, a line each.
fn flatten(value: &redis::Value, bytes: &mut Vec<u8>) {
    match value {
        redis::Value::BulkString(text) => {
            bytes.extend_from_slice(text);
            bytes.push(b'\n');
        }
        redis::Value::SimpleString(text) => bytes.extend(format!("{text}\n").into_bytes()),
        redis::Value::Array(values) | redis::Value::Set(values) => {
            values.iter().for_each(|value| flatten(value, bytes));
        }
        redis::Value::Map(pairs) => pairs.iter().for_each(|(name, value)| {
            flatten(name, bytes);
            flatten(value, bytes);
        }),
        _ => {}
    }
}

/// A field of an event; empty if it has none.
pub fn field<'e>(event: &'e Event, name: &str) -> &'e str {
    event.get(name).map_or("", String::as_str)
}

/// The messages of all events of a kind.
pub fn messages<'e>(events: &'e [Event], kind: &str) -> Vec<&'e str> {
    events.iter().filter(|event| field(event, "kind") == kind).map(|event| field(event, "message")).collect()
}
