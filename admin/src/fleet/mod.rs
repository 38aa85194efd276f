//! Who is there, and questions to all of them.

mod ask;
mod calls;
mod heard;
mod warm;

pub use ask::{AskError, Asker};
pub use heard::Heard;

use std::time::Duration;

/// Workers and gateways announce themselves each second; who was not heard for three is not there.
pub const SILENT: Duration = Duration::from_secs(3);
