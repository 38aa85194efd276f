//! Commands on a running fleet, through its admin API and its gateway.
//!
//! - [`place`]: which fleet, which tenant; [`client`]: the admin API.
//! - [`install`], [`installs`]: what a tenant runs; [`call`]: one call through the gateway.
//! - [`tokens`], [`calls`], [`maintenance`], [`pools`]: the rest.

pub mod call;
pub mod calls;
pub mod client;
pub mod install;
pub mod installs;
pub mod maintenance;
pub mod place;
pub mod pools;
mod sensitive;
pub mod spans;
pub mod tokens;

pub use client::AdminClient;
pub use place::{FleetArgs, Place, TenantArgs};

use crate::exit::{Exit, Failure};

/// Runs what a command does over the network.
///
/// # Errors
/// Those of the command.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(Exit::Failed, "failed", format!("no runtime: {error}")))?;
    let result = runtime.block_on(work);
    // A blocking task that never ends must not keep the process.
    runtime.shutdown_background();
    result
}
