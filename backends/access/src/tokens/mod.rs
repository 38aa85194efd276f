//! Tokens: bearer credentials of one tenant, kept as hashes in a JetStream key-value bucket. The admin service writes them
//! ([`TokenStore`]), gateways watch them ([`Tokens`]).

mod index;
mod reader;
mod record;
mod store;
mod text;

use std::time::Duration;

use longshore_service::nats::buckets::Settings;

pub use reader::{AccessMetrics, Tokens};
pub(crate) use record::now;
pub use record::{MAX_EXTENSIONS, MAX_LABEL_CHARS, TokenRecord};
pub use store::{NewToken, TokenError, TokenStore};
pub(crate) use text::PREFIX;
pub use text::{NotAToken, TokenId};

/// The bucket.
pub const BUCKET: &str = "longshore-tokens";

/// Tokens of one tenant.
pub const MAX_PER_TENANT: usize = 1_000;

/// Tokens of the fleet; each gateway keeps all of them in memory, at about 500 bytes.
pub const MAX_TOKENS: usize = 200_000;

/// How long a token is valid where nobody says how long.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// The longest that a token can be valid: a leap year. There is none that is valid for ever, since nobody would look for it.
pub const MAX_LIFETIME: Duration = Duration::from_secs(366 * 86_400);

/// The longest record: 64 names of extensions of 256 bytes, and what little there is besides, as JSON.
const MAX_RECORD_BYTES: u32 = 64 * 1024;

/// The version of the bucket's settings below; counted up with each change to them.
const SETTINGS_VERSION: u32 = 1;

/// The bucket as the admin service makes it.
pub fn bucket() -> Settings {
    Settings::bucket(BUCKET, SETTINGS_VERSION)
        .describe("Longshore: tokens of tenants, as hashes")
        .max_message_bytes(MAX_RECORD_BYTES)
}
