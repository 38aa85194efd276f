//! The bucket's stream and the three requests that are made of it: read one subject, list subjects, write one message.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::stream::{InfoError, LastRawMessageError, LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, ErrorCode, context::GetStreamError};
use async_nats::{Client, HeaderMap, Request, RequestErrorKind};
use bytes::Bytes;
use futures::TryStreamExt as _;
use longshore_service::nats::buckets::{EnsureError, Ensured, Rights, Settings, ensure};
use serde::Deserialize;

use super::keys::{BUCKET, STREAM};

/// Of the bucket's configuration, in its metadata: raised when a field that this code relies on changes.
const SETTINGS_VERSION: u32 = 1;
/// How long the mark of a removed entry stays. Nobody watches the bucket, so nobody needs to see it: the mark is there
/// because removing is a write, and only a write can depend on the record. The server's shortest is 1 s.
const MARK: &str = "5s";
/// The header with the end of the interval in which an entry runs out (`usage.rs`).
const UNTIL: &str = "Longshore-Until";
/// The convention of NATS buckets for a removed entry, so that its tools show what is there.
const OPERATION: &str = "KV-Operation";

/// What an operator decides about the bucket. It counts when the bucket is made; later, `nats stream edit` changes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BucketSettings {
    /// Copies in a cluster, 1 to 5. 1 unless configured.
    pub replicas: usize,
    /// Bytes of the whole bucket, on disk. Without a limit unless configured: the quotas limit each install.
    pub max_bytes: Option<u64>,
}

impl BucketSettings {
    /// The bucket as workers make it; the admin service updates it.
    pub fn bucket(&self) -> Settings {
        let settings = Settings::bucket(BUCKET, SETTINGS_VERSION)
            .describe("Longshore: key-value storage of installs")
            .replicas(self.replicas)
            .direct();
        match self.max_bytes {
            Some(bytes) => settings.max_bytes(bytes),
            None => settings,
        }
    }
}

impl Default for BucketSettings {
    fn default() -> Self {
        Self { replicas: 1, max_bytes: None }
    }
}

