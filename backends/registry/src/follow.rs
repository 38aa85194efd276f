//! How a worker hears of changed installs.
//!
//! A worker may make no consumer: the server would deliver what the bucket holds to any subject that the worker names (`deploy/nats.conf`). It
//! hears the writes themselves as they are sent, which are hints only: one that the server refuses is heard too, and one is heard a moment
//! before it is stored. So each hint makes it read the record, until the write can be seen there. After a reconnect, and after
//! messages were dropped, it reads those installs again that its owner still asks about.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, header};
use futures::StreamExt as _;
use longshore_proto::{ExtensionId, TenantId};
use longshore_service::errors::chain;
use longshore_service::lifecycle::Tasks;
use longshore_service::nats::buckets::{Entry, KeyValue, KvError, Rights};
use longshore_service::nats::{ListenError, Watcher, subscribe};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bucket::{INSTALLS, installs_settings};
use crate::record::{self, install_key};
use crate::seam::Change;

/// Changes that a slow receiver may be behind; then it is told that it has missed some.
const CHANGES: usize = 1024;
/// Records that are read at a time.
const READS: usize = 64;
/// Installs that wait to be read. With more, all that the owner asks about is read instead.
const WAITING: usize = 10_000;
/// Questions of the owner that wait.
const QUESTIONS: usize = 1024;

/// What is known of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// It is over this revision.
    Over(u64),
    /// Nothing.
    Some,
    /// There was none: the owner asks.
    Asked,
}

impl Hint {
    fn of(message: &Message) -> Self {
        let headers = message.headers.as_ref();
        let over = headers.and_then(|all| all.get(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE));
        over.and_then(|text| text.as_str().parse().ok()).map_or(Self::Some, Self::Over)
    }

    /// The waits before each reading, in milliseconds. A write is stored within a millisecond or two, with replicas within tens.
    const fn waits(self) -> &'static [u64] {
        match self {
            Self::Over(_) => &[0, 10, 50, 200, 700],
            Self::Some => &[0, 250, 750],
            Self::Asked => &[0],
        }
    }

    /// Whether what was read is the write, or a later one.
    const fn is_seen(self, found: Option<&Entry>) -> bool {
        match (self, found) {
            (Self::Over(before), Some(entry)) => entry.revision > before,
            // A removal whose mark has gone.
            (Self::Over(before), None) => before > 0,
            (Self::Some, _) => false,
            (Self::Asked, _) => true,
        }
    }
}

/// Hears of changed installs.
pub struct InstallFollower {
    changes: broadcast::Sender<Change>,
    questions: mpsc::Sender<(TenantId, ExtensionId)>,
}

impl InstallFollower {
    /// Begins to listen, on a connection of the user `worker` whose client makes its inboxes where that user may listen. `held` names the
    /// installs that the owner asks about now (those whose calls run, say); it is called after each reconnect. It ends with `until`, which a process
    /// that drains cancels after its last call: until then an install may be disabled, and a drain would wait for a task that waits for its end.
    pub fn start(
        client: Client,
        link: Watcher,
        tasks: &Tasks,
        until: CancellationToken,
        held: impl Fn() -> Vec<(TenantId, ExtensionId)> + Send + Sync + 'static,
    ) -> Self {
        let changes = broadcast::Sender::new(CHANGES);
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let kv = KeyValue::new(client.clone(), link.clone(), installs_settings(1), Rights::ReadOnly);
        let follow = Follow {
            reader: Reader { kv: Arc::new(kv), changes: changes.clone() },
            held: Box::new(held),
            waiting: VecDeque::new(),
            hints: HashMap::new(),
            running: HashSet::new(),
            missed: false,
        };
        tasks.spawn_essential("install-follower", async move {
            until.run_until_cancelled(follow.serve(client, link, asked)).await.unwrap_or(Ok(()))
        });
        Self { changes, questions }
    }

    /// Changes from now on. The same state may be told more than once. A receiver that lags has missed some and looks at everything it holds
    /// again, by [`Self::recheck`].
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Reads installs again; what is found is told as a change, whether it is one or not. Waits while many are waiting.
    pub async fn recheck(&self, installs: impl IntoIterator<Item = (TenantId, ExtensionId)>) {
        for install in installs {
            if self.questions.send(install).await.is_err() {
                return;
            }
        }
    }
}

struct Follow {
    reader: Reader,
    held: Box<dyn Fn() -> Vec<(TenantId, ExtensionId)> + Send + Sync>,
    waiting: VecDeque<String>,
    /// What is to be read next of each key.
    hints: HashMap<String, Hint>,
    running: HashSet<String>,
    /// Whether hints were dropped.
    missed: bool,
}

