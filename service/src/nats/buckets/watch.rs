//! A bucket as it is and as it changes, however often the connection breaks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{DeliverPolicy, push};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::{self, Context, ErrorCode, Message};
use bytes::Bytes;
use futures::StreamExt as _;

use super::super::watcher::{LinkState, Watcher};
use super::is_removal;

/// Between two looks for a bucket that is not there yet.
const ABSENT: Duration = Duration::from_millis(500);
/// After the first failure of another kind; doubled up to [`LONGEST`].
const AGAIN: Duration = Duration::from_millis(100);
/// How long a first reading may pause. The server counts what is still to come, and may count one too many when a value is replaced while
/// it is being read: nothing would ever say that the reading is complete.
const STALLED: Duration = Duration::from_secs(2);
/// The longest wait between two attempts while connected.
const LONGEST: Duration = Duration::from_secs(2);
/// Opening: two questions to JetStream.
const OPEN: Duration = Duration::from_secs(5);

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketEvent {
    /// A value is there, or another than before.
    Put {
        /// Its key.
        key: String,
        /// The bytes, as somebody wrote them.
        value: Bytes,
        /// Its revision.
        revision: u64,
    },
    /// A key that had a value has none any more.
    Removed {
        /// The key.
        key: String,
    },
    /// Everything up to this revision has been told.
    Seen(u64),
    /// Everything that was there when the watch (again) began has been told: what is known is the bucket.
    Complete,
    /// The watch does not hold now, for this reason; it is tried again. What is known stays known.
    Trouble(String),
    /// The server says that there is no such bucket: nobody has ever kept anything in it. It is looked for again.
    Absent(String),
}

/// Watches a whole bucket.
///
/// On each new connection and after each error the bucket is read anew, and what has changed meanwhile is told: values that are the same as
/// before are left out, keys that have gone are [`BucketEvent::Removed`]. So it misses nothing, whatever becomes of marks of removals or
/// of the bucket itself.
pub struct BucketWatch {
    context: Context,
    link: Watcher,
    bucket: &'static str,
    prefix: String,
    /// What has been told: each key's revision.
    known: HashMap<String, u64>,
    /// When the stream was made, by the server's clock: revisions of another stream of the same name mean nothing.
    made: Option<i128>,
    open: Option<Open>,
    /// Told before anything else.
    queue: VecDeque<BucketEvent>,
    wait: Duration,
    /// Whether the last attempt failed, so that `wait` comes before the next.
    failed: bool,
    /// Whether it has been told that there is no connection.
    away: bool,
}

struct Open {
    generation: u64,
    messages: push::Ordered,
    /// Keys seen in this pass; `None` when it is complete.
    pass: Option<HashSet<String>>,
}

enum Step {
    Message(Box<Message>),
    Failed(String),
    Reconnected,
    Stalled,
}

impl BucketWatch {
    /// A watch of `bucket`. Nothing is sent before [`Self::next`]. The client's inboxes must be where its user may listen.
    pub fn new(client: Client, link: Watcher, bucket: &'static str) -> Self {
        Self {
            context: jetstream::new(client),
            link,
            bucket,
            prefix: format!("$KV.{bucket}."),
            known: HashMap::new(),
            made: None,
            open: None,
            queue: VecDeque::new(),
            wait: Duration::ZERO,
            failed: false,
            away: false,
        }
    }

