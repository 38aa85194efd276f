//! One connection that waits for events, for all readers; and what reads what there is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longshore_proto::event::DebugEvent;
use longshore_proto::{ExtensionId, TenantId};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamReadReply;
use redis::{AsyncConnectionConfig, RedisError};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::entry::{Event, Id, Want};
use crate::config::EventSettings;

/// Readers at a time: half of the connections that the API takes.
const MAX_READERS: usize = 64;

/// Events that wait for one reader. Shared between readers, and some 500 bytes each; one more is lost and said.
const QUEUE: usize = 512;

/// How long Redis waits for events before it is asked anew, with the streams of readers that have come meanwhile.
const BLOCK: Duration = Duration::from_millis(250);

/// How often streams of new extensions are looked for, and at least so many times as long as the look took: it goes over all keys.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_SHARE: u32 = 10;

/// Connecting, and each command: more than [`BLOCK`].
const TIMEOUT: Duration = Duration::from_secs(5);

/// Streams of one tenant that are read; a tenant has at most some hundred extensions.
const MAX_STREAMS: usize = 2_000;

/// Entries of one answer, of all streams together.
const BATCH: usize = 1_000;

/// Keys that one turn of a scan looks at.
const SCAN: usize = 1_000;

/// All of it; a scan of a million keys takes a second or two.
const SCAN_LIMIT: Duration = Duration::from_secs(30);

/// Readers of debug events and what they share.
pub struct Hub {
    client: redis::Client,
    settings: EventSettings,
    readers: Mutex<Readers>,
    come: Notify,
    /// For everything that does not wait.
    shared: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
}

#[derive(Default)]
struct Readers {
    next: u64,
    all: HashMap<u64, Reader>,
}

#[derive(Clone)]
struct Reader {
    want: Arc<Want>,
    /// Streams that are not read yet are read from here on.
    from: Id,
    queue: mpsc::Sender<Arc<Event>>,
    lost: Arc<AtomicU64>,
}

/// A reader's place; it ends with this.
pub(super) struct Place {
    hub: Arc<Hub>,
    number: u64,
    events: mpsc::Receiver<Arc<Event>>,
    lost: Arc<AtomicU64>,
}

impl Place {
    /// The next event; None: Redis has failed.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        self.events.recv().await
    }

    /// How many events did not find room since this was asked last.
    pub fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.readers.lock().all.remove(&self.number);
    }
}

