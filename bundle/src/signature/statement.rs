//! The bytes that are signed.

use std::fmt;

use longshore_proto::ContentHash;
use longshore_proto::extension_ids::NO_PUBLISHER;
use longshore_proto::manifest::Manifest;

/// Ed25519 keys sign whatever they are given: this line keeps a signature over a bundle from meaning anything else.
const DOMAIN: &str = "longshore-bundle-signature:v1\n";
/// No publisher, name or version is longer.
const PART_BYTES: usize = 256;

/// What a manifest says a bundle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    publisher: String,
    name: String,
    version: String,
}

/// Why there is no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No `manifest.json`, or one that is no JSON of the right shape.
    #[error("there is no readable manifest.json")]
    NoManifest,
    /// A part that is empty, too long, or holds what a terminal obeys.
    #[error("`{0}` must be 1 to 256 bytes without control characters")]
    Part(&'static str),
}

impl Identity {
    /// Of a manifest; without a publisher it is `local-dev`'s, as for the ids of the extension.
    ///
    /// # Errors
    /// A part that nobody should vouch for.
    pub fn of(manifest: Option<&Manifest>) -> Result<Self, IdentityError> {
        let manifest = manifest.ok_or(IdentityError::NoManifest)?;
        let publisher = manifest.publisher.as_deref().filter(|p| !p.is_empty()).unwrap_or(NO_PUBLISHER);
        Self::new(publisher, &manifest.name, &manifest.version)
    }

    /// From its parts.
    ///
    /// # Errors
    /// An empty or overlong part, or one with control characters.
    pub fn new(publisher: &str, name: &str, version: &str) -> Result<Self, IdentityError> {
        for (what, part) in [("publisher", publisher), ("name", name), ("version", version)] {
            if part.is_empty() || part.len() > PART_BYTES || part.chars().any(char::is_control) {
                return Err(IdentityError::Part(what));
            }
        }
        Ok(Self { publisher: publisher.to_owned(), name: name.to_owned(), version: version.to_owned() })
    }

    /// Who made it.
    pub fn publisher(&self) -> &str {
        &self.publisher
    }
    /// The extension's name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped and cut: it may come from whoever wrote the signature file.
        let cut = |text: &str| text.chars().take(64).flat_map(char::escape_debug).collect::<String>();
        write!(f, "{}/{} {}", cut(&self.publisher), cut(&self.name), cut(&self.version))
    }
}

/// The bytes that a key signs: the domain line, then one line `NAME LENGTH:VALUE` for each of `content_hash`,
/// `publisher`, `name`, `version` and `signed_at`. The lengths are in bytes, so that no value can pretend to be two.
pub fn statement(hash: ContentHash, identity: &Identity, signed_at: &str) -> Vec<u8> {
    let mut text = DOMAIN.to_owned();
    let hash = hash.to_string();
    for (name, value) in [
        ("content_hash", hash.as_str()),
        ("publisher", &identity.publisher),
        ("name", &identity.name),
        ("version", &identity.version),
        ("signed_at", signed_at),
    ] {
        text.push_str(&format!("{name} {}:{value}\n", value.len()));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_is_spelled_as_other_tools_can_make_it() {
        let identity = Identity::new("Alga", "com.alga.hello", "0.1.1").unwrap();
        let bytes = statement(ContentHash::from_bytes([0xab; 32]), &identity, "2026-08-01T00:00:00Z");
        let expected = format!(
            "longshore-bundle-signature:v1\ncontent_hash 71:sha256:{}\npublisher 4:Alga\nname 14:com.alga.hello\n\
             version 5:0.1.1\nsigned_at 20:2026-08-01T00:00:00Z\n",
            "ab".repeat(32)
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn parts_that_are_cut_elsewhere_give_another_statement() {
        let hash = ContentHash::from_bytes([1; 32]);
        let of = |publisher, name| statement(hash, &Identity::new(publisher, name, "1.0.0").unwrap(), "t");
        assert_ne!(of("a", "bc"), of("ab", "c"));
        assert_ne!(of("a b", "c"), of("a", "b c"));
    }

    #[test]
    fn a_part_that_is_empty_long_or_holds_control_characters_is_no_identity() {
        let long = "x".repeat(257);
        for bad in ["", "a\nname 1:b", "a\0", "\u{1b}[2J", &long] {
            assert_eq!(Identity::new(bad, "n", "1"), Err(IdentityError::Part("publisher")), "{bad:?}");
            assert_eq!(Identity::new("p", bad, "1"), Err(IdentityError::Part("name")), "{bad:?}");
            assert_eq!(Identity::new("p", "n", bad), Err(IdentityError::Part("version")), "{bad:?}");
        }
        assert_eq!(Identity::of(None), Err(IdentityError::NoManifest));
    }

    #[test]
    fn without_a_publisher_it_is_local_devs() {
        let manifest = |publisher: Option<&str>| Manifest {
            name: "a.b".into(),
            version: "1.0.0".into(),
            publisher: publisher.map(str::to_owned),
            ..Manifest::default()
        };
        for none in [None, Some("")] {
            assert_eq!(Identity::of(Some(&manifest(none))).unwrap().publisher(), "local-dev");
        }
        assert_eq!(Identity::of(Some(&manifest(Some("Acme, Inc.")))).unwrap().publisher(), "Acme, Inc.");
    }
}