/// Why the bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// Nothing is sent while disconnected: the client would keep it and a write that failed long ago would happen.
    #[error("NATS is not connected")]
    Disconnected,
    /// No whole answer in time.
    #[error("NATS has not answered within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The bucket is not there and cannot be made.
    #[error("the bucket {STREAM} cannot be made")]
    Create(#[source] EnsureError),
    /// The bucket is there and cannot be looked at.
    #[error("the bucket {STREAM} cannot be looked at")]
    Look(#[source] GetStreamError),
    /// A bucket of that name is there, made by somebody else or by another version.
    #[error("the bucket {STREAM} has another configuration: {0}")]
    Settings(String),
    /// An entry cannot be read.
    #[error("an entry cannot be read")]
    Read(#[source] LastRawMessageError),
    /// The keys cannot be listed.
    #[error("the keys cannot be listed")]
    List(#[source] InfoError),
    /// The bucket has gone, or JetStream has.
    #[error("no bucket {STREAM} answers")]
    Gone,
    /// A write got no answer.
    #[error("a write has not been answered")]
    Send(#[source] async_nats::RequestError),
    /// The server refused a write.
    #[error("NATS refused a write: {description} ({code})")]
    Refused {
        /// JetStream's own code.
        code: u64,
        /// What it says.
        description: String,
    },
    /// The answer to a write is no answer.
    #[error("the answer to a write cannot be read")]
    Answer(#[source] serde_json::Error),
    /// The record cannot be written.
    #[error("the install's record cannot be written")]
    Record(#[source] serde_json::Error),
    /// Counting anew ended early.
    #[error("counting the install's entries ended early")]
    Count(#[source] tokio::task::JoinError),
}

/// A message of the stream.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its sequence, which is the entry's revision.
    pub(super) revision: u64,
    pub(super) value: Bytes,
    /// The end of the interval in which it runs out.
    pub(super) until: Option<u64>,
    /// False for the mark of a removed entry.
    pub(super) live: bool,
    /// When it was written, by the server's clock: seconds since 1970.
    pub(super) written: i64,
}

/// A message to be written if the last one of a subject has the sequence `expected` (0: there is none).
pub(super) struct Write {
    subject: String,
    expected: u64,
    headers: HeaderMap,
    payload: Bytes,
}

impl Write {
    /// Replaces the message with the sequence `expected` of the same subject.
    pub(super) fn over(subject: String, expected: u64, payload: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
        Self { subject, expected, headers, payload }
    }

    /// Writes an entry while the last message of `record` is the one with the sequence `expected`.
    pub(super) fn under(record: &str, expected: u64, subject: String, payload: Bytes) -> Self {
        let mut write = Self::over(subject, expected, payload);
        write.headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", record);
        write
    }

    /// The server removes it after `ttl`.
    pub(super) fn mortal(mut self, ttl: Duration, until: u64) -> Self {
        self.headers.insert("Nats-TTL", format!("{}s", ttl.as_secs()));
        self.headers.insert(UNTIL, until.to_string());
        self
    }

    /// Makes it the mark of a removed entry.
    pub(super) fn mark(mut self) -> Self {
        self.headers.insert(OPERATION, "DEL");
        self.headers.insert("Nats-TTL", MARK);
        self
    }
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// Refusals that mean "somebody was faster": wrong last sequence in its two spellings.
const TRY_AGAIN: [u64; 2] = [10_071, 10_164];

/// The bucket on one connection.
pub(super) struct Bucket {
    client: Client,
    context: jetstream::Context,
    stream: Stream<()>,
    settings: BucketSettings,
    known: AtomicBool,
    making: tokio::sync::Mutex<()>,
}

impl Bucket {
    pub(super) async fn new(
        client: Client,
        settings: BucketSettings,
        timeout: Duration,
    ) -> Result<Self, BucketError> {
        let mut context = jetstream::new(client.clone());
        // The operation's own limit comes first and names itself.
        context.set_timeout(timeout.saturating_mul(2));
        // Sends nothing.
        let stream = context.get_stream_no_info(STREAM).await.map_err(BucketError::Look)?;
        let (known, making) = (AtomicBool::new(false), tokio::sync::Mutex::new(()));
        Ok(Self { client, context, stream, settings, known, making })
    }

    /// Refuses at once while disconnected, and makes the bucket if this process has not seen it yet.
    pub(super) async fn ready(&self) -> Result<(), BucketError> {
        if self.client.connection_state() != State::Connected {
            return Err(BucketError::Disconnected);
        }
        if self.known.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.making.lock().await;
        if !self.known.load(Ordering::Acquire) {
            // Once in the life of a process; the future of each operation need not have room for it.
            Box::pin(self.make()).await?;
            self.known.store(true, Ordering::Release);
        }
        Ok(())
    }

    async fn make(&self) -> Result<(), BucketError> {
        let wanted = self.settings.bucket();
        match ensure(&self.context, &wanted, Rights::CreateOnly).await {
            Ok(Ensured::Created) => return Ok(()),
            Ok(_) => {}
            Err(EnsureError::Other { field, .. }) => {
                return Err(BucketError::Settings(format!("{field} differs")));
            }
            Err(error) => return Err(BucketError::Create(error)),
        }
        let there = self.context.get_stream(STREAM).await.map_err(BucketError::Look)?;
        let there = &there.cached_info().config;
        let (replicas, max_bytes) = (there.num_replicas, there.max_bytes);
        if (replicas, max_bytes) != (wanted.config().num_replicas, wanted.config().max_bytes) {
            tracing::warn!(
                replicas,
                max_bytes,
                "the storage bucket was made with other settings than the configured ones, which do not count"
            );
        }
        Ok(())
    }

    fn gone(&self) -> BucketError {
        // The next operation looks again and makes it.
        self.known.store(false, Ordering::Release);
        BucketError::Gone
    }

    /// The last message of a subject, asked of the stream's leader: it has every write that was answered, on one server
    /// and on five.
    pub(super) async fn read(&self, subject: &str) -> Result<Option<Stored>, BucketError> {
        let message = match self.stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => message,
            Err(error) => {
                return match error.kind() {
                    LastRawMessageErrorKind::NoMessageFound => Ok(None),
                    LastRawMessageErrorKind::JetStream(cause)
                        if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        Err(self.gone())
                    }
                    _ => Err(BucketError::Read(error)),
                };
            }
        };
        let header = |name: &str| message.headers.get(name).map(|value| value.as_str());
        let live = header(OPERATION).is_none_or(|operation| operation == "PUT");
        Ok(Some(Stored {
            revision: message.sequence,
            until: header(UNTIL).and_then(|until| until.parse().ok()),
            live: live && header("Nats-Marker-Reason").is_none(),
            written: message.time.unix_timestamp(),
            value: message.payload,
        }))
    }

    /// All subjects that match, in no order.
    pub(super) async fn subjects(&self, filter: &str) -> Result<Vec<String>, BucketError> {
        let failed = |error: InfoError| {
            let cause =
                std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<jetstream::Error>());
            match cause {
                Some(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => self.gone(),
                _ => BucketError::List(error),
            }
        };
        let list = self.stream.info_with_subjects(filter).await.map_err(failed)?;
        list.map_ok(|(subject, _)| subject).try_collect().await.map_err(failed)
    }

    // async-nats 0.51 keeps an entry of some 100 bytes for every request that is never answered. Few of these are:
    // nothing is asked while disconnected, a missing bucket is answered at once, and what hangs is asked once in 5 s by
    // each call that waits for it.

    /// Writes one message. `None`: somebody was faster.
    pub(super) async fn write(&self, write: Write) -> Result<Option<u64>, BucketError> {
        let request = Request::new().headers(write.headers).payload(write.payload);
        let answer = match self.client.send_request(write.subject, request).await {
            Ok(answer) => answer,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => return Err(self.gone()),
            Err(error) => return Err(BucketError::Send(error)),
        };
        let ack: Ack = serde_json::from_slice(&answer.payload).map_err(BucketError::Answer)?;
        match ack.error {
            None => Ok(Some(ack.seq)),
            Some(error) if TRY_AGAIN.contains(&error.err_code) => {
                tracing::debug!(
                    code = error.err_code,
                    expected = write.expected,
                    "another writer was faster"
                );
                Ok(None)
            }
            Some(error) => Err(BucketError::Refused { code: error.err_code, description: error.description }),
        }
    }
}
