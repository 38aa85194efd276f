//! Traces as bytes and where they are kept: packing and proof ([`Packer`], [`unpack`]), the streams by tenant in
//! Redis with their index, payloads in the bundle store, and the self-contained file of `longshore export`. What
//! stands in a trace is `longshore_proto::trace`.

pub mod container;
mod damage;
pub mod file;
mod pack;
pub mod payloads;
pub mod store;
mod trace;
mod unpack;

pub use container::{MAX_PACKED_BYTES, MAX_RECORDS, MAX_UNPACKED_BYTES};
pub use damage::Damage;
pub use file::Exported;
pub use pack::{PackError, Packed, Packer, TrailerParts};
pub use store::{TraceSettings, TraceStore, TraceStoreError};
pub use trace::{Call, End, Stream, Trace, check_payload, digest};
pub use unpack::{unpack, unpack_within};
