//! The stateless HTTP front of the fleet.

pub mod dispatch;
pub mod http;
