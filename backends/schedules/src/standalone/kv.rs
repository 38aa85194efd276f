//! The buckets: made by gateways, opened when first needed, every operation bounded in time and never queued for a connection that is
//! away, where it would be carried out at some later moment.

use std::future::Future;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::kv::{Store, UpdateErrorKind, Watch};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{self, Context};
use async_nats::{HeaderMap, header};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use longshore_service::nats::Watcher;
use longshore_service::nats::buckets::{Rights, Settings, ensure};
use tokio::sync::Mutex;

use super::record::{Claim, LastStatus, Record, RecordError, Seen};
use crate::{BoxError, MAX_SCHEDULES};

/// The bucket of the schedules.
const SCHEDULES: &str = "longshore-schedules";
/// The bucket of the leases.
pub(crate) const LEASES: &str = "longshore-leases";

/// The longest record: context, config and secrets are at most 256 KiB, the payload 100,000 characters of up to 4 bytes; JSON
/// escapes take some.
const MAX_RECORD_BYTES: u32 = 1024 * 1024 - 64 * 1024;

/// How long the mark of a deletion stays for those who watch. For ever would mean that a guest fills the bucket by making and
/// deleting schedules, an hour that each new schedule reads past thousands of marks. Who misses one finds the schedule gone
/// when it claims a run.
const DELETION_MARK: Duration = Duration::from_secs(60);

/// One operation. A server answers in milliseconds; a cluster that elects a leader takes a second or two.
const OPERATION: Duration = Duration::from_secs(5);

/// How often a change is tried again when somebody else has changed the record in between.
const ATTEMPTS: usize = 8;

