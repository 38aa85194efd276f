//! Whose signatures count.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::{KeyId, PublicKey, SignatureError};

/// What a key may do, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRules {
    /// `Not-Before`: from then on.
    pub not_before: Option<DateTime<Utc>>,
    /// `Not-After`: until then, that moment not included.
    pub not_after: Option<DateTime<Utc>>,
    /// `Revoked`: from then on nothing that it ever signed counts. `yes` is the beginning of time.
    pub revoked: Option<DateTime<Utc>>,
    /// `Publishers`: for whose bundles. Empty: for everybody's.
    pub publishers: Vec<String>,
}

impl KeyRules {
    /// Whether a signature of the key counts now.
    pub(super) fn check(&self, key_id: &KeyId, now: DateTime<Utc>) -> Result<(), SignatureError> {
        let key_id = || key_id.clone();
        // Revocation first: of two reasons it is the one that matters.
        if self.revoked.is_some_and(|revoked| revoked <= now) {
            return Err(SignatureError::Revoked { key_id: key_id() });
        }
        if let Some(not_before) = self.not_before.filter(|not_before| now < *not_before) {
            return Err(SignatureError::NotYetValid { key_id: key_id(), not_before });
        }
        if let Some(not_after) = self.not_after.filter(|not_after| *not_after <= now) {
            return Err(SignatureError::Expired { key_id: key_id(), not_after });
        }
        Ok(())
    }

    /// The moment from which a "yes" of now has to be asked for again.
    pub(super) fn holds_until(&self) -> Option<DateTime<Utc>> {
        self.not_after.into_iter().chain(self.revoked).min()
    }

    pub(super) fn allows(&self, publisher: &str) -> bool {
        self.publishers.is_empty() || self.publishers.iter().any(|allowed| allowed == publisher)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TrustedKey {
    pub key: PublicKey,
    pub rules: KeyRules,
}

/// The keys whose signatures count. Empty: no signature does.
///
/// Made from text by [`TrustBundle::parse`]: public keys in PEM, before each the lines that hold for it, and anywhere
/// `Revoked-Keys`:
///
/// ```
/// let text = "\
/// ## Who signs releases.
/// Key-Id: release-2026
/// Not-Before: 2026-01-01
/// Not-After: 2027-06-30T12:00:00Z
/// Publishers: Alga, Longshore
/// -----BEGIN PUBLIC KEY-----
/// MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
/// -----END PUBLIC KEY-----
///
/// Revoked-Keys: release-2024, ed25519-0123456789abcdef
/// ";
/// let trust = longshore_bundle::signature::TrustBundle::parse(text).unwrap();
/// assert_eq!(trust.len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustBundle {
    pub(super) keys: HashMap<KeyId, TrustedKey>,
    pub(super) revoked: HashSet<KeyId>,
}

impl TrustBundle {
    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no signature counts.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Its keys in the order of their names: name, fingerprint, rules, and whether `Revoked-Keys` names it.
    pub fn keys(&self) -> Vec<(&KeyId, KeyId, &KeyRules, bool)> {
        let mut keys: Vec<_> = self
            .keys
            .iter()
            .map(|(id, key)| (id, key.key.fingerprint(), &key.rules, self.lists_as_revoked(id, &key.key)))
            .collect();
        keys.sort_by(|a, b| a.0.cmp(b.0));
        keys
    }

    /// By its name or its fingerprint: an operator knows one or the other.
    fn lists_as_revoked(&self, id: &KeyId, key: &PublicKey) -> bool {
        self.revoked.contains(id) || (!self.revoked.is_empty() && self.revoked.contains(&key.fingerprint()))
    }

    /// The key, if its signatures count now.
    pub(super) fn usable(&self, id: &KeyId, now: DateTime<Utc>) -> Result<&TrustedKey, SignatureError> {
        let unknown = || {
            // A key that was taken out of the file and put on the list is still better named.
            if self.revoked.contains(id) {
                SignatureError::Revoked { key_id: id.clone() }
            } else {
                SignatureError::UnknownKey { key_id: id.clone() }
            }
        };
        let key = self.keys.get(id).ok_or_else(unknown)?;
        if self.lists_as_revoked(id, &key.key) {
            return Err(SignatureError::Revoked { key_id: id.clone() });
        }
        key.rules.check(id, now)?;
        Ok(key)
    }
}
