//! Headers that carry credentials, and which part of their values those are.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

/// Names that are sensitive as they are.
const NAMES: [&str; 9] = [
    "authorization",
    "cookie",
    "ocp-apim-subscription-key",
    "proxy-authorization",
    "set-cookie",
    "x-functions-key",
    "x-runner-auth",
    "x-shared-key",
    "www-authorization",
];
/// Sensitive is a name with a word that ends so (`x-amz-security-token`, `x-authtoken`). Not `tokens`: those are counted
/// (`anthropic-ratelimit-tokens-remaining`), nor `secrets` (`x-ext-secrets-version`).
const ENDS: [&str; 8] =
    ["token", "secret", "password", "passwd", "passphrase", "credential", "credentials", "jwt"];
/// Or a name that has this in it.
const PARTS: [&str; 5] = ["api-key", "apikey", "access-key", "auth-key", "private-key"];
/// Schemes of authentication (IANA's registry, and what is used besides): they stay readable. Another first word may
/// be part of a secret.
const SCHEMES: [&str; 16] = [
    "apikey",
    "aws4-hmac-sha256",
    "basic",
    "bearer",
    "digest",
    "dpop",
    "gnap",
    "hoba",
    "key",
    "mutual",
    "negotiate",
    "ntlm",
    "scram-sha-1",
    "scram-sha-256",
    "token",
    "vapid",
];

/// Whether a header of that name, in any case, carries credentials: `authorization`, `cookie` and their like, and
/// names that end in or contain `token`, `secret`, `password`, `api-key`. A [`super::Policy`] may name more.
pub fn is_sensitive_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    NAMES.contains(&name.as_str())
        || PARTS.iter().any(|part| name.contains(part))
        || name.split('-').any(|word| ENDS.iter().any(|end| word.ends_with(end)))
}

/// A part of a header's value that is secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// As it stands.
    Plain(Range<usize>),
    /// The base64 of `user:password`.
    Basic(Range<usize>),
}

/// What of the value of a sensitive header is secret.
pub(super) fn parts(name: &str, value: &str) -> Vec<Part> {
    if name.eq_ignore_ascii_case("cookie") {
        return pairs(value, usize::MAX);
    }
    if name.eq_ignore_ascii_case("set-cookie") {
        // Its attributes (`Path`, `Max-Age`) are none.
        return pairs(value, 1);
    }
    let whole = 0..value.len();
    let Some((scheme, credentials)) = value.split_once(' ') else { return vec![Part::Plain(whole)] };
    if credentials.trim().is_empty() || !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return vec![Part::Plain(whole)];
    }
    let from = value.len() - credentials.trim_start().len();
    let range = from..from + credentials.trim().len();
    if scheme.eq_ignore_ascii_case("basic") { vec![Part::Basic(range)] } else { vec![Part::Plain(range)] }
}

/// The values of the first so many `name=value` between semicolons.
fn pairs(value: &str, count: usize) -> Vec<Part> {
    let begin = value.as_ptr() as usize;
    let pair = |pair: &str| {
        let secret = pair.split_once('=').map_or(pair, |(_, value)| value).trim();
        // Quotes belong to the value's spelling.
        let secret = secret.strip_prefix('"').and_then(|secret| secret.strip_suffix('"')).unwrap_or(secret);
        let from = secret.as_ptr() as usize - begin;
        Part::Plain(from..from + secret.len())
    };
    value.split(';').take(count).map(pair).collect()
}

/// What the credentials of Basic decode to.
pub(super) fn decode_basic(credentials: &str) -> Option<Zeroizing<Vec<u8>>> {
    let decoded = STANDARD.decode(credentials).or_else(|_| STANDARD_NO_PAD.decode(credentials));
    decoded.ok().map(Zeroizing::new)
}

/// The reverse, padded if `like` is.
pub(super) fn encode_basic(decoded: &[u8], like: &str) -> String {
    if like.ends_with('=') || like.len().is_multiple_of(4) {
        STANDARD.encode(decoded)
    } else {
        STANDARD_NO_PAD.encode(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_credentials_are_known_by_name() {
        for name in [
            "authorization",
            "Authorization",
            "PROXY-AUTHORIZATION",
            "cookie",
            "Set-Cookie",
            "x-api-key",
            "X_API_KEY",
            "x-goog-api-key",
            "apikey",
            "x-runner-auth",
            "x-auth-token",
            "x-amz-security-token",
            "x-authtoken",
            "x-csrf-token",
            "x-client-secret",
            "x-password",
            "x-token-id",
        ] {
            assert!(is_sensitive_header(name), "{name}");
        }
        for name in [
            "content-type",
            "x-request-id",
            "x-ext-secrets-version",
            "anthropic-ratelimit-tokens-remaining",
            "x-tokenizer",
            "idempotency-key",
            "sec-websocket-key",
            "etag",
            "",
        ] {
            assert!(!is_sensitive_header(name), "{name}");
        }
    }

    #[test]
    fn the_secret_part_of_a_value_is_told_from_the_rest() {
        let secret = |name: &str, value: &str| -> Vec<String> {
            let part = |part| match part {
                Part::Plain(range) => value[range].to_owned(),
                Part::Basic(range) => format!("basic {}", &value[range]),
            };
            parts(name, value).into_iter().map(part).collect()
        };
        assert_eq!(secret("authorization", "Bearer abc"), ["abc"]);
        assert_eq!(secret("authorization", "bearer   abc "), ["abc"]);
        assert_eq!(secret("proxy-authorization", "Basic dTpw"), ["basic dTpw"]);
        assert_eq!(secret("authorization", "my secret words"), ["my secret words"]);
        assert_eq!(secret("authorization", "Bearer "), ["Bearer "]);
        assert_eq!(secret("x-api-key", "abc"), ["abc"]);
        assert_eq!(secret("cookie", "a=1; b=\"two=2\"; three;"), ["1", "two=2", "three", ""]);
        assert_eq!(secret("set-cookie", "sid=abc; Path=/; HttpOnly"), ["abc"]);
        assert_eq!(secret("cookie", ""), [""]);
    }
}
