//! The stateless HTTP front of the fleet.

pub mod config;
pub mod dev_host;
pub mod dispatch;
pub mod gateway;
pub mod http;
pub mod installs;
pub mod process;
pub mod schedules;
pub mod ui;
