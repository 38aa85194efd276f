//! One connection to Redis and the batches on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_proto::event::{DebugEvent, MORE};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::time::Instant;

use super::entry::Entry;

/// Streams go a week after their last event.
const EXPIRE_SECONDS: u64 = 7 * 24 * 3_600;

/// How often a stream's expiry is set anew: a minute of a week.
const EXPIRE_AGAIN: Duration = Duration::from_secs(60);

/// Streams whose expiry is remembered; with more the memory starts anew, which costs a few commands.
const MAX_REMEMBERED: usize = 4_096;

/// Arguments of a command: room that is taken at once instead of bit by bit.
const FIELDS: usize = 40;

/// Bytes of a command besides messages and data.
pub(super) const FIELDS_BYTES: usize = 640;

/// How streams are written.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub prefix: Arc<str>,
    pub maxlen: usize,
    /// Name and length of the stream of everything.
    pub firehose: Option<(Arc<str>, usize)>,
}

/// A connection of its own; nobody else's commands wait behind these.
pub(super) struct Sink {
    connection: MultiplexedConnection,
    layout: Layout,
    refreshed: HashMap<String, Instant>,
}

impl Sink {
    /// Connects and asks for a sign of life: a server that still loads its data accepts connections.
    pub(super) async fn connect(client: &Client, layout: Layout, timeout: Duration) -> RedisResult<Self> {
        // Without these every command fails after 500 ms (redis-rs' default), a large batch on a busy server too.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut sink = Self { connection, layout, refreshed: HashMap::new() };
        sink.ping().await?;
        Ok(sink)
    }

    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        redis::cmd("PING").query_async(&mut self.connection).await
    }

    /// Writes entries in order. For each: whether its own stream took it. An error means that nobody knows.
    pub(super) async fn write(&mut self, entries: &[Entry]) -> RedisResult<Vec<Result<(), RedisError>>> {
        let mut pipeline = Pipeline::with_capacity(2 * entries.len() + 8);
        pipeline.ignore_errors();
        // Which command is which entry's own.
        let mut own = Vec::with_capacity(entries.len());
        let now = Instant::now();
        for entry in entries {
            let key = DebugEvent::key(&self.layout.prefix, entry.event.origin.as_deref());
            own.push(pipeline.len());
            add(&mut pipeline, &key, self.layout.maxlen, entry);
            self.refresh(&mut pipeline, key, now);
            if let Some((key, maxlen)) = &self.layout.firehose {
                add(&mut pipeline, key, *maxlen, entry);
            }
        }
        if let Some((key, _)) = &self.layout.firehose {
            let key = key.to_string();
            self.refresh(&mut pipeline, key, now);
        }
        let answers: Vec<RedisResult<Value>> = pipeline.query_async(&mut self.connection).await?;
        let mut own = own.into_iter().peekable();
        let written = answers.into_iter().enumerate().filter_map(|(at, answer)| {
            own.next_if_eq(&at)?;
            Some(answer.map(drop))
        });
        Ok(written.collect())
    }

    fn refresh(&mut self, pipeline: &mut Pipeline, key: String, now: Instant) {
        if self.refreshed.get(&key).is_some_and(|at| now.duration_since(*at) < EXPIRE_AGAIN) {
            return;
        }
        if self.refreshed.len() >= MAX_REMEMBERED {
            self.refreshed.clear();
        }
        pipeline.cmd("EXPIRE").arg(&key).arg(EXPIRE_SECONDS);
        self.refreshed.insert(key, now);
    }
}

fn add(pipeline: &mut Pipeline, key: &str, maxlen: usize, entry: &Entry) {
    let mut command = Cmd::with_capacity(FIELDS, key.len() + FIELDS_BYTES + entry.bytes());
    command.arg("XADD").arg(key).arg("MAXLEN").arg("~").arg(maxlen).arg("*");
    entry.event.each_field(|name, value| {
        command.arg(name).arg(value);
    });
    if !entry.more.is_empty() {
        command.arg(MORE).arg(&entry.more);
    }
    pipeline.add_command(command);
}
