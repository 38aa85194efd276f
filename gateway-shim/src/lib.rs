//! The stateless HTTP front of the fleet.

pub mod config;
pub mod dispatch;
pub mod http;
pub mod process;
pub mod schedules;
pub mod ui;
