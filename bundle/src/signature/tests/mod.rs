//! Signatures as signers, operators and attackers make them.

mod reload;
mod syntax;
mod verdicts;

use chrono::Utc;
use longshore_proto::ContentHash;
use longshore_proto::manifest::Manifest;

use super::*;

/// Somebody with a key.
pub(crate) struct Author {
    pub key: SigningKey,
    pub id: KeyId,
}

impl Author {
    pub fn new(id: &str) -> Self {
        Self { key: SigningKey::generate().unwrap(), id: id.parse().unwrap() }
    }

    /// The key in a trust bundle, after `rules` (lines).
    pub fn trusted(&self, rules: &str) -> String {
        format!("Key-Id: {}\n{rules}\n{}", self.id, self.key.public().to_pem())
    }

    /// `bundle.sig` for a bundle.
    pub fn sign(&self, hash: ContentHash, manifest: &Manifest) -> Vec<u8> {
        let identity = Identity::of(Some(manifest)).unwrap();
        self.key.sign(self.id.clone(), hash, identity, Utc::now()).to_json().into_bytes()
    }
}

pub(crate) fn manifest(publisher: &str, name: &str, version: &str) -> Manifest {
    Manifest {
        publisher: Some(publisher.into()),
        name: name.into(),
        version: version.into(),
        ..Manifest::default()
    }
}

fn hello() -> (ContentHash, Manifest) {
    (ContentHash::from_bytes([7; 32]), manifest("Alga", "com.alga.hello", "1.0.0"))
}

fn verifier(trust: &str) -> std::sync::Arc<Verifier> {
    Verifier::fixed(Policy::Require, TrustBundle::parse(trust).unwrap())
}
