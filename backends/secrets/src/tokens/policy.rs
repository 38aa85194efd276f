//! What is replaced by tokens besides the secrets of an install.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Hex digits of a policy's id.
const ID_DIGITS: usize = 16;

/// Headers, fields of JSON bodies and regular expressions whose values are replaced by tokens.
pub struct Policy {
    id: String,
}

impl Policy {
    /// The one that is in force when there is no file.
    pub fn standard() -> Self {
        let digest = Sha256::digest(b"standard");
        Self { id: hex::encode(digest).chars().take(ID_DIGITS).collect() }
    }

    /// Names it: the beginning of the SHA-256 of its canonical text. It goes into every trace.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policy({})", self.id)
    }
}
