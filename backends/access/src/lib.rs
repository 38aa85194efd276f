//! Who may call what: bearer tokens of tenants, kept as hashes in a JetStream key-value bucket, and JWTs of an issuer that
//! the operator names.
//!
//! The admin service makes and revokes tokens through [`TokenStore`]. A gateway runs [`Tokens`], which watches them, opens
//! [`Jwts`] from [`AccessSettings`], and asks [`Authenticator`] about each caller.

mod authenticator;
mod jwt;
mod seam;
mod settings;
mod tokens;

pub use authenticator::Authenticator;
pub use jwt::{JwtError, Jwts, KeysError};
pub use seam::{Access, Authenticate, Credential, Denied, Principal};
pub use settings::{AccessSettings, DefaultAccess};
pub use tokens::{
    AccessMetrics, BUCKET, DEFAULT_LIFETIME, MAX_EXTENSIONS, MAX_LABEL_CHARS, MAX_LIFETIME, MAX_PER_TENANT,
    MAX_TOKENS, NewToken, NotAToken, TokenError, TokenId, TokenRecord, TokenStore, Tokens, bucket,
};
