//! A gateway process: configuration, telemetry, build, run, drain.

use std::process::ExitCode;

use gateway_shim::config::ShimConfig;
use gateway_shim::process;
use longshore_service::config::{Environment, exit_on_config_errors};
use longshore_service::errors::chain;
use longshore_service::{healthcheck, telemetry};

fn main() -> ExitCode {
    let (check, args): (Vec<String>, Vec<String>) = std::env::args().partition(|a| a == "--healthcheck");
    let config = exit_on_config_errors(ShimConfig::load(&Environment::snapshot(), args));
    if !check.is_empty() {
        return healthcheck::healthcheck(config.http.address());
    }
    let telemetry = match telemetry::init("gateway-shim", &config.telemetry) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("{}", chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let code = process::run(config).unwrap_or_else(|error| {
        tracing::error!(error = %chain(&*error), "the start failed");
        ExitCode::FAILURE
    });
    drop(telemetry);
    code
}
