//! MessagePack with named fields: a reader ignores fields it does not know and defaults those it misses, so a new
//! shim and an old worker work together. Golden files in `tests/` hold the spelling.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that this build writes. A reader accepts every version whose required fields it finds; the number
/// is for logs and for a later change that cannot be made by adding fields.
pub const PROTOCOL_VERSION: u16 = 1;

/// A message that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not what the reader expects.
    #[error("the message cannot be decoded")]
    Decode(#[source] rmp_serde::decode::Error),
    /// Cannot be written: a bug, or a length over 4 GiB.
    #[error("the message cannot be encoded")]
    Encode(#[source] rmp_serde::encode::Error),
}

/// Writes a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    rmp_serde::to_vec_named(message).map_err(WireError::Encode)
}

/// Reads a message. Depth is bounded by the types: none of them is recursive.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    rmp_serde::from_slice(bytes).map_err(WireError::Decode)
}
