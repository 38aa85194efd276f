//! Key-value buckets and streams whose settings carry a version.
//!
//! A fleet is updated process by process, so old and new builds look at the same bucket for a while. What a build needs of it has a number,
//! which the stream carries in its metadata ([`VERSION_KEY`]); only a build with a higher number changes the stream, and one with a lower
//! number leaves it as it is. Replicas, placement and size limits are an operator's: they count when the stream is made, and an update
//! keeps what the operator has set since.
//!
//! Who may do what is decided by the NATS user (`deploy/nats.conf`): the admin service makes and updates all of them, a gateway makes a few and
//! updates none, a worker makes one. [`Rights`] says it to [`ensure`], which asks for nothing that would be refused.

mod key;
mod kv;
mod watch;

use std::time::Duration;

use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, UpdateStreamError,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{HeaderMap, header};

pub use key::{part, token};
pub use kv::{Entry, KeyValue, KvError, Written};
pub use watch::{BucketEvent, BucketWatch};

/// The metadata field with the version of the settings.
pub const VERSION_KEY: &str = "longshore.settings";

/// Messages of the server's own in the metadata; it refuses or ignores them when they come back.
const SERVER_METADATA: &str = "_nats.";

/// The header of a bucket's message that tells a removal from a value.
const KV_OPERATION: &str = "KV-Operation";

/// Whether headers are those of a removal: by a client, or by the server when a value's time is over.
fn is_removal(headers: &HeaderMap) -> bool {
    [KV_OPERATION, header::NATS_MARKER_REASON.as_ref()]
        .iter()
        .any(|mark| headers.get(*mark).is_some_and(|operation| operation.as_str() != "PUT"))
}

/// What a build needs of a stream.
#[derive(Debug, Clone)]
pub struct Settings {
    version: u32,
    config: Config,
}

/// What the process' NATS user may do to streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Make it, and update one that an older build made: the admin service.
    MayUpdate,
    /// Make it where there is none.
    CreateOnly,
    /// Only look.
    ReadOnly,
}

/// What [`ensure`] found or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// It was not there and has been made.
    Created,
    /// An older build's settings were replaced.
    Updated {
        /// The version before; 0 for settings without one.
        from: u32,
    },
    /// It has this build's settings.
    Current,
    /// A newer build made or updated it; it was left alone.
    Newer {
        /// Its version.
        version: u32,
    },
    /// An older build made it, it can be used, and this process may not update it.
    Older {
        /// Its version; 0 for settings without one.
        version: u32,
    },
}

/// Why a stream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// There is none, and this process may not make it.
    #[error("there is no stream {0} yet: the admin service makes it when it starts")]
    Absent(String),
    /// It cannot be looked at.
    #[error(
        "the stream {stream} cannot be looked at (does the server have JetStream, and the user the rights?)"
    )]
    Look {
        /// Its name.
        stream: String,
        /// Why.
        #[source]
        source: GetStreamError,
    },
    /// It cannot be made.
    #[error("the stream {stream} cannot be made")]
    Create {
        /// Its name.
        stream: String,
        /// Why.
        #[source]
        source: CreateStreamError,
    },
    /// It cannot be updated.
    #[error("the stream {stream} cannot be updated")]
    Update {
        /// Its name.
        stream: String,
        /// Why.
        #[source]
        source: UpdateStreamError,
    },
    /// There is one that works otherwise, and this process may not update it.
    #[error("the stream {stream} has another configuration: {field} differs")]
    Other {
        /// Its name.
        stream: String,
        /// The first difference.
        field: &'static str,
    },
}

impl EnsureError {
    /// Whether the stream is simply not there yet.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent(_))
    }
}