impl Hub {
    /// On this server. Nothing is delivered before [`Self::run`].
    pub fn new(client: redis::Client, settings: EventSettings, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            client,
            settings,
            readers: Mutex::default(),
            come: Notify::new(),
            shared: tokio::sync::Mutex::default(),
            slots: Arc::new(Semaphore::new(MAX_READERS)),
            stop,
        })
    }

    /// Delivers events for as long as there are readers, until the service leaves.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.come.notified() => {}
            }
            let watched = tokio::select! {
                () = self.stop.cancelled() => return,
                watched = self.watch() => watched,
            };
            if let Err(error) = watched {
                // Only the kind: the text may hold the address. Each reader hears of it by the end of its queue.
                tracing::warn!(kind = ?error.kind(), "debug events cannot be followed: Redis has failed");
                self.readers.lock().all.clear();
            }
        }
    }

    /// A place among the readers: every event from `from` on, or a little earlier.
    pub(super) fn join(self: &Arc<Self>, want: Arc<Want>, from: Id) -> Place {
        let (queue, events) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let reader = Reader { want, from, queue, lost: lost.clone() };
        let mut readers = self.readers.lock();
        let number = readers.next;
        readers.next += 1;
        readers.all.insert(number, reader);
        drop(readers);
        self.come.notify_one();
        Place { hub: self.clone(), number, events, lost }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Reads until there are no readers.
    async fn watch(&self) -> Result<(), RedisError> {
        let mut connection = self.connect().await?;
        let mut cursors: HashMap<Arc<str>, Id> = HashMap::new();
        // Up to which reader streams were looked for, and when to look again.
        let (mut looked, mut again) = (0, Instant::now());
        loop {
            let (newest, readers) = {
                let readers = self.readers.lock();
                (readers.next, readers.all.values().cloned().collect::<Vec<_>>())
            };
            if readers.is_empty() {
                return Ok(());
            }
            if looked < newest || again <= Instant::now() {
                let began = Instant::now();
                self.look(&mut connection, &readers, &mut cursors).await?;
                looked = newest;
                again = Instant::now() + LOOK.max(began.elapsed() * LOOK_SHARE);
            }
            if cursors.is_empty() {
                tokio::time::sleep(BLOCK).await;
                continue;
            }
            let mut command = redis::cmd("XREAD");
            command.arg("BLOCK").arg(BLOCK.as_millis() as u64);
            command.arg("COUNT").arg((BATCH / cursors.len()).clamp(1, 100)).arg("STREAMS");
            let keys: Vec<Arc<str>> = cursors.keys().cloned().collect();
            keys.iter().for_each(|key| {
                command.arg(&**key);
            });
            for key in &keys {
                command.arg(cursors.get(key).copied().unwrap_or(Id::at(0)).to_string());
            }
            let reply: Option<StreamReadReply> = command.query_async(&mut connection).await?;
            // To those who are there now: who came while Redis was waiting has read what there was before, and nothing of this.
            let readers = self.readers.lock();
            for stream in reply.into_iter().flat_map(|reply| reply.keys) {
                let key: Arc<str> = stream.key.into();
                for event in stream.ids.into_iter().filter_map(|entry| Event::read(&key, entry)) {
                    cursors.insert(key.clone(), event.id);
                    deliver(readers.all.values(), event);
                }
            }
            drop(readers);
        }
    }

    /// The streams that somebody wants, and no others.
    async fn look(
        &self,
        connection: &mut MultiplexedConnection,
        readers: &[Reader],
        cursors: &mut HashMap<Arc<str>, Id>,
    ) -> Result<(), RedisError> {
        let mut wanted: HashMap<Arc<str>, Id> = HashMap::new();
        // Readers of the same streams: those are looked for once.
        let mut streams: HashMap<(&TenantId, Option<&ExtensionId>), Id> = HashMap::new();
        for reader in readers {
            let from =
                streams.entry((&reader.want.tenant, reader.want.extension.as_ref())).or_insert(reader.from);
            *from = reader.from.min(*from);
        }
        for ((tenant, extension), from) in streams {
            for key in self.keys_on(connection, tenant, extension).await? {
                let least = wanted.entry(key).or_insert(from);
                *least = from.min(*least);
            }
        }
        cursors.retain(|key, _| wanted.contains_key(key));
        for (key, from) in wanted {
            // An entry of this very moment may be there already: it is told apart by what the reader has had.
            cursors.entry(key).or_insert_with(|| Id::at(from.ms.saturating_sub(1)));
        }
        Ok(())
    }

    /// The tenant's streams there are; of an extension its stream, whether it is there or not.
    async fn keys_on(
        &self,
        connection: &mut MultiplexedConnection,
        tenant: &TenantId,
        extension: Option<&ExtensionId>,
    ) -> Result<Vec<Arc<str>>, RedisError> {
        if let Some(extension) = extension {
            return Ok(vec![DebugEvent::key_of(&self.settings.prefix, tenant, extension).into()]);
        }
        let pattern = self.settings.pattern(tenant.as_str(), None);
        let found = tokio::time::timeout(SCAN_LIMIT, scan(connection, &pattern)).await;
        let mut keys =
            found.map_err(|_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))??;
        keys.sort_unstable();
        if keys.len() > MAX_STREAMS {
            tracing::warn!(%tenant, streams = keys.len(), "more streams of debug events than are read");
            keys.truncate(MAX_STREAMS);
        }
        Ok(keys)
    }

    /// See [`Self::keys_on`].
    pub(super) async fn keys(&self, want: &Want) -> Result<Vec<Arc<str>>, RedisError> {
        let mut connection = self.shared().await?;
        let keys = self.keys_on(&mut connection, &want.tenant, want.extension.as_ref()).await;
        self.checked(keys).await
    }

    /// Now, by the clock of Redis, which is that of the ids.
    pub(super) async fn now(&self) -> Result<Id, RedisError> {
        let mut connection = self.shared().await?;
        let time = redis::cmd("TIME").query_async(&mut connection).await;
        let (seconds, micros): (u64, u64) = self.checked(time).await?;
        Ok(Id::at(seconds.saturating_mul(1_000).saturating_add(micros / 1_000)))
    }

    /// Entries of a stream: from `from` (itself included where `included`) up to the millisecond `until`, `limit` at most.
    pub(super) async fn range(
        &self,
        key: &Arc<str>,
        (from, included): (Id, bool),
        until: Id,
        limit: usize,
    ) -> Result<Vec<Event>, RedisError> {
        let mut connection = self.shared().await?;
        let from = if included { from.to_string() } else { format!("({from}") };
        let read = redis::cmd("XRANGE")
            .arg(&**key)
            .arg(from)
            .arg(until.ms)
            .arg("COUNT")
            .arg(limit)
            .query_async(&mut connection)
            .await;
        let read: redis::streams::StreamRangeReply = self.checked(read).await?;
        Ok(read.ids.into_iter().filter_map(|entry| Event::read(key, entry)).collect())
    }

    async fn shared(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut shared = self.shared.lock().await;
        if let Some(connection) = &*shared {
            return Ok(connection.clone());
        }
        Ok(shared.insert(self.connect().await?).clone())
    }

    /// The next one who asks gets a new connection.
    async fn checked<T>(&self, result: Result<T, RedisError>) -> Result<T, RedisError> {
        if result.is_err() {
            *self.shared.lock().await = None;
        }
        result
    }
}

