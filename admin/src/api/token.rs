//! Tokens of callers.

use longshore_access::Access;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How a token names an extension, for the document: registry id or name.
#[derive(Debug, ToSchema)]
#[schema(min_length = 1, max_length = 256, pattern = "^[\\x21-\\x7e]+$")]
#[expect(dead_code, reason = "only the document has it; requests have the text")]
struct ExtensionName(String);

/// Makes a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// `read` (GET, HEAD, OPTIONS) or `write` (every method).
    #[schema(value_type = String, pattern = "^(read|write)$")]
    pub access: Access,
    /// The extensions that may be called, by registry id or name. Absent: all of the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<ExtensionName>>, min_items = 1, max_items = 64)]
    pub extensions: Option<Vec<String>>,
    /// It also reads the tenant's recorded runs and debug events, through this service: those of all extensions, so that a token that is
    /// limited to some cannot have it. Absent: it does not.
    #[serde(default)]
    pub traces: bool,
    /// What it is for; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub label: Option<String>,
    /// How long it holds, in seconds; absent: 90 days. At most 366 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31622400)]
    pub expires_in_s: Option<u64>,
}

/// A token that was made. The only answer that ever holds its text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The text that callers send as `Authorization: Bearer`.
    pub secret: String,
    /// What is kept of it.
    pub token: TokenView,
}

impl std::fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCreated").field("token", &self.token).finish_non_exhaustive()
    }
}

/// A token, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id, which is no secret.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// `read` or `write`.
    #[schema(value_type = String)]
    pub access: Access,
    /// The extensions that may be called; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Vec<String>>,
    /// It also reads recorded runs and debug events.
    #[serde(default)]
    pub traces: bool,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub expires_at: String,
    /// Whether that is over.
    pub expired: bool,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// Which tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TokenQuery {}

/// A tenant's tokens, the newest first; a tenant has at most 1,000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// The tokens.
    pub tokens: Vec<TokenView>,
}

/// A token that was revoked: gateways refuse it within a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRevoked {
    /// Its id.
    pub id: String,
}
