//! Storage on NATS JetStream, for a fleet without a platform.

mod bucket;
pub(crate) mod keys;
mod usage;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::Client;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{Mutex, OwnedMutexGuard};

use self::bucket::{Bucket, Stored, Write};
pub use self::bucket::{BucketError, BucketSettings};
use self::keys::Place;
pub use self::usage::{BLOCK, Quotas};
use self::usage::{Open, Size, Usage};
use crate::StorageError;
use crate::types::{Entry, PAGE, PutEntry, Scope, Storage};

/// How the storage behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JetStreamSettings {
    /// What an install may have.
    pub quotas: Quotas,
    /// The bucket itself.
    pub bucket: BucketSettings,
    /// How long an entry lives that was written without a life of its own, 1 s at least (the server's
    /// limit). `None`: for ever.
    pub default_ttl: Option<Duration>,
    /// How long one operation may take in all, 5 s unless configured.
    pub timeout: Duration,
}

impl Default for JetStreamSettings {
    fn default() -> Self {
        Self {
            quotas: Quotas::default(),
            bucket: BucketSettings::default(),
            default_ttl: None,
            timeout: Duration::from_secs(5),
        }
    }
}

/// Entries read at once for one page or count. A page is 100 values of at most 64 KiB.
const READS: usize = 16;
/// How long counting an install's entries anew may take. 163,840 entries take about 10 s.
const COUNTING: Duration = Duration::from_secs(120);
/// A quota that seems used up is believed if the entries were counted within this many seconds.
const BELIEVED: u64 = 3_600;
/// How many seconds another process is left to count before this one does it.
const COUNTED_ELSEWHERE: u64 = 30;
/// How long a writer is left to write its entry under its record. It takes 0.2 ms.
const WRITING: Duration = Duration::from_millis(250);
/// Installs whose writers take turns in this process.
const TURNS: u64 = 10_000;

/// The storage; clones share everything.
#[derive(Clone)]
pub(crate) struct JetStream(Arc<Inner>);

struct Inner {
    bucket: Bucket,
    settings: JetStreamSettings,
    /// Writers of one install in one process take turns rather than make each other try again. Only a courtesy: between
    /// processes, and should an idle install's turn have been forgotten, the sequences decide.
    turns: moka::future::Cache<Place, Arc<Mutex<()>>>,
}

type Turn = OwnedMutexGuard<()>;

enum Change<'a> {
    Put { value: &'a Bytes, revision: Option<u64>, ttl: Option<Duration> },
    Delete,
}

/// How long the entry of one record has been waited for.
#[derive(Default)]
struct Waited(Option<(u64, Instant)>);

