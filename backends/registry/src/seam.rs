//! What the gateway asks of a registry.

use std::sync::Arc;

use async_trait::async_trait;
use longshore_proto::install::Install;
use longshore_proto::{ContentHash, ExtensionId, TenantId};
use tokio::sync::broadcast;

/// Why a registry gave no answer. Never a refusal, and never remembered as one.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The watch has not read the whole bucket yet, or its connection is gone for longer than what it knows may be used.
    #[error("installs are not known yet: {0}")]
    NotReady(String),
    /// There is no bucket of installs: nobody keeps any in this fleet. A lookup has no answer all the same, because the admin service
    /// may be about to make it.
    #[error("no installs are kept here: {0}")]
    NotKept(String),
    /// The platform did not answer within its budget, or with an error.
    #[error("the platform's registry did not answer")]
    Upstream(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A record that cannot be read; the log names it.
    #[error("the install's record is damaged: {0}")]
    Damaged(String),
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// The install, enabled or not.
    Found(Arc<Install>),
    /// The tenant has none of that name; the same for an install of another tenant.
    Absent,
}

/// Where a host name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTarget {
    /// Whose.
    pub tenant: TenantId,
    /// Which extension.
    pub extension: ExtensionId,
    /// Which bundle.
    pub content_hash: ContentHash,
}

/// An install was made, changed or removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Whose.
    pub tenant: TenantId,
    /// Which extension.
    pub extension: ExtensionId,
    /// As it is now; None: removed.
    pub now: Option<Arc<Install>>,
}

impl Change {
    /// Whether its calls have to stop: it was removed or disabled.
    pub fn stops_calls(&self) -> bool {
        self.now.as_ref().is_none_or(|install| !install.enabled)
    }
}

/// Where installs are looked up. Every question names the tenant, so no answer can be about another's.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// An install by what callers call it: install id, registry id, manifest name, or `publisher.name` in any case. Ids
    /// go before names; a name that two extensions of the tenant share finds neither.
    async fn find(&self, tenant: &TenantId, reference: &str) -> Result<Lookup, RegistryError>;

    /// Whether the tenant has this bundle of the extension installed: the version in force or one that `rollback` may
    /// bring back.
    async fn validate(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        hash: ContentHash,
    ) -> Result<bool, RegistryError>;

    /// Which pages a host name (lower-cased, without port) leads to.
    async fn by_host(&self, host: &str) -> Result<Option<HostTarget>, RegistryError>;

    /// Changes from now on. A receiver that lags has missed some and looks at everything it holds again. A registry that
    /// hears of no changes (the platform's) never sends.
    fn changes(&self) -> broadcast::Receiver<Change>;
}
