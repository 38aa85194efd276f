//! Who a caller is, by whichever of the two kinds of credentials it has.

use async_trait::async_trait;

use crate::tokens::{self, Tokens};
use crate::{Authenticate, Denied, Jwts, Principal};

/// Recognises bearers of tokens and, where an issuer is set, of its JWTs.
pub struct Authenticator {
    tokens: Tokens,
    jwts: Option<Jwts>,
}

impl Authenticator {
    /// From both; `jwts` as [`Jwts::open`] answers it.
    pub fn new(tokens: Tokens, jwts: Option<Jwts>) -> Self {
        Self { tokens, jwts }
    }
}

#[async_trait]
impl Authenticate for Authenticator {
    async fn authenticate(&self, credential: &str) -> Result<Principal, Denied> {
        let now = tokens::now();
        // A JWT begins with `ey` (the base64 of `{"`), so nothing can be both.
        let result = if credential.starts_with(tokens::PREFIX) {
            self.tokens.check(credential, now)
        } else {
            match &self.jwts {
                Some(jwts) => jwts.check(credential, now.unix_timestamp()).await,
                None => Err(Denied::Invalid("not in the form of a token, and no JWT is taken here")),
            }
        };
        if let Err(denied) = &result {
            self.tokens.metrics().denied(denied);
            tracing::debug!(%denied, "a caller is not recognised");
        }
        result
    }
}