/// What went wrong with a bucket.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// No connection; nothing was sent.
    #[error("not connected to NATS")]
    Disconnected,
    /// No answer: whatever was asked may have been done.
    #[error("no answer from JetStream within {OPERATION:?}")]
    Timeout,
    /// The bucket cannot be opened or made.
    #[error(
        "the bucket {bucket} cannot be opened (does the server have JetStream, and the user the rights?)"
    )]
    Open {
        /// Its name.
        bucket: &'static str,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// An operation failed.
    #[error("JetStream failed")]
    Failed(#[source] BoxError),
    /// A stored record that cannot be read.
    #[error("the schedule {key} cannot be read")]
    Record {
        /// Where it is.
        key: String,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// Too many at once.
    #[error("the record changes too often")]
    Contended,
}

fn failed(error: impl Into<BoxError>) -> KvError {
    KvError::Failed(error.into())
}

/// The header that tells a removal from a value.
const KV_OPERATION: &str = "KV-Operation";

/// Raised when a setting of the buckets changes on which this code relies.
const SETTINGS_VERSION: u32 = 1;

/// The two buckets as they are made: gateways make them, the admin service updates them.
pub fn bucket_settings(replicas: usize) -> [Settings; 2] {
    [SCHEDULES, LEASES].map(|bucket| settings_of(bucket).replicas(replicas))
}

fn settings_of(bucket: &str) -> Settings {
    Settings::bucket(bucket, SETTINGS_VERSION).max_message_bytes(MAX_RECORD_BYTES)
}

/// One bucket.
pub(crate) struct Bucket {
    name: &'static str,
    context: Context,
    link: Watcher,
    makes: bool,
    store: Mutex<Option<Store>>,
}

/// The outcome of a write that expects a revision.
pub(crate) enum Written {
    /// Done; the new revision.
    Done(u64),
    /// Somebody else was first.
    Conflict,
}

impl Bucket {
    pub(crate) fn new(name: &'static str, client: async_nats::Client, link: Watcher, makes: bool) -> Self {
        Self { name, context: jetstream::new(client), link, makes, store: Mutex::new(None) }
    }

    /// Runs one operation on the opened bucket.
    async fn with<T, F>(&self, operation: impl FnOnce(Store) -> F) -> Result<T, KvError>
    where
        F: Future<Output = Result<T, KvError>>,
    {
        if !self.link.is_connected() {
            return Err(KvError::Disconnected);
        }
        let work = async { operation(self.open().await?).await };
        tokio::time::timeout(OPERATION, work).await.unwrap_or(Err(KvError::Timeout))
    }

    async fn open(&self) -> Result<Store, KvError> {
        let mut opened = self.store.lock().await;
        if let Some(store) = &*opened {
            return Ok(store.clone());
        }
        let name = self.name;
        let refused = |error: BoxError| KvError::Open { bucket: name, source: error };
        if self.makes {
            let settings = settings_of(name);
            let made = Box::pin(ensure(&self.context, &settings, Rights::CreateOnly)).await;
            made.map_err(|error| refused(error.into()))?;
        }
        let store = self.context.get_key_value(name).await.map_err(|error| refused(error.into()))?;
        Ok(opened.insert(store).clone())
    }

    /// Forgets the opened bucket, which somebody may have removed.
    async fn reopen(&self) {
        *self.store.lock().await = None;
    }

    /// The value, `None` where only the mark of a deletion is left, and the revision. Asked of the stream's leader, and not by a
    /// direct get, whose answer the server sends to any subject that the asker names, `exec.>` included: no worker has that right.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<(Option<Bytes>, u64)>, KvError> {
        let read = |store: Store| async move {
            let subject = format!("{}{key}", store.prefix);
            match store.stream.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => Ok(Some(message)),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(failed(error)),
            }
        };
        let message = self.with(read).await;
        if message.is_err() {
            self.reopen().await;
        }
        let value = |message: StreamMessage| {
            let marks = [KV_OPERATION, header::NATS_MARKER_REASON.as_ref()];
            let removed =
                marks.iter().any(|mark| message.headers.get(*mark).is_some_and(|op| op.as_str() != "PUT"));
            ((!removed).then_some(message.payload), message.sequence)
        };
        Ok(message?.map(value))
    }

    /// Writes if the key is at this revision; 0 for a key that has never been.
    pub(crate) async fn put(&self, key: &str, value: Vec<u8>, revision: u64) -> Result<Written, KvError> {
        let write = |store: Store| async move {
            match store.update(key, value.into(), revision).await {
                Ok(revision) => Ok(Written::Done(revision)),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(Written::Conflict),
                Err(error) => Err(failed(error)),
            }
        };
        self.with(write).await
    }

    /// Removes a key that is at this revision, leaving a mark that goes away by itself.
    async fn remove(&self, key: &str, revision: u64) -> Result<Written, KvError> {
        let mut headers = HeaderMap::new();
        headers.insert(KV_OPERATION, "PURGE");
        headers.insert(header::NATS_ROLLUP, "sub");
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
        headers.insert(header::NATS_MESSAGE_TTL, DELETION_MARK.as_secs().to_string());
        // By hand: the client's own purge says of a wrong revision only that something failed.
        let purge = |store: Store| async move {
            let sent =
                self.context.publish_with_headers(format!("{}{key}", store.prefix), headers, "".into());
            match sent.await.map_err(failed)?.await {
                Ok(ack) => Ok(Written::Done(ack.sequence)),
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(Written::Conflict),
                Err(error) => Err(failed(error)),
            }
        };
        self.with(purge).await
    }

    /// Keys that match, those removed lately included. No consumer is made: nothing of a reader stays on the server, and a worker needs
    /// no right to make one (a consumer delivers wherever it is told to).
    async fn keys(&self, filter: &str) -> Result<Vec<String>, KvError> {
        let list = |store: Store| async move {
            let prefix = store.prefix.clone();
            let mut subjects =
                store.stream.info_with_subjects(format!("{prefix}{filter}")).await.map_err(failed)?;
            let mut keys = Vec::new();
            while let Some((subject, _)) = subjects.try_next().await.map_err(failed)? {
                keys.extend(subject.strip_prefix(&prefix).map(str::to_owned));
            }
            Ok(keys)
        };
        let keys = self.with(list).await;
        if keys.is_err() {
            self.reopen().await;
        }
        keys
    }

    /// All that is there, and then what changes.
    async fn watch(&self) -> Result<Watch, KvError> {
        let watch =
            self.with(|store| async move { store.watch_with_history(">").await.map_err(failed) }).await;
        if watch.is_err() {
            self.reopen().await;
        }
        watch
    }
}

/// The stored schedules.
pub struct ScheduleStore(Bucket);

/// The outcome of an attempt to take a due time.
pub(crate) enum Claimed {
    /// Taken, by this attempt or by one whose answer got lost.
    Mine(Box<Record>),
    /// Not due, or somebody else's: how it is now.
    Changed(Seen),
    /// Deleted.
    Gone,
}

/// The outcome of a write that ends a claim.
pub(crate) enum Settled {
    /// How it is now.
    Now(Seen),
    /// Deleted meanwhile.
    Gone,
}

/// How a claim ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its call was never sent: the time is due again.
    Release,
    /// It ran, or may have run.
    Finish(LastStatus, Option<String>),
}

