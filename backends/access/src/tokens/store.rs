//! The tokens as the admin service keeps them.

use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{HeaderMap, header};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use longshore_proto::TenantId;
use longshore_service::config::Secret;
use longshore_service::errors::chain;
use longshore_service::nats::Watcher;
use longshore_service::nats::buckets::{EnsureError, Ensured, Rights, ensure};
use tokio::sync::Mutex;

use super::index::Index;
use super::record::{self, Stored, TokenRecord, filter_of, key_of};
use super::{
    BUCKET, DEFAULT_LIFETIME, MAX_EXTENSIONS, MAX_LABEL_CHARS, MAX_LIFETIME, MAX_PER_TENANT, MAX_TOKENS,
    TokenId, text,
};
use crate::{Access, Denied};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One operation. A server answers in milliseconds; a cluster that elects a leader takes a second or two.
const OPERATION: Duration = Duration::from_secs(5);

/// How long an expired token stays in the list, so that people see why a call is refused. Then the server drops it by itself.
const SHOWN_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// How long the mark of a removal stays for those who watch; who was away for longer reads everything anew.
const REMOVAL_MARK: Duration = Duration::from_secs(60);

/// Records that are read at a time.
const READS: usize = 32;

/// The header that tells a removal from a value.
const KV_OPERATION: &str = "KV-Operation";

