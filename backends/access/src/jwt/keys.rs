//! The issuer's public keys, as a JWK set (RFC 7517).
//!
//! A key is good for one algorithm, which follows from its type; what a token's header says only has to agree. So a token cannot
//! choose how it is checked: no `none`, no HMAC with a public key as its secret, no P-256 key read as an RSA one (RFC 8725, 3.1).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::Value;

use super::json::Object;

/// The largest file.
pub(super) const MAX_FILE_BYTES: usize = 256 * 1024;
/// The most keys in it. Issuers publish two or three.
const MAX_KEYS: usize = 64;
/// The longest key id.
pub(super) const MAX_KID_BYTES: usize = 256;

/// Bytes of an RSA modulus: 2048 to 8192 bits, as ring checks them.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Why a set of keys is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The file is larger than any set of keys.
    #[error("it has over {MAX_FILE_BYTES} bytes")]
    TooLarge,
    /// No JSON object with a list `keys`, or a key in it is no object.
    #[error("it is no JWK set: expected {{\"keys\":[...]}}")]
    NotASet,
    /// Too many keys.
    #[error("it has over {MAX_KEYS} keys")]
    TooMany,
    /// A private key in a file of public ones: whoever reads the file could issue tokens.
    #[error(
        "the key {0:?} is a private one: give the issuer's public keys only, and replace this one at the issuer"
    )]
    Private(String),
    /// Two keys of one id.
    #[error("two keys have the id {0:?}")]
    Twice(String),
    /// Nothing that could check a token.
    #[error(
        "none of its {0} keys can be used: expected RSA from 2048 bits, P-256 or Ed25519, for signatures, each with a `kid`"
    )]
    None(usize),
}

/// A key and the one way to use it.
pub(super) enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

impl Key {
    /// Whether a header's `alg` is this key's. `Ed25519` is the newer name of the same thing (RFC 9864).
    pub(super) fn takes(&self, alg: &str) -> bool {
        match self {
            Self::Rsa { .. } => alg == "RS256",
            Self::P256(_) => alg == "ES256",
            Self::Ed25519(_) => matches!(alg, "EdDSA" | "Ed25519"),
        }
    }

    /// Whether the signature is this key's.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }
}

/// Keys by their ids.
pub(super) struct Keys(BTreeMap<String, Key>);

impl Keys {
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeysError> {
        if json.len() > MAX_FILE_BYTES {
            return Err(KeysError::TooLarge);
        }
        let set = Object::parse(json).ok_or(KeysError::NotASet)?;
        let Some(Value::Array(list)) = set.get("keys") else { return Err(KeysError::NotASet) };
        if list.len() > MAX_KEYS {
            return Err(KeysError::TooMany);
        }
        let mut keys = BTreeMap::new();
        for jwk in list {
            let Value::Object(jwk) = jwk else { return Err(KeysError::NotASet) };
            let text = |name: &str| jwk.get(name).and_then(Value::as_str);
            let kid = text("kid").filter(|kid| (1..=MAX_KID_BYTES).contains(&kid.len()));
            // `k` is a symmetric key; the others are the private parts of RSA, EC and OKP keys.
            if ["d", "p", "q", "dp", "dq", "qi", "k"].iter().any(|name| jwk.contains_key(*name)) {
                return Err(KeysError::Private(kid.unwrap_or_default().to_owned()));
            }
            let key = kid.zip(usable(jwk));
            let Some((kid, key)) = key else {
                // Sets hold keys for encryption and for other algorithms too.
                tracing::debug!(
                    kid,
                    kty = text("kty"),
                    alg = text("alg"),
                    "a key of the JWK set is not used"
                );
                continue;
            };
            if keys.insert(kid.to_owned(), key).is_some() {
                return Err(KeysError::Twice(kid.to_owned()));
            }
        }
        if keys.is_empty() { Err(KeysError::None(list.len())) } else { Ok(Self(keys)) }
    }

