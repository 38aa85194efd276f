//! The debug events of a call, read from the stream of everything.

use std::time::Duration;

use anyhow::Context as _;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamReadOptions, StreamReadReply};

use super::fleet::STREAM_PREFIX;
use longshore_proto::event::{DebugEvent, MORE, parts};

/// Events are published within milliseconds of the run.
const LIMIT: Duration = Duration::from_secs(10);
/// One blocking read. Shorter than the client's own limit for an answer.
const BLOCK_MS: usize = 1_000;

/// A place in the stream.
pub(super) struct Events {
    connection: MultiplexedConnection,
    last: String,
}

impl Events {
    /// From the present end of the stream on: a Redis that was there already may hold older events.
    pub(super) async fn from_now(port: u16) -> anyhow::Result<Self> {
        let mut connection = super::redis::connect(port).await.context("Redis does not answer")?;
        let newest: redis::streams::StreamRangeReply = redis::cmd("XREVRANGE")
            .arg(stream())
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .query_async(&mut connection)
            .await?;
        let last = newest.ids.into_iter().next().map_or_else(|| "0".to_owned(), |entry| entry.id);
        Ok(Self { connection, last })
    }

    /// Waits until the call's run has been published with its response and gives the number of its events so far.
    pub(super) async fn of_call(&mut self, request_id: &str) -> anyhow::Result<usize> {
        let reading = async {
            let mut count = 0;
            loop {
                let options = StreamReadOptions::default().block(BLOCK_MS).count(500);
                let read: Option<StreamReadReply> =
                    self.connection.xread_options(&[stream()], &[&self.last], &options).await?;
                for entry in read.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
                    let field = |name: &str| entry.get::<String>(name);
                    if field("request").as_deref() == Some(request_id) {
                        let (kind, message) = (field("kind").unwrap_or_default(), field("message"));
                        let message = message.unwrap_or_default();
                        let parts = parts(&kind, &message, field(MORE).as_deref());
                        count += parts.len();
                        if parts.iter().any(|part| part.kind == "response") {
                            return Ok(count);
                        }
                    }
                    self.last = entry.id;
                }
            }
        };
        let found = tokio::time::timeout(LIMIT, reading).await;
        found.with_context(|| {
            format!(
                "no `response` event of {request_id} in the stream {} after {} s",
                stream(),
                LIMIT.as_secs()
            )
        })?
    }
}

/// The stream of everything.
pub(super) fn stream() -> &'static str {
    DebugEvent::firehose_key(STREAM_PREFIX)
}