fn deliver<'r>(readers: impl Iterator<Item = &'r Reader>, event: Event) {
    let event = Arc::new(event);
    for reader in readers.filter(|reader| reader.want.wants(&event)) {
        if let Err(mpsc::error::TrySendError::Full(_)) = reader.queue.try_send(event.clone()) {
            reader.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn scan(connection: &mut MultiplexedConnection, pattern: &str) -> Result<Vec<Arc<str>>, RedisError> {
    let (mut cursor, mut found) = (0_u64, HashSet::new());
    loop {
        let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg(&["MATCH", pattern])
            .arg("COUNT")
            .arg(SCAN)
            .arg(&["TYPE", "stream"])
            .query_async(connection)
            .await?;
        found.extend(keys.into_iter().map(Arc::from));
        cursor = next;
        if cursor == 0 {
            return Ok(found.into_iter().collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_too_slow_loses_what_it_is_told_of_and_holds_up_nobody() {
        let want = Want {
            tenant: "t".parse().unwrap(),
            extension: None,
            request: None,
            level: None,
            since_ms: None,
            follow: true,
        };
        let reader = |room| {
            let (queue, events) = mpsc::channel(room);
            let lost = Arc::new(AtomicU64::new(0));
            (Reader { want: Arc::new(want.clone()), from: Id::at(0), queue, lost }, events)
        };
        let ((slow, mut few), (fast, mut all)) = (reader(2), reader(10));
        let readers = [slow, fast];
        for n in 1..=5 {
            let tenant = ("tenant".to_owned(), redis::Value::BulkString(b"t".to_vec()));
            let map = [tenant].into_iter().collect();
            let entry = redis::streams::StreamId { id: format!("{n}-0"), map, ..Default::default() };
            deliver(readers.iter(), Event::read(&Arc::from("k"), entry).unwrap());
        }
        let heard = |events: &mut mpsc::Receiver<Arc<Event>>| {
            std::iter::from_fn(|| events.try_recv().ok()).map(|event| event.id.ms).collect::<Vec<_>>()
        };
        assert_eq!((heard(&mut few), heard(&mut all)), (vec![1, 2], vec![1, 2, 3, 4, 5]));
        let lost = readers.each_ref().map(|reader| reader.lost.load(Ordering::Relaxed));
        assert_eq!(lost, [3, 0]);
    }
}