/// Why a token was not made, listed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The label is too long, or has a character that would break a line.
    #[error("a label has at most {MAX_LABEL_CHARS} characters and no control characters")]
    Label,
    /// Not a time that a token can be valid for.
    #[error("a token is valid for 1 s to {} days", MAX_LIFETIME.as_secs() / 86_400)]
    Lifetime,
    /// Not a list of extensions.
    #[error(
        "a token is limited to 1 to {MAX_EXTENSIONS} extensions of 1 to 256 bytes; without a list it is good for all"
    )]
    Extensions,
    /// Recorded runs are of all extensions.
    #[error("a token that reads recorded runs reads those of all extensions: make it without a list of them")]
    Traces,
    /// The tenant has as many as it may.
    #[error("the tenant {0} has {MAX_PER_TENANT} tokens: revoke some that are not used")]
    Full(TenantId),
    /// All tenants together have as many as gateways keep.
    #[error("there are {MAX_TOKENS} tokens: revoke some that are not used")]
    TooMany,
    /// No connection; nothing was done.
    #[error("not connected to NATS")]
    Disconnected,
    /// No answer: whatever was asked may have been done.
    #[error("no answer from JetStream within {OPERATION:?}")]
    Timeout,
    /// The bucket cannot be made or used.
    #[error("the bucket {BUCKET} cannot be used")]
    Bucket(#[source] EnsureError),
    /// JetStream refused, or failed.
    #[error("JetStream failed")]
    Failed(#[source] BoxError),
}

impl TokenError {
    /// Whether the request was wrong, and not the fleet: nothing will change by asking again.
    pub fn is_callers(&self) -> bool {
        match self {
            Self::Label | Self::Lifetime | Self::Extensions | Self::Traces | Self::Full(_) => true,
            Self::TooMany | Self::Disconnected | Self::Timeout | Self::Bucket(_) | Self::Failed(_) => false,
        }
    }
}

fn failed(error: impl Into<BoxError>) -> TokenError {
    TokenError::Failed(error.into())
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Whose installs its bearer may call.
    pub tenant: TenantId,
    /// What its bearer may do with them.
    pub access: Access,
    /// The extensions it is limited to, as registry ids or names; None: all of the tenant's.
    pub extensions: Option<Vec<String>>,
    /// It also reads the tenant's recorded runs and debug events: those of all extensions, so that a token with a list cannot have it.
    pub traces: bool,
    /// What people call it; at most [`MAX_LABEL_CHARS`].
    pub label: String,
    /// How long it is valid: at most [`MAX_LIFETIME`], in whole seconds; None: [`DEFAULT_LIFETIME`].
    pub lifetime: Option<Duration>,
    /// Who asks for it, for the list; bounded like the label.
    pub created_by: String,
}

/// Makes, lists and revokes tokens. One per process: it counts a tenant's tokens before it adds one, and two that count at the same time
/// in different processes may add one too many, which harms nobody.
pub struct TokenStore {
    context: Context,
    link: Watcher,
    replicas: usize,
    making: Mutex<()>,
}

impl TokenStore {
    /// On this connection, of NATS user `control`, whose client must make its inboxes where that user may listen. A bucket that is made
    /// gets this many copies in a cluster (`LONGSHORE_KV_REPLICAS`).
    pub fn new(client: async_nats::Client, link: Watcher, replicas: usize) -> Self {
        Self { context: jetstream::new(client), link, replicas, making: Mutex::new(()) }
    }

    /// Makes the bucket, or brings its settings up to date.
    ///
    /// # Errors
    /// No connection, no answer, or settings that cannot work.
    pub async fn prepare(&self) -> Result<Ensured, TokenError> {
        self.bounded(async {
            let settings = super::bucket().replicas(self.replicas);
            ensure(&self.context, &settings, Rights::MayUpdate).await.map_err(TokenError::Bucket)
        })
        .await
    }

    /// Makes a token. Its text is in the answer and nowhere else; it can be shown once.
    ///
    /// # Errors
    /// The request is not within bounds, the tenant or the fleet is full, or JetStream fails. After [`TokenError::Timeout`] there may be a
    /// token whose text nobody has: it is in the list and can be revoked.
    pub async fn create(&self, new: NewToken) -> Result<(Secret, TokenRecord), TokenError> {
        let NewToken { tenant, access, extensions, traces, label, lifetime, created_by } = new;
        let fits =
            |text: &str| text.chars().count() <= MAX_LABEL_CHARS && !text.chars().any(char::is_control);
        if !fits(&label) || !fits(&created_by) {
            return Err(TokenError::Label);
        }
        if !extensions.as_deref().is_none_or(record::fits) {
            return Err(TokenError::Extensions);
        }
        if traces && extensions.is_some() {
            return Err(TokenError::Traces);
        }
        let lifetime = Duration::from_secs(lifetime.unwrap_or(DEFAULT_LIFETIME).as_secs());
        if lifetime.is_zero() || lifetime > MAX_LIFETIME {
            return Err(TokenError::Lifetime);
        }
        let _one_at_a_time = self.making.lock().await;
        self.make_room(&tenant).await?;
        let (secret, id, hash) = text::issue();
        let created_at = record::now().replace_nanosecond(0).map_err(failed)?;
        let record = TokenRecord {
            v: record::version(),
            id,
            tenant,
            access,
            extensions,
            traces,
            label,
            created_at,
            expires_at: created_at + lifetime,
            created_by,
        };
        let bytes = Stored::new(record.clone(), hash).encode().map_err(failed)?;
        let mut headers = HeaderMap::new();
        // Never over another one, however unlikely 128 random bits make that.
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        headers.insert(header::NATS_MESSAGE_TTL, (lifetime + SHOWN_AFTER).as_secs().to_string());
        self.publish(&key_of(&record.tenant, id), headers, bytes.into()).await?;
        Ok((secret, record))
    }

    /// A tenant's tokens, the oldest first, those included that expired lately. A record that cannot be read is logged and left out.
    ///
    /// # Errors
    /// JetStream fails.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<TokenRecord>, TokenError> {
        let mut found: Vec<_> =
            self.read_all(tenant).await?.into_iter().filter_map(|(_, record)| record).collect();
        found.sort_by_key(|record| (record.created_at, record.id));
        Ok(found)
    }

    /// Whether this is a token of the tenant and holds now; by the bucket itself, so that one that was revoked is refused at once. One
    /// comparison of 32 bytes whatever is wrong.
    ///
    /// # Errors
    /// It is not, or JetStream does not answer. Nothing tells another tenant's token from one that never was.
    pub async fn check(&self, tenant: &TenantId, credential: &str) -> Result<TokenRecord, Denied> {
        let presented = text::parse(credential).map_err(|why| Denied::Invalid(why.0))?;
        let key = key_of(tenant, presented.id);
        let kept = self.read(&key).await.map_err(|error| Denied::Unavailable(chain(&error).to_string()))?;
        let mut index = Index::new(1);
        if let Some(bytes) = kept
            && let Err(error) = index.put(&key, &bytes)
        {
            tracing::warn!(key, error = %chain(&error), "a stored token cannot be read; it lets nobody in");
        }
        index.check(&presented, record::now()).map(|record| TokenRecord::clone(&record))
    }

    /// Revokes a token of the tenant: gateways refuse it as soon as they have heard, within a second. `None`: the tenant has none of
    /// that id.
    ///
    /// # Errors
    /// JetStream fails.
    pub async fn revoke(&self, tenant: &TenantId, id: TokenId) -> Result<Option<TokenRecord>, TokenError> {
        let key = key_of(tenant, id);
        let Some(bytes) = self.read(&key).await? else { return Ok(None) };
        self.remove(&key).await?;
        match Stored::decode(&key, &bytes) {
            Ok((record, _)) => Ok(Some(record)),
            Err(error) => {
                // It let nobody in, but it was there and has gone: that much is the truth.
                tracing::warn!(key, error = %chain(&error), "a token that cannot be read was removed");
                Ok(None)
            }
        }
    }

    /// Revokes all tokens of a tenant, those that cannot be read included; says how many there were.
    ///
    /// # Errors
    /// JetStream fails; some may have been revoked.
    pub async fn remove_tenant(&self, tenant: &TenantId) -> Result<usize, TokenError> {
        // Nothing is added between the listing and the removals.
        let _one_at_a_time = self.making.lock().await;
        let found = self.read_all(tenant).await?;
        for (key, _) in &found {
            self.remove(key).await?;
        }
        Ok(found.len())
    }

    /// Sees to it that one more token fits, removing expired ones that are still shown where need be.
    async fn make_room(&self, tenant: &TenantId) -> Result<(), TokenError> {
        let info = self.bounded(async { self.stream().await?.get_info().await.map_err(failed) }).await?;
        if info.state.messages >= MAX_TOKENS as u64 {
            return Err(TokenError::TooMany);
        }
        if self.keys(tenant).await?.len() < MAX_PER_TENANT {
            return Ok(());
        }
        let (found, now) = (self.read_all(tenant).await?, record::now());
        let mut left = found.len();
        for (key, record) in found {
            if record.is_some_and(|record| record.has_expired(now)) {
                self.remove(&key).await?;
                left -= 1;
            }
        }
        if left < MAX_PER_TENANT { Ok(()) } else { Err(TokenError::Full(tenant.clone())) }
    }

    /// Everything that is stored for a tenant; None where it cannot be read.
    async fn read_all(&self, tenant: &TenantId) -> Result<Vec<(String, Option<TokenRecord>)>, TokenError> {
        let keys = self.keys(tenant).await?;
        let reads = futures::stream::iter(keys.into_iter().map(|key| async move {
            let bytes = self.read(&key).await?;
            Ok::<_, TokenError>(bytes.map(|bytes| {
                let record = Stored::decode(&key, &bytes).map(|(record, _)| record);
                if let Err(error) = &record {
                    tracing::warn!(key, error = %chain(error), "a stored token cannot be read; it lets nobody in");
                }
                (key, record.ok())
            }))
        }));
        reads
            .buffer_unordered(READS)
            .try_filter_map(|found| std::future::ready(Ok(found)))
            .try_collect()
            .await
    }

    /// Keys of a tenant, those removed in the last minute included.
    async fn keys(&self, tenant: &TenantId) -> Result<Vec<String>, TokenError> {
        let prefix = format!("$KV.{BUCKET}.");
        self.bounded(async {
            let stream = self.stream().await?;
            let filter = format!("{prefix}{}", filter_of(tenant));
            let mut subjects = stream.info_with_subjects(filter).await.map_err(failed)?;
            let mut keys = Vec::new();
            while let Some((subject, _)) = subjects.try_next().await.map_err(failed)? {
                keys.extend(subject.strip_prefix(&prefix).map(str::to_owned));
            }
            Ok(keys)
        })
        .await
    }

    /// What is stored there; None also for the mark of a removal.
    async fn read(&self, key: &str) -> Result<Option<Bytes>, TokenError> {
        self.bounded(async {
            let stream = self.stream().await?;
            match stream.get_last_raw_message_by_subject(&format!("$KV.{BUCKET}.{key}")).await {
                Ok(message) => Ok((!is_removal(&message)).then_some(message.payload)),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(failed(error)),
            }
        })
        .await
    }

    async fn remove(&self, key: &str) -> Result<(), TokenError> {
        let mut headers = HeaderMap::new();
        headers.insert(KV_OPERATION, "PURGE");
        headers.insert(header::NATS_ROLLUP, "sub");
        headers.insert(header::NATS_MESSAGE_TTL, REMOVAL_MARK.as_secs().to_string());
        self.publish(key, headers, Bytes::new()).await
    }

    async fn publish(&self, key: &str, headers: HeaderMap, bytes: Bytes) -> Result<(), TokenError> {
        self.bounded(async {
            let subject = format!("$KV.{BUCKET}.{key}");
            let sent = self.context.publish_with_headers(subject, headers, bytes).await.map_err(failed)?;
            sent.await.map(drop).map_err(|error| match error.kind() {
                PublishErrorKind::TimedOut => TokenError::Timeout,
                _ => failed(error),
            })
        })
        .await
    }

    async fn stream(&self) -> Result<Stream<()>, TokenError> {
        self.context.get_stream_no_info(format!("KV_{BUCKET}")).await.map_err(failed)
    }

    /// Bounds an operation in time, and does not begin it without a connection: it would be queued and done at some later moment.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, TokenError>>) -> Result<T, TokenError> {
        if !self.link.is_connected() {
            return Err(TokenError::Disconnected);
        }
        tokio::time::timeout(OPERATION, work).await.unwrap_or(Err(TokenError::Timeout))
    }
}

/// Whether it is the mark of a removal: by a client, or by the server when a value's time is over.
fn is_removal(message: &StreamMessage) -> bool {
    [KV_OPERATION, header::NATS_MARKER_REASON.as_ref()]
        .iter()
        .any(|mark| message.headers.get(*mark).is_some_and(|operation| operation.as_str() != "PUT"))
}