    /// What comes next; `None` when the client has gone. One task should do nothing but call it: dropped half way, an opening begins again.
    pub async fn next(&mut self) -> Option<BucketEvent> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            let Some(open) = &mut self.open else {
                self.reopen().await?;
                continue;
            };
            match step(open, &self.link).await? {
                Step::Message(message) => self.heard(&message),
                Step::Reconnected | Step::Stalled => self.open = None,
                Step::Failed(why) => self.trouble(why),
            }
        }
    }

    fn trouble(&mut self, why: String) {
        self.open = None;
        self.failed = true;
        self.wait = (self.wait * 2).clamp(AGAIN, LONGEST);
        self.queue.push_back(BucketEvent::Trouble(why));
    }

    async fn reopen(&mut self) -> Option<()> {
        if std::mem::take(&mut self.failed) {
            tokio::time::sleep(self.wait).await;
        }
        let state = self.link.state();
        if !state.connected {
            // Told once, then waited for.
            if std::mem::replace(&mut self.away, true) {
                self.link.connected(1).await?;
            } else {
                let why = state.problem.as_deref().unwrap_or("not connected");
                self.queue.push_back(BucketEvent::Trouble(format!("NATS: {why}")));
            }
            return Some(());
        }
        self.away = false;
        match tokio::time::timeout(OPEN, self.begin(&state)).await {
            Ok(Ok(open)) => {
                self.wait = Duration::ZERO;
                let empty = open.pass.is_none();
                self.open = Some(open);
                if empty {
                    self.complete(HashSet::new());
                }
            }
            Ok(Err(Failure::Absent)) => {
                let why = format!(
                    "there is no bucket {} yet: the admin service makes it when it starts",
                    self.bucket
                );
                self.queue.push_back(BucketEvent::Absent(why));
                self.failed = true;
                self.wait = ABSENT;
            }
            Ok(Err(Failure::Other(why))) => self.trouble(why),
            Err(_) => self.trouble(format!("JetStream does not answer within {OPEN:?}")),
        }
        Some(())
    }

    async fn begin(&mut self, state: &LinkState) -> Result<Open, Failure> {
        let stream =
            self.context.get_stream(format!("KV_{}", self.bucket)).await.map_err(|error| {
                match error.kind() {
                    GetStreamErrorKind::JetStream(cause)
                        if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        Failure::Absent
                    }
                    _ => Failure::other(&error),
                }
            })?;
        let made = stream.cached_info().created.unix_timestamp_nanos();
        if self.made.replace(made).is_some_and(|before| before != made) {
            // Nothing has this revision: each value is told again.
            self.known.values_mut().for_each(|revision| *revision = 0);
        }
        let consumer = stream
            .create_consumer(push::OrderedConfig {
                deliver_subject: self.context.client().new_inbox(),
                description: Some("Longshore watches the bucket".to_owned()),
                filter_subject: format!("{}>", self.prefix),
                deliver_policy: DeliverPolicy::LastPerSubject,
                ..push::OrderedConfig::default()
            })
            .await
            .map_err(|error| Failure::other(&error))?;
        let empty = consumer.cached_info().num_pending == 0;
        let messages = consumer.messages().await.map_err(|error| Failure::other(&error))?;
        let pass = (!empty).then(HashSet::new);
        Ok(Open { generation: state.generation, messages, pass })
    }

    fn heard(&mut self, message: &Message) {
        let Some(key) = message.subject.strip_prefix(&self.prefix).map(str::to_owned) else { return };
        let (revision, pending) = match message.info() {
            Ok(info) => (info.stream_sequence, info.pending),
            Err(error) => return self.trouble(format!("a message without its place in the stream: {error}")),
        };
        let removed = message.headers.as_ref().is_some_and(is_removal);
        if removed {
            if self.known.remove(&key).is_some() {
                self.queue.push_back(BucketEvent::Removed { key });
            }
        } else {
            if let Some(pass) = self.open.as_mut().and_then(|open| open.pass.as_mut()) {
                pass.insert(key.clone());
            }
            if self.known.insert(key.clone(), revision) != Some(revision) {
                self.queue.push_back(BucketEvent::Put { key, value: message.payload.clone(), revision });
            }
        }
        self.queue.push_back(BucketEvent::Seen(revision));
        if pending == 0
            && let Some(pass) = self.open.as_mut().and_then(|open| open.pass.take())
        {
            self.complete(pass);
        }
    }

    /// All that was not seen has gone.
    fn complete(&mut self, seen: HashSet<String>) {
        let queue = &mut self.queue;
        self.known.retain(|key, _| {
            let there = seen.contains(key);
            if !there {
                queue.push_back(BucketEvent::Removed { key: key.clone() });
            }
            there
        });
        queue.push_back(BucketEvent::Complete);
    }
}

enum Failure {
    Absent,
    Other(String),
}

impl Failure {
    fn other(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Other(crate::errors::chain(error).to_string())
    }
}

/// The next message, or why there is none.
async fn step(open: &mut Open, link: &Watcher) -> Option<Step> {
    let mut state = link.receiver();
    let generation = open.generation;
    tokio::select! {
        // The client makes its consumer anew by itself, but from where it was: what has become of the bucket meanwhile is not told.
        changed = state.wait_for(|state| state.generation != generation) => changed.ok().map(|_| Step::Reconnected),
        () = tokio::time::sleep(STALLED), if open.pass.is_some() => Some(Step::Stalled),
        message = open.messages.next() => Some(match message {
            Some(Ok(message)) => Step::Message(Box::new(message)),
            Some(Err(error)) => Step::Failed(format!("the watch broke: {}", crate::errors::chain(&error))),
            None => Step::Failed("the watch ended".to_owned()),
        }),
    }
}