impl Settings {
    /// A key-value bucket, as the client makes one but for direct gets: a direct get's answer goes to whatever subject the asker names, so no
    /// user of `deploy/nats.conf` has the right to ask one. Full, it refuses new values; the default would drop anybody's oldest.
    pub fn bucket(name: &str, version: u32) -> Self {
        let config = Config {
            name: format!("KV_{name}"),
            subjects: vec![format!("$KV.{name}.>")],
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            // A message lives as long as it says (NATS 2.11): the marks of removals go away by themselves.
            allow_message_ttl: true,
            ..Config::default()
        };
        Self::of(version, config)
    }

    /// A stream of events: appended to, never changed. Full or old enough, it drops its oldest.
    pub fn stream(name: &str, subjects: &str, version: u32) -> Self {
        let config = Config {
            name: name.to_owned(),
            subjects: vec![subjects.to_owned()],
            max_messages_per_subject: -1,
            discard: DiscardPolicy::Old,
            deny_purge: true,
            ..Config::default()
        };
        Self::of(version, config)
    }

    fn of(version: u32, config: Config) -> Self {
        let mut config = Config {
            description: Some("Longshore".to_owned()),
            storage: StorageType::File,
            num_replicas: 1,
            max_bytes: -1,
            max_messages: -1,
            max_consumers: -1,
            deny_delete: true,
            ..config
        };
        config.metadata.insert(VERSION_KEY.to_owned(), version.to_string());
        Self { version, config }
    }

    /// What it is for, for those who list streams.
    pub fn describe(mut self, text: &str) -> Self {
        self.config.description = Some(text.to_owned());
        self
    }

    /// Copies in a cluster, 1 to 5. Counts when the stream is made.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.config.num_replicas = replicas.clamp(1, 5);
        self
    }

    /// Bytes on disk. The server sets them aside, so a sum over its own limit is refused. Counts when the stream is made.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.config.max_bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self
    }

    /// Bytes of one message, its headers included.
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.config.max_message_size = i32::try_from(bytes).unwrap_or(i32::MAX);
        self
    }

    /// How long messages are kept.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.config.max_age = age;
        self
    }

    /// Lets direct gets be answered.
    pub fn direct(mut self) -> Self {
        self.config.allow_direct = true;
        self
    }

    /// The stream's name: `KV_` and the bucket's.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The stream as it is made.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The first field on which code relies and that is otherwise in `there`.
    fn differs(&self, there: &Config) -> Option<&'static str> {
        let wanted = &self.config;
        [
            ("subjects", there.subjects == wanted.subjects),
            ("max_msgs_per_subject", there.max_messages_per_subject == wanted.max_messages_per_subject),
            ("discard", there.discard == wanted.discard),
            ("max_age", there.max_age == wanted.max_age),
            ("allow_msg_ttl", there.allow_message_ttl || !wanted.allow_message_ttl),
            ("allow_rollup_hdrs", there.allow_rollup || !wanted.allow_rollup),
        ]
        .into_iter()
        .find_map(|(field, same)| (!same).then_some(field))
    }

    /// `there`, with what this build needs; what is an operator's stays.
    fn over(&self, mut there: Config) -> Config {
        let wanted = self.config.clone();
        there.metadata.retain(|key, _| !key.starts_with(SERVER_METADATA));
        there.metadata.extend(wanted.metadata);
        Config {
            description: wanted.description,
            subjects: wanted.subjects,
            max_messages_per_subject: wanted.max_messages_per_subject,
            max_message_size: wanted.max_message_size,
            max_age: wanted.max_age,
            discard: wanted.discard,
            allow_rollup: wanted.allow_rollup,
            allow_message_ttl: wanted.allow_message_ttl || there.allow_message_ttl,
            // Somebody may read directly.
            allow_direct: wanted.allow_direct || there.allow_direct,
            // The server refuses to take these two back.
            deny_delete: wanted.deny_delete || there.deny_delete,
            deny_purge: wanted.deny_purge || there.deny_purge,
            ..there
        }
    }
}

