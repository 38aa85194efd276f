//! Ids that name things in subjects, keys and paths. Each is checked where it enters, so that a subject, an object
//! key or a cache path can be built from it by plain formatting.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use rand::RngExt as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty, too long, or with a character outside the allowed set.
    #[error("{what} must be 1 to 128 characters of A-Z a-z 0-9 . _ - and no dots alone")]
    Name {
        /// Which id was refused.
        what: &'static str,
    },
    /// Not 64 hex digits after an optional `sha256:`.
    #[error("a content hash is 64 hex digits after an optional `sha256:`")]
    ContentHash,
    /// Not 32 hex digits.
    #[error("{what} is 32 hex digits")]
    Random {
        /// Which id was refused.
        what: &'static str,
    },
    /// A pool name that the subjects use for something else.
    #[error("`shim` is no pool name: `fleet.shim.*` and `ctl.shim.*` belong to the shims")]
    ReservedPool,
}

/// `[A-Za-z0-9._-]{1,128}`; `.` and `..` are refused because ids become path segments.
fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !text.bytes().all(|b| b == b'.')
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(IdError::Name { what: $what }) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_id!(
    /// A tenant of the SaaS, as its own platform names it (a UUID in the existing one).
    TenantId,
    "a tenant id"
);
name_id!(
    /// An extension: the registry UUID in the existing platform (interop 0.6).
    ExtensionId,
    "an extension id"
);

/// A named set of workers. No dots: the name is one token of a subject.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct PoolName(std::sync::Arc<str>);

impl PoolName {
    /// The pool as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PoolName {
    fn default() -> Self {
        Self("default".into())
    }
}

impl FromStr for PoolName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if !is_name(text) || text.contains('.') {
            return Err(IdError::Name { what: "a pool name (no dots)" });
        }
        if text == "shim" { Err(IdError::ReservedPool) } else { Ok(Self(text.into())) }
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PoolName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new one: 128 bits of the operating system's randomness.
            pub fn random() -> Self {
                Self(rand::rng().random())
            }
            /// From given bytes: simulations and golden files need reproducible ids.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
            /// The 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0u8; 32];
                match hex::encode_to_slice(self.0, &mut text) {
                    Ok(()) => f.write_str(std::str::from_utf8(&text).unwrap_or_default()),
                    Err(_) => Err(fmt::Error),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0u8; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::Random { what: $what })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_bytes(&self.0) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    return Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom);
                }
                let bytes = serde_bytes::ByteArray::<16>::deserialize(d)?;
                Ok(Self(bytes.into_array()))
            }
        }
    };
}

random_id!(
    /// One run of a component for one call. Attempts of the same call share it.
    ExecutionId,
    "an execution id"
);
random_id!(
    /// A process, made at its start: a restarted worker is another worker, so nothing addressed to the old one can
    /// reach it. Names are labels.
    BootId,
    "a boot id"
);
random_id!(
    /// 128 random bits in a reply subject: whoever cannot guess it cannot forge a reply.
    Token,
    "a token"
);

/// The number of one send of a call. Counted by each shim over all its calls, never reused: "everything up to
/// number n that I no longer list is acknowledged" is only sound if numbers grow over calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SendNo(pub u64);

impl fmt::Display for SendNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The SHA-256 of a bundle's bytes: 64 hex digits, any case, after an optional `sha256:`; kept in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// From a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// The 64 hex digits without prefix, as object keys and cache folders spell it.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for ContentHash {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = match text.split_at_checked(7) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("sha256:") => rest,
            _ => text,
        };
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| IdError::ContentHash)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0u8; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str("sha256:")?;
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_subject_or_path_character_is_refused() {
        for bad in ["", ".", "..", "a b", "a/b", "a*", "a>", "ä", "a\0", &"x".repeat(129)] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad:?}");
        }
        for good in ["a", "1573867a-384d-4555-a206-bcfd86440ac1", "com.alga.sample", &"x".repeat(128)] {
            assert_eq!(good.parse::<TenantId>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_content_hash_is_taken_in_any_case_with_or_without_prefix() {
        let hex = "c4bf05d95138f23599c175b28ad6460cd268ad0e498f581526af9e8097318201";
        for form in [
            hex.to_owned(),
            hex.to_uppercase(),
            format!("sha256:{hex}"),
            format!("SHA256:{}", hex.to_uppercase()),
        ] {
            assert_eq!(form.parse::<ContentHash>().unwrap().hex(), hex);
        }
        for bad in [
            "",
            "sha256:",
            "sha256:abc",
            &hex[1..],
            &format!("{hex}00"),
            &format!("sha512:{hex}"),
            &format!("../{hex}"),
        ] {
            assert!(bad.parse::<ContentHash>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pool_is_one_subject_token_and_never_the_shims_own() {
        assert!("shim".parse::<PoolName>().is_err());
        assert!("a.b".parse::<PoolName>().is_err());
        assert_eq!("gpu-1".parse::<PoolName>().unwrap().as_str(), "gpu-1");
    }

    #[test]
    fn random_ids_survive_json_and_messagepack() {
        let id = ExecutionId::random();
        assert_eq!(serde_json::from_str::<ExecutionId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        assert_eq!(crate::wire::decode::<ExecutionId>(&crate::wire::encode(&id).unwrap()).unwrap(), id);
        assert_eq!(id.to_string().parse::<ExecutionId>().unwrap(), id);
    }
}