impl Waited {
    /// Whether its writer has had its time: by the age of the record, or, should the clocks disagree, because it has been
    /// the same for as long. Too early or too late costs another try and nothing else.
    fn long_enough(&mut self, record: u64, written: i64) -> bool {
        let age = i64::try_from(now()).unwrap_or(i64::MAX).saturating_sub(written);
        match self.0 {
            Some((seen, since)) if seen == record => age > 1 || since.elapsed() >= WRITING,
            _ => {
                self.0 = Some((record, Instant::now()));
                age > 1
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl From<BucketError> for StorageError {
    fn from(error: BucketError) -> Self {
        Self::unavailable(error)
    }
}

impl JetStream {
    pub(crate) async fn new(client: Client, settings: JetStreamSettings) -> Result<Self, BucketError> {
        let bucket = Bucket::new(client, settings.bucket, settings.timeout).await?;
        let turns =
            moka::future::Cache::builder().max_capacity(TURNS).time_to_idle(Duration::from_secs(60)).build();
        Ok(Self(Arc::new(Inner { bucket, settings, turns })))
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let timeout = self.0.settings.timeout;
        let work = async {
            self.0.bucket.ready().await?;
            work.await
        };
        match tokio::time::timeout(timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(BucketError::Timeout(timeout).into()),
        }
    }

    async fn turn(&self, place: &Place) -> Turn {
        let turn = self.0.turns.get_with_by_ref(place, async { Arc::default() }).await;
        turn.lock_owned().await
    }

    async fn live(&self, subject: &str) -> Result<Option<Stored>, BucketError> {
        Ok(self.0.bucket.read(subject).await?.filter(|stored| stored.live))
    }

    /// Writes or removes an entry as `usage.rs` describes. Tries until nobody is in between or the time is up; answers
    /// with the new revision.
    async fn change(
        &self,
        place: &Place,
        namespace: &str,
        key: &str,
        change: Change<'_>,
    ) -> Result<u64, StorageError> {
        let (subject, record_subject) = (place.entry(namespace, key), place.usage());
        let bucket = &self.0.bucket;
        let mut turn = self.turn(place).await;
        let mut waited = Waited::default();
        for attempt in 0_u32.. {
            if attempt > 0 {
                // 1 to 2 ms, doubled each time, to 32 to 64 ms.
                let most = 1_u64 << attempt.min(6);
                tokio::time::sleep(Duration::from_micros(rand::random_range(500 * most..1_000 * most))).await;
            }
            let record = bucket.read(&record_subject).await?.filter(|stored| stored.live);
            let stored = record.as_ref().map(|stored| stored.value.as_ref()).unwrap_or_default();
            let Some(mut usage) = Usage::read(stored) else {
                let counting = Usage::counted_since(stored);
                if counting.is_none_or(|since| since.saturating_add(COUNTED_ELSEWHERE) <= now()) {
                    turn = self.count_anew(place, turn).await?;
                }
                continue;
            };
            let (base, written) = record.map_or((0, 0), |record| (record.revision, record.written));
            let open = usage.open.take();
            let other =
                open.as_ref().filter(|open| (open.namespace.as_str(), open.key.as_str()) != (namespace, key));
            let other_subject = other.map(|open| place.entry(&open.namespace, &open.key));
            let (there, other) = tokio::try_join!(bucket.read(&subject), async {
                match &other_subject {
                    Some(subject) => bucket.read(subject).await,
                    None => Ok(None),
                }
            })?;
            let revision = there.as_ref().filter(|stored| stored.live).map_or(0, |stored| stored.revision);
            match change {
                Change::Put { revision: Some(wanted), .. } if wanted != revision => {
                    return Err(StorageError::Conflict);
                }
                Change::Delete if revision == 0 => return Err(StorageError::Missing),
                Change::Put { .. } | Change::Delete => {}
            }
            if let Some(open) = open {
                let last = if other_subject.is_some() { other.as_ref() } else { there.as_ref() };
                if !open.closed && last.is_none_or(|last| last.revision < base) {
                    if waited.long_enough(base, written) {
                        usage.open = Some(Open { closed: true, ..open });
                        let usage = usage.write().map_err(BucketError::Record)?;
                        bucket.write(Write::over(record_subject.clone(), base, usage.into())).await?;
                    }
                    continue;
                }
                if let Some(last) = last.filter(|last| last.live) {
                    usage.add(&open.namespace, Size::new(&open.key, last.value.len(), last.until));
                }
            }
            let now = now();
            usage.settle(now);
            let old = there
                .filter(|stored| stored.live)
                .map(|stored| Size::new(key, stored.value.len(), stored.until));
            let (payload, life) = match change {
                Change::Put { value, ttl, .. } => {
                    let life = ttl.map(|ttl| (ttl, usage::interval(now, ttl)));
                    let new = Size::new(key, value.len(), life.map(|(_, until)| until));
                    if let Err(over) = usage.clone().replace(namespace, old, new, &self.0.settings.quotas) {
                        if usage.counted.saturating_add(BELIEVED) <= now {
                            turn = self.count_anew(place, turn).await?;
                            continue;
                        }
                        return Err(StorageError::Quota {
                            what: over.what,
                            limit: over.limit,
                            value: over.value,
                        });
                    }
                    (value.clone(), life)
                }
                Change::Delete => (Bytes::new(), None),
            };
            if let Some(old) = old {
                usage.remove(namespace, old);
            }
            usage.open = Some(Open { namespace: namespace.to_owned(), key: key.to_owned(), closed: false });
            let usage = usage.write().map_err(BucketError::Record)?;
            let Some(base) = bucket.write(Write::over(record_subject.clone(), base, usage.into())).await?
            else {
                continue;
            };
            let mut entry = Write::under(&record_subject, base, subject.clone(), payload);
            if let Some((ttl, until)) = life {
                entry = entry.mortal(ttl, until);
            }
            if matches!(change, Change::Delete) {
                entry = entry.mark();
            }
            if let Some(revision) = bucket.write(entry).await? {
                return Ok(revision);
            }
        }
        // Not reached: the operation's time ends first.
        Err(BucketError::Timeout(self.0.settings.timeout).into())
    }

    /// Makes the record anew from the entries. It goes on when the caller's time is up, so that a large install gets its
    /// record in the end; the turn is kept, so that one process counts once.
    async fn count_anew(&self, place: &Place, turn: Turn) -> Result<Turn, StorageError> {
        let (storage, place) = (self.clone(), place.clone());
        let task = tokio::spawn(async move {
            let done = tokio::time::timeout(COUNTING, storage.count(&place)).await;
            match done {
                Ok(Ok(())) => Ok(turn),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(BucketError::Timeout(COUNTING)),
            }
        });
        Ok(task.await.map_err(BucketError::Count)??)
    }

    async fn count(&self, place: &Place) -> Result<(), BucketError> {
        let bucket = &self.0.bucket;
        let now = now();
        // From here on nothing is written under the record that was there. Whoever counts too replaces this one, and then
        // this count is thrown away.
        let record = bucket.read(&place.usage()).await?.map_or(0, |record| record.revision);
        let closed = Usage::being_counted(now).write().map_err(BucketError::Record)?;
        let Some(record) = bucket.write(Write::over(place.usage(), record, closed.into())).await? else {
            return Ok(());
        };
        let subjects = bucket.subjects(&place.all()).await?;
        let entries = subjects.len();
        let mut counted = Usage::empty(now);
        let mut sizes = futures::stream::iter(subjects)
            .map(async |subject| {
                let stored = self.live(&subject).await?;
                Ok(stored.and_then(|stored| {
                    let (namespace, key) = keys::names(&subject)?;
                    let size = Size::new(&key, stored.value.len(), stored.until);
                    Some((namespace, size))
                }))
            })
            .buffer_unordered(READS);
        while let Some(found) = sizes.try_next().await? {
            if let Some((namespace, size)) = found {
                counted.add(&namespace, size);
            }
        }
        drop(sizes);
        let payload = counted.write().map_err(BucketError::Record)?.into();
        let kept = bucket.write(Write::over(place.usage(), record, payload)).await?.is_some();
        tracing::debug!(place = %place.usage(), entries, kept, "an install's storage was counted anew");
        Ok(())
    }

    async fn page(
        &self,
        place: &Place,
        namespace: &str,
        cursor: Option<&str>,
    ) -> Result<Vec<Entry>, StorageError> {
        let subjects = self.0.bucket.subjects(&place.namespace(namespace)).await?;
        let mut keys: Vec<String> = subjects
            .iter()
            .filter_map(|subject| Some(keys::names(subject)?.1))
            .filter(|key| cursor.is_none_or(|cursor| key.as_str() > cursor))
            .collect();
        keys.sort_unstable();
        futures::stream::iter(keys)
            .map(async |key| {
                let stored = self.live(&place.entry(namespace, &key)).await?;
                Ok(stored.map(|stored| entry(namespace, &key, stored.value, stored.revision)))
            })
            .buffered(READS)
            // Removed, or gone since the keys were listed.
            .try_filter_map(async |entry| Ok(entry))
            .take(PAGE)
            .try_collect()
            .await
    }
}

fn entry(namespace: &str, key: &str, value: Bytes, revision: u64) -> Entry {
    Entry { namespace: namespace.to_owned(), key: key.to_owned(), value, revision: Some(revision) }
}

#[async_trait]
impl Storage for JetStream {
    async fn prepare(&self) -> Result<(), StorageError> {
        self.within(async { Ok(()) }).await
    }

    async fn get(&self, scope: &Scope<'_>, namespace: &str, key: &str) -> Result<Entry, StorageError> {
        let subject = Place::new(scope).entry(namespace, key);
        self.within(async {
            let stored = self.live(&subject).await?.ok_or(StorageError::Missing)?;
            Ok(entry(namespace, key, stored.value, stored.revision))
        })
        .await
    }

    async fn put(&self, scope: &Scope<'_>, put: &PutEntry) -> Result<Entry, StorageError> {
        let place = Place::new(scope);
        let ttl = put.ttl.or(self.0.settings.default_ttl);
        let change = Change::Put { value: &put.value, revision: put.revision, ttl };
        let revision = self.within(self.change(&place, &put.namespace, &put.key, change)).await?;
        Ok(entry(&put.namespace, &put.key, put.value.clone(), revision))
    }

    async fn delete(&self, scope: &Scope<'_>, namespace: &str, key: &str) -> Result<(), StorageError> {
        let place = Place::new(scope);
        self.within(self.change(&place, namespace, key, Change::Delete)).await.map(|_| ())
    }

    async fn list(
        &self,
        scope: &Scope<'_>,
        namespace: &str,
        cursor: Option<&str>,
    ) -> Result<Vec<Entry>, StorageError> {
        self.within(self.page(&Place::new(scope), namespace, cursor)).await
    }
}
