//! What the gateway asks about a caller.

use async_trait::async_trait;
use longshore_proto::TenantId;

/// What a credential allows. Writing includes reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// GET, HEAD and OPTIONS.
    Read,
    /// Every method.
    Write,
}

/// By what a caller was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token; its id, which is no secret.
    Token(String),
    /// A JWT; its subject, if it names one.
    Jwt(Option<String>),
    /// A caller on this machine without a credential: development only.
    Loopback,
}

/// Somebody who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The one tenant whose installs it may call.
    pub tenant: TenantId,
    /// What it may do with them.
    pub access: Access,
    /// The extensions it may call, as registry ids or names; None: all of the tenant's.
    pub extensions: Option<Vec<String>>,
    /// By what it was recognised: for logs and audit.
    pub credential: Credential,
}

/// Why nobody was recognised. The caller is told the same words for all but [`Self::Unavailable`]; the log has the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not a token of ours and no JWT that could hold; the reason is for the log and holds no part of the credential.
    #[error("the credential is not valid: {0}")]
    Invalid(&'static str),
    /// It was valid once.
    #[error("the credential has expired")]
    Expired,
    /// Tokens are not known yet, or not for too long.
    #[error("tokens cannot be checked now: {0}")]
    Unavailable(String),
}

/// Recognises callers.
#[async_trait]
pub trait Authenticate: Send + Sync + 'static {
    /// Who the bearer of `credential` (what follows `Bearer `) is. Takes the same time whichever part of a token is wrong.
    async fn authenticate(&self, credential: &str) -> Result<Principal, Denied>;
}
