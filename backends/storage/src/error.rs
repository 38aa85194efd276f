//! Why there is no entry, and what the guest is told of it.

/// A cause that only the log shows.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation has not been done. The texts name limit and value and are for the debug event and the log.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No such entry.
    #[error("there is no such entry")]
    Missing,
    /// The entry there has another revision than the one named.
    #[error("the entry has another revision than the one named")]
    Conflict,
    /// Not allowed.
    #[error("denied: {0}")]
    Denied(Refusal),
    /// A name or another argument that no backend takes. Nothing has been sent.
    #[error("{0}")]
    Invalid(Invalid),
    /// The value is too large. Nothing has been sent.
    #[error("the value has {bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// Bytes of the value.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The install has used up what it may have.
    #[error("the write would make {value} {what}, the quota is {limit}")]
    Quota {
        /// Which quota.
        what: QuotaKind,
        /// Allowed.
        limit: u64,
        /// What it would be after the write.
        value: u64,
    },
    /// The backend is away, slow or answers nonsense. A write may have happened.
    #[error("the storage does not answer as it should")]
    Unavailable(#[source] Cause),
}

/// Who said no, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The call belongs to no install (interop 1.3).
    #[error("the call names no install")]
    NoInstall,
    /// The install's id cannot be part of a request to the platform.
    #[error("{0}")]
    InstallId(String),
    /// The platform said so: 401, 403 or 429, in words that its client has cut and cleaned.
    #[error("{0}")]
    Platform(String),
}

/// What is wrong with an argument.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Invalid {
    /// Nothing where a name must be.
    #[error("the {what} is empty")]
    Empty {
        /// Namespace or key.
        what: &'static str,
    },
    /// A name that is too long.
    #[error("the {what} has {length} {unit}, {limit} are allowed")]
    TooLong {
        /// Namespace, key, cursor or install id.
        what: &'static str,
        /// Its length.
        length: usize,
        /// Characters or bytes.
        unit: &'static str,
        /// The length allowed.
        limit: usize,
    },
    /// A character that a name cannot have.
    #[error("the {what} has the character {character:?} at byte {at}")]
    Character {
        /// Namespace, key or cursor.
        what: &'static str,
        /// The character.
        character: char,
        /// Where it is.
        at: usize,
    },
    /// A life that is too short or too long.
    #[error("a life of {seconds} s is outside of {min} to {max} s")]
    Ttl {
        /// The one asked for.
        seconds: u64,
        /// The shortest allowed.
        min: u64,
        /// The longest allowed.
        max: u64,
    },
    /// The platform's client refused it.
    #[error("{field} {rule}")]
    Platform {
        /// The argument.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The platform's interface cannot give an entry a life.
    #[error("this storage cannot give an entry a time to live")]
    NoTtl,
}

/// What is counted for an install.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuotaKind {
    /// Namespaces with at least one entry.
    Namespaces,
    /// Keys of one namespace.
    Keys,
    /// Bytes of all keys and values.
    Bytes,
}

impl std::fmt::Display for QuotaKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "namespaces",
            Self::Keys => "keys in the namespace",
            Self::Bytes => "bytes in all keys and values",
        })
    }
}

/// The cases of the guest interface's `storage-error` (interop 1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StorageCase {
    /// `missing`
    Missing,
    /// `conflict`
    Conflict,
    /// `denied`
    Denied,
    /// `internal`
    Internal,
}

impl StorageError {
    /// What the guest gets. As the platform's statuses map (interop 6.3): invalid input and an oversized value are 400,
    /// so `internal`; a quota is 429, so `denied`.
    pub fn wit_case(&self) -> StorageCase {
        match self {
            Self::Missing => StorageCase::Missing,
            Self::Conflict => StorageCase::Conflict,
            Self::Denied(_) | Self::Quota { .. } => StorageCase::Denied,
            Self::Invalid(_) | Self::TooLarge { .. } | Self::Unavailable(_) => StorageCase::Internal,
        }
    }

    pub(crate) fn unavailable(cause: impl Into<Cause>) -> Self {
        Self::Unavailable(cause.into())
    }
}