impl ScheduleStore {
    /// A store on this connection, whose client must make its inboxes where its user may listen. Nothing is opened yet.
    pub fn new(client: async_nats::Client, link: Watcher) -> Self {
        Self(Bucket::new(SCHEDULES, client, link, false))
    }

    /// As [`Self::new`], and the bucket is made where there is none: by gateways. A worker has no right to, since whoever makes a stream
    /// says where the server copies what arrives in it.
    pub fn making(client: async_nats::Client, link: Watcher) -> Self {
        Self(Bucket::new(SCHEDULES, client, link, true))
    }

    /// Opens the bucket, or makes it.
    pub(crate) async fn prepare(&self) -> Result<(), KvError> {
        self.0.with(|_| async { Ok(()) }).await
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Option<(Record, u64)>, KvError> {
        let Some((Some(bytes), revision)) = self.0.get(key).await? else { return Ok(None) };
        let record =
            Record::decode(&bytes).map_err(|source| KvError::Record { key: key.to_owned(), source })?;
        Ok(Some((record, revision)))
    }

    /// All records that match, oldest revision first. One that cannot be read is logged and left out.
    pub(crate) async fn list(&self, filter: &str) -> Result<Vec<(String, Record, u64)>, KvError> {
        let keys = self.0.keys(filter).await?;
        let mut found = Vec::new();
        // Far more keys than schedules means marks of deletions, which cost a question each.
        let mut reads = futures::stream::iter(keys.into_iter().map(|key| async move {
            let read = self.read(&key).await;
            (key, read)
        }))
        .buffer_unordered(MAX_SCHEDULES);
        while let Some((key, read)) = reads.next().await {
            match read {
                Ok(Some((record, revision))) => found.push((key, record, revision)),
                Ok(None) => {}
                Err(KvError::Record { key, source }) => {
                    tracing::warn!(%key, error = %source, "a stored schedule cannot be read; it is left alone");
                }
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|(_, record, revision)| (record.created_ms, *revision));
        Ok(found)
    }

    /// Adds a record under a key that has never been.
    pub(crate) async fn add(&self, key: &str, record: &Record) -> Result<Written, KvError> {
        self.0.put(key, record.encode().map_err(failed)?, 0).await
    }

    pub(crate) async fn replace(
        &self,
        key: &str,
        record: &Record,
        revision: u64,
    ) -> Result<Written, KvError> {
        self.0.put(key, record.encode().map_err(failed)?, revision).await
    }

    /// Removes a record; whether there was one.
    pub(crate) async fn remove(&self, key: &str) -> Result<bool, KvError> {
        for _ in 0..ATTEMPTS {
            // Not decoded: a record that cannot be read can still be deleted.
            let Some((Some(_), revision)) = self.0.get(key).await? else { return Ok(false) };
            if let Written::Done(_) = self.0.remove(key, revision).await? {
                return Ok(true);
            }
        }
        Err(KvError::Contended)
    }

    /// Takes a due time. May be repeated after an error: it then finds its own claim.
    pub(crate) async fn claim(&self, key: &str, claim: &Claim) -> Result<Claimed, KvError> {
        for _ in 0..ATTEMPTS {
            let Some((record, revision)) = self.read(key).await? else { return Ok(Claimed::Gone) };
            if record.holds(claim) {
                return Ok(Claimed::Mine(Box::new(record)));
            }
            let Some(taken) = record.claim(claim) else { return Ok(Claimed::Changed(record.seen(revision))) };
            if let Written::Done(_) = self.replace(key, &taken, revision).await? {
                return Ok(Claimed::Mine(Box::new(taken)));
            }
        }
        Err(KvError::Contended)
    }

    /// Ends a claim, if it is still in force. May be repeated.
    pub(crate) async fn settle(&self, key: &str, claim: &Claim, ending: &Ending) -> Result<Settled, KvError> {
        for _ in 0..ATTEMPTS {
            let Some((record, revision)) = self.read(key).await? else { return Ok(Settled::Gone) };
            let settled = match ending {
                Ending::Release => record.release(claim),
                Ending::Finish(status, error) => record.finish(claim, *status, error.as_deref()),
            };
            let Some(settled) = settled else { return Ok(Settled::Now(record.seen(revision))) };
            if let Written::Done(revision) = self.replace(key, &settled, revision).await? {
                return Ok(Settled::Now(settled.seen(revision)));
            }
        }
        Err(KvError::Contended)
    }

    pub(crate) async fn watch(&self) -> Result<Watch, KvError> {
        self.0.watch().await
    }
}
