//! What `main` does in every server process: configuration, telemetry, run, and the exit code.

use std::error::Error;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use crate::config::{ConfigErrors, Environment, TelemetryConfig, exit_on_config_errors};
use crate::errors::chain;
use crate::{healthcheck, telemetry};

/// A server process: its settings, and what it does with them.
pub trait Process: Sized {
    /// `worker` or `gateway-shim`, in logs and traces.
    const ROLE: &'static str;

    /// Reads the settings.
    fn load(environment: &Environment, args: Vec<String>) -> Result<Self, ConfigErrors>;

    /// What it tells about itself.
    fn telemetry(&self) -> &TelemetryConfig;

    /// Where its health is served: `--healthcheck` asks there.
    fn health_address(&self) -> SocketAddr;

    /// Runs until it is told to stop; an error is a start that failed.
    fn run(self) -> Result<ExitCode, Box<dyn Error>>;
}

/// The whole of `main`. Wrong settings end it with 64 and all mistakes listed; `--healthcheck` asks the running process.
pub fn main<P: Process>() -> ExitCode {
    let (check, args): (Vec<String>, Vec<String>) = std::env::args().partition(|arg| arg == "--healthcheck");
    let process = exit_on_config_errors(P::load(&Environment::snapshot(), args));
    if !check.is_empty() {
        return healthcheck::healthcheck(process.health_address());
    }
    let telemetry = match telemetry::init(P::ROLE, process.telemetry()) {
        Ok(guard) => guard,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let code = process.run().unwrap_or_else(|error| {
        tracing::error!(error = %chain(&*error), "the start failed");
        ExitCode::FAILURE
    });
    drop(telemetry);
    code
}