/// The version that a stream carries; 0 for one without or with an unreadable one.
fn version_of(config: &Config) -> u32 {
    config.metadata.get(VERSION_KEY).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The stream's configuration; `None`: there is no such stream.
async fn look(context: &Context, stream: &str) -> Result<Option<Config>, EnsureError> {
    match context.get_stream(stream).await {
        Ok(there) => Ok(Some(there.cached_info().config.clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Ok(None)
            }
            _ => Err(EnsureError::Look { stream: stream.to_owned(), source: error }),
        },
    }
}

/// Sees to it that the stream is there and can be used, as far as this process may. To be called while connected; the caller bounds the
/// time.
///
/// # Errors
/// The stream is absent and may not be made, has settings that cannot work, or the server refuses or does not answer.
pub async fn ensure(context: &Context, settings: &Settings, rights: Rights) -> Result<Ensured, EnsureError> {
    let name = settings.name();
    let there = match look(context, name).await? {
        Some(there) => there,
        None if rights == Rights::ReadOnly => return Err(EnsureError::Absent(name.to_owned())),
        None => match context.create_stream(settings.config.clone()).await {
            Ok(_) => return Ok(Ensured::Created),
            Err(source) => {
                // Another build made it between the two questions.
                let raced = matches!(source.kind(), CreateStreamErrorKind::JetStream(cause)
                    if cause.error_code() == ErrorCode::STREAM_NAME_EXIST);
                match if raced { look(context, name).await? } else { None } {
                    Some(there) => there,
                    None => return Err(EnsureError::Create { stream: name.to_owned(), source }),
                }
            }
        },
    };
    let version = version_of(&there);
    if version > settings.version {
        tracing::info!(
            stream = name,
            theirs = version,
            ours = settings.version,
            "a newer version has set this stream up; it is left alone"
        );
        return Ok(Ensured::Newer { version });
    }
    if version == settings.version || rights != Rights::MayUpdate {
        if let Some(field) = settings.differs(&there) {
            return Err(EnsureError::Other { stream: name.to_owned(), field });
        }
        if version == settings.version {
            return Ok(Ensured::Current);
        }
        return Ok(Ensured::Older { version });
    }
    match context.update_stream(settings.over(there)).await {
        Ok(_) => {
            tracing::info!(
                stream = name,
                from = version,
                to = settings.version,
                "the stream's settings are brought up to date"
            );
            Ok(Ensured::Updated { from: version })
        }
        Err(source) => Err(EnsureError::Update { stream: name.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_what_is_an_operators_and_sets_what_the_build_needs() {
        let settings = Settings::bucket("b", 3).max_message_bytes(10).max_bytes(100);
        let mut there = Settings::bucket("b", 2).replicas(3).max_bytes(7).config;
        there.metadata.insert("_nats.level".to_owned(), "2".to_owned());
        there.metadata.insert("team".to_owned(), "x".to_owned());
        there.max_messages_per_subject = 5;
        let over = settings.over(there);
        assert_eq!((over.num_replicas, over.max_bytes), (3, 7), "an operator's");
        assert_eq!((over.max_messages_per_subject, over.max_message_size), (1, 10), "the build's");
        assert_eq!(version_of(&over), 3);
        assert_eq!(over.metadata.get("team").map(String::as_str), Some("x"));
        assert!(!over.metadata.keys().any(|key| key.starts_with(SERVER_METADATA)));
    }

    #[test]
    fn a_stream_without_a_readable_version_is_the_oldest() {
        let mut config = Settings::bucket("b", 3).config;
        assert_eq!(version_of(&config), 3);
        config.metadata.insert(VERSION_KEY.to_owned(), "three".to_owned());
        assert_eq!(version_of(&config), 0);
        config.metadata.clear();
        assert_eq!(version_of(&config), 0);
    }

    #[test]
    fn a_protection_once_given_is_not_taken_back() {
        let mut there = Settings::bucket("b", 1).config;
        there.deny_purge = true;
        let over = Settings::bucket("b", 2).over(there);
        assert!(over.deny_purge && over.deny_delete);
    }
}
