//! Debug events as workers publish them to Redis, one stream for each tenant and extension, read back: what there is, and then what comes.
//!
//! ```text
//! GET .../events --> pump: XRANGE of what there is --+--> NDJSON
//!                      hub: one XREAD BLOCK for all --+  (a bounded queue for each reader)
//! ```

mod entry;
mod hub;
mod past;
mod pump;

pub use entry::{LEVELS, Want};
pub use hub::Hub;
pub use pump::open;
