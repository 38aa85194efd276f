//! What every Longshore process does alike.

pub mod admin_http;
pub mod config;
pub mod healthcheck;
pub mod lifecycle;
pub mod metrics;
pub mod nats;
pub mod readiness;
pub mod telemetry;
pub mod tls;
