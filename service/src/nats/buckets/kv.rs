//! Reading and writing single keys, with revisions. Every operation is bounded in time and none is queued for a connection that is away,
//! where it would be carried out at some later moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, HeaderMap, header};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::super::watcher::Watcher;
use super::{EnsureError, Ensured, KV_OPERATION, Rights, Settings, ensure, is_removal};

/// One operation. A server answers in milliseconds; a cluster that elects a leader takes a second or two.
const OPERATION: Duration = Duration::from_secs(5);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// No connection; nothing was sent.
    #[error("not connected to NATS")]
    Disconnected,
    /// No answer: whatever was asked may have been done.
    #[error("no answer from JetStream within {OPERATION:?}")]
    Timeout,
    /// The bucket is not there, or not as it must be.
    #[error(transparent)]
    Bucket(#[from] EnsureError),
    /// An operation failed.
    #[error("JetStream failed")]
    Failed(#[source] BoxError),
}

fn failed(error: impl Into<BoxError>) -> KvError {
    KvError::Failed(error.into())
}

/// What is at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value; `None` where only the mark of a removal is left.
    pub value: Option<Bytes>,
    /// The revision, which a write over it has to name.
    pub revision: u64,
}

/// The outcome of a write that expects a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Done; the new revision.
    Done(u64),
    /// Somebody else was first.
    Conflict,
}

/// One bucket.
pub struct KeyValue {
    context: Context,
    link: Watcher,
    settings: Settings,
    rights: Rights,
    prefix: String,
    /// Whether this process has seen the bucket.
    ensured: AtomicBool,
    ensuring: Mutex<()>,
}

impl KeyValue {
    /// A bucket on this connection, whose client must make its inboxes where its user may listen. Nothing is sent yet.
    pub fn new(client: Client, link: Watcher, settings: Settings, rights: Rights) -> Self {
        let bucket = settings.name().trim_start_matches("KV_").to_owned();
        Self {
            context: jetstream::new(client),
            link,
            settings,
            rights,
            prefix: format!("$KV.{bucket}."),
            ensured: AtomicBool::new(false),
            ensuring: Mutex::new(()),
        }
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, KvError>>) -> Result<T, KvError> {
        if !self.link.is_connected() {
            return Err(KvError::Disconnected);
        }
        tokio::time::timeout(OPERATION, work).await.unwrap_or(Err(KvError::Timeout))
    }

    /// Sees to it that the bucket is there, as far as this process may. Writes do it by themselves, once.
    ///
    /// # Errors
    /// As [`ensure`].
    pub async fn prepare(&self) -> Result<Ensured, KvError> {
        let ensured =
            self.bounded(async { Ok(ensure(&self.context, &self.settings, self.rights).await?) }).await?;
        self.ensured.store(true, Ordering::Release);
        Ok(ensured)
    }

    async fn ready(&self) -> Result<(), KvError> {
        if self.ensured.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.ensuring.lock().await;
        if !self.ensured.load(Ordering::Acquire) {
            // Once in the life of a process; the future of each write need not have room for it.
            Box::pin(ensure(&self.context, &self.settings, self.rights)).await?;
            self.ensured.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Somebody has removed the bucket: the next write looks again.
    fn gone(&self) -> KvError {
        self.ensured.store(false, Ordering::Release);
        KvError::Bucket(EnsureError::Absent(self.settings.name().to_owned()))
    }

    async fn stream(&self) -> Result<Stream<()>, KvError> {
        // Sends nothing.
        self.context.get_stream_no_info(self.settings.name()).await.map_err(failed)
    }

    /// What is at a key; `None` for one that has never been. Asked of the stream's leader: it has every write that was answered.
    ///
    /// # Errors
    /// No connection, no answer, no bucket.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, KvError> {
        let read = async {
            let subject = format!("{}{key}", self.prefix);
            match self.stream().await?.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => {
                    let value = (!is_removal(&message.headers)).then_some(message.payload);
                    Ok(Some(Entry { value, revision: message.sequence }))
                }
                Err(error) => match error.kind() {
                    LastRawMessageErrorKind::NoMessageFound => Ok(None),
                    LastRawMessageErrorKind::JetStream(cause)
                        if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        Err(self.gone())
                    }
                    _ => Err(failed(error)),
                },
            }
        };
        self.bounded(read).await
    }

    /// Writes if the key is at this revision; 0 for a key that has never been.
    ///
    /// # Errors
    /// No connection, no answer, no bucket, or refused by the server: too large, bucket full.
    pub async fn put(&self, key: &str, value: Bytes, revision: u64) -> Result<Written, KvError> {
        self.write(key, value, revision, HeaderMap::new()).await
    }

    /// Removes a key that is at this revision, leaving a mark for `mark` (at least a second): those who watch see it.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn remove(&self, key: &str, revision: u64, mark: Duration) -> Result<Written, KvError> {
        let mut headers = HeaderMap::new();
        headers.insert(KV_OPERATION, "PURGE");
        headers.insert(header::NATS_ROLLUP, "sub");
        headers.insert(header::NATS_MESSAGE_TTL, mark.as_secs().max(1).to_string());
        self.write(key, Bytes::new(), revision, headers).await
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        revision: u64,
        mut headers: HeaderMap,
    ) -> Result<Written, KvError> {
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
        let write = async {
            self.ready().await?;
            let sent = self.context.publish_with_headers(format!("{}{key}", self.prefix), headers, value);
            match sent.await.map_err(failed)?.await {
                Ok(ack) => Ok(Written::Done(ack.sequence)),
                Err(error) if is_conflict(&error) => Ok(Written::Conflict),
                Err(error) if error.kind() == PublishErrorKind::StreamNotFound => Err(self.gone()),
                Err(error) => Err(failed(error)),
            }
        };
        self.bounded(write).await
    }
}

/// The server has two spellings for a wrong revision; the client knows one of them by name.
fn is_conflict(error: &PublishError) -> bool {
    let code = std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<jetstream::Error>())
        .map(jetstream::Error::error_code);
    error.kind() == PublishErrorKind::WrongLastSequence
        || matches!(
            code,
            Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
        )
}
