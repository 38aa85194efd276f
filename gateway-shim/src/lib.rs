//! The stateless HTTP front of the fleet.

pub mod dispatch;