impl Follow {
    async fn serve(
        mut self,
        client: Client,
        link: Watcher,
        mut asked: mpsc::Receiver<(TenantId, ExtensionId)>,
    ) -> Result<(), ListenError> {
        let prefix = format!("$KV.{INSTALLS}.");
        let mut messages = subscribe(&client, format!("{prefix}>"), None).await?;
        let mut state = link.receiver();
        let mut seen = (0, 0);
        let mut reads = JoinSet::new();
        loop {
            self.begin(&mut reads);
            tokio::select! {
                message = messages.next() => {
                    let message = message.ok_or(ListenError::Ended)?;
                    if let Some(key) = message.subject.strip_prefix(&prefix) {
                        self.hear(key.to_owned(), Hint::of(&message));
                    }
                }
                Some((tenant, extension)) = asked.recv() => self.hear(install_key(&tenant, &extension), Hint::Asked),
                Some(read) = reads.join_next() => {
                    // A reading that panicked leaves its key marked; it cannot panic.
                    if let Ok(key) = read {
                        self.ended(key);
                    }
                }
                now = state.wait_for(|now| now.connected && (now.generation, now.slow_consumers) != seen) => {
                    let Ok(now) = now else { return Err(ListenError::Ended) };
                    // The client has subscribed again before it sends anything: what is read now and what is heard later leave no gap.
                    seen = (now.generation, now.slow_consumers);
                    drop(now);
                    self.recheck();
                }
            }
        }
    }

    fn recheck(&mut self) {
        for (tenant, extension) in (self.held)() {
            self.hear(install_key(&tenant, &extension), Hint::Asked);
        }
    }

    fn hear(&mut self, key: String, hint: Hint) {
        if record::owner(&key).is_none() {
            return;
        }
        if self.hints.len() >= WAITING && !self.hints.contains_key(&key) {
            self.missed = true;
            return;
        }
        let new = self.hints.insert(key.clone(), hint).is_none();
        if new && !self.running.contains(&key) {
            self.waiting.push_back(key);
        }
    }

    fn begin(&mut self, reads: &mut JoinSet<String>) {
        if self.missed && self.hints.is_empty() {
            self.missed = false;
            tracing::warn!(
                "more installs changed at once than can be waited for; those in use are read again"
            );
            self.recheck();
        }
        while self.running.len() < READS {
            let Some(key) = self.waiting.pop_front() else { return };
            let Some(hint) = self.hints.remove(&key) else { continue };
            self.running.insert(key.clone());
            let reader = self.reader.clone();
            reads.spawn(async move {
                reader.read(&key, hint).await;
                key
            });
        }
    }

    fn ended(&mut self, key: String) {
        self.running.remove(&key);
        // Written again meanwhile.
        if self.hints.contains_key(&key) {
            self.waiting.push_back(key);
        }
    }
}

#[derive(Clone)]
struct Reader {
    kv: Arc<KeyValue>,
    changes: broadcast::Sender<Change>,
}

impl Reader {
    async fn read(&self, key: &str, hint: Hint) {
        let mut told = None;
        let mut failure = None;
        for wait in hint.waits() {
            tokio::time::sleep(Duration::from_millis(*wait)).await;
            match self.kv.get(key).await {
                Ok(found) => {
                    failure = None;
                    let revision = found.as_ref().map(|entry| entry.revision);
                    let seen = hint.is_seen(found.as_ref());
                    // Its owner may ask about what never was an install: `/v1/execute` needs none. What was removed has left a mark.
                    let unknown = hint == Hint::Asked && found.is_none();
                    if told != Some(revision) && !unknown && (seen || hint == Hint::Some) {
                        told = Some(revision);
                        self.tell(key, found);
                    }
                    if seen {
                        return;
                    }
                }
                // All that is in use is read again after the reconnect.
                Err(KvError::Disconnected) => return,
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            tracing::warn!(key, error = %chain(&error), "an install may have changed and cannot be read");
        }
    }

    fn tell(&self, key: &str, found: Option<Entry>) {
        let Some((tenant, extension)) = record::owner(key) else { return };
        let now = match found.and_then(|entry| entry.value).map(|value| record::decode(key, &value)) {
            Some(Ok(install)) => Some(Arc::new(install)),
            Some(Err(error)) => {
                tracing::error!(%tenant, %extension, %error, "an install's record cannot be read; it is skipped");
                return;
            }
            None => None,
        };
        // No receiver is no failure.
        let _ = self.changes.send(Change { tenant, extension, now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(revision: u64) -> Entry {
        Entry { value: None, revision }
    }

    #[test]
    fn a_write_is_seen_when_the_record_is_past_what_it_was_written_over() {
        let over = Hint::Over(7);
        assert!(!over.is_seen(Some(&entry(7))), "not stored yet, or refused");
        assert!(over.is_seen(Some(&entry(8))));
        assert!(over.is_seen(None), "removed, and its mark has gone");
        assert!(!Hint::Over(0).is_seen(None), "the first write is not stored yet");
        assert!(Hint::Over(0).is_seen(Some(&entry(1))));
    }
}