    /// The key of this id. The id comes from a token that nobody has checked yet: it is compared and nothing else.
    pub(super) fn get(&self, kid: &str) -> Option<&Key> {
        self.0.get(kid)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The key, if it is for the checking of signatures in one of the three ways.
fn usable(jwk: &serde_json::Map<String, Value>) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let for_signatures = jwk.get("use").is_none_or(|purpose| purpose == "sig")
        && jwk.get("key_ops").is_none_or(|ops| {
            ops.as_array().is_some_and(|ops| ops.iter().any(|operation| operation == "verify"))
        });
    if !for_signatures {
        return None;
    }
    let key = match (text("kty")?, text("crv")) {
        ("RSA", None) => {
            let number = |name| {
                let bytes = bytes(name)?;
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                Some(bytes.get(zeros..)?.to_vec())
            };
            let (n, e) = (number("n")?, number("e")?);
            (MODULUS_BYTES.contains(&n.len()) && (1..=5).contains(&e.len())).then_some(Key::Rsa { n, e })?
        }
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == 32 && y.len() == 32).then_some(())?;
            // The uncompressed form: 4, x, y.
            Key::P256([vec![4], x, y].concat().try_into().ok()?)
        }
        ("OKP", Some("Ed25519")) => Key::Ed25519(bytes("x")?.try_into().ok()?),
        _ => return None,
    };
    // Where the key itself names its algorithm, it must be this one: an RSA key for RS512 or PS256 is not for RS256.
    jwk.get("alg").is_none_or(|alg| alg.as_str().is_some_and(|alg| key.takes(alg))).then_some(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn point() -> String {
        URL_SAFE_NO_PAD.encode([7; 32])
    }

    fn ed(kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": point()})
    }

    fn parse(keys: &[Value]) -> Result<Keys, KeysError> {
        Keys::parse(json!({"keys": keys}).to_string().as_bytes())
    }

    #[test]
    fn keys_for_something_else_are_left_out() {
        let with = |name: &str, value: Value| {
            let mut jwk = ed("b");
            jwk[name] = value;
            jwk
        };
        let left_out = [
            with("use", json!("enc")),
            with("use", json!(1)),
            with("key_ops", json!(["sign"])),
            with("key_ops", json!("verify")),
            with("alg", json!("RS256")),
            with("alg", json!("none")),
            with("alg", json!(["EdDSA"])),
            with("crv", json!("Ed448")),
            with("crv", json!("P-256")),
            with("kty", json!("RSA")),
            with("kty", json!("oct")),
            with("x", json!("AAAA")),
            with("x", json!(URL_SAFE_NO_PAD.encode([7; 33]))),
            with("kid", json!("")),
            with("kid", json!("k".repeat(257))),
            with("kid", json!(["b"])),
            json!({"kty": "EC", "crv": "P-384", "kid": "b", "x": point(), "y": point()}),
            json!({"kty": "EC", "crv": "P-256", "kid": "b", "x": point()}),
            // 1024 bits, and an exponent that is none.
            json!({"kty": "RSA", "kid": "b", "n": URL_SAFE_NO_PAD.encode([9; 128]), "e": "AQAB"}),
            json!({"kty": "RSA", "kid": "b", "n": URL_SAFE_NO_PAD.encode([9; 256]), "e": ""}),
            json!({}),
        ];
        for jwk in left_out {
            let keys = parse(&[ed("a"), jwk.clone()]).unwrap();
            assert_eq!(keys.len(), 1, "{jwk}");
            assert!(keys.get("b").is_none(), "{jwk}");
            assert_eq!(parse(&[jwk]).err(), Some(KeysError::None(1)));
        }
    }

    #[test]
    fn the_three_kinds_of_keys_are_taken_and_each_for_one_algorithm() {
        let keys = parse(&[
            json!({"kty": "RSA", "kid": "rsa", "alg": "RS256", "use": "sig", "n": URL_SAFE_NO_PAD.encode([9; 256]), "e": "AQAB"}),
            json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": point(), "y": point(), "key_ops": ["verify"]}),
            ed("ed"),
        ])
        .unwrap();
        for (kid, taken) in [("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")] {
            let key = keys.get(kid).unwrap();
            for alg in ["RS256", "ES256", "EdDSA", "none", "HS256", "RS512", "PS256", "ES384", "rs256", ""] {
                assert_eq!(key.takes(alg), alg == taken, "{kid} {alg}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_what_it_should_be_is_refused_as_a_whole() {
        let mut private = ed("a");
        private["d"] = json!(point());
        assert_eq!(parse(&[ed("b"), private]).err(), Some(KeysError::Private("a".to_owned())));
        let symmetric = json!({"kty": "oct", "kid": "a", "k": "AAAA"});
        assert_eq!(parse(&[symmetric]).err(), Some(KeysError::Private("a".to_owned())));
        assert_eq!(parse(&[ed("a"), ed("a")]).err(), Some(KeysError::Twice("a".to_owned())));
        assert_eq!(parse(&vec![ed("a"); 65]).err(), Some(KeysError::TooMany));
        assert_eq!(parse(&[]).err(), Some(KeysError::None(0)));
        assert_eq!(parse(&[json!(1)]).err(), Some(KeysError::NotASet));
        for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(Keys::parse(bad.as_bytes()).err(), Some(KeysError::NotASet), "{bad}");
        }
        assert_eq!(Keys::parse(&vec![b' '; MAX_FILE_BYTES + 1]).err(), Some(KeysError::TooLarge));
    }
}
