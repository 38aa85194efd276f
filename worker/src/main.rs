//! A worker process: configuration, telemetry, build, run, drain.

use std::process::ExitCode;

use longshore_service::config::{Environment, exit_on_config_errors};
use longshore_service::errors::chain;
use longshore_service::{healthcheck, telemetry};
use longshore_worker::config::WorkerConfig;
use longshore_worker::process;

fn main() -> ExitCode {
    let (check, args): (Vec<String>, Vec<String>) = std::env::args().partition(|a| a == "--healthcheck");
    let config = exit_on_config_errors(WorkerConfig::load(&Environment::snapshot(), args));
    if !check.is_empty() {
        return healthcheck::healthcheck(config.http_addr);
    }
    let telemetry = match telemetry::init("worker", &config.telemetry) {
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
