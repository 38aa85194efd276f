//! The worker's program; see `longshore_worker::process`.

fn main() -> std::process::ExitCode {
    longshore_service::process::main::<longshore_worker::config::WorkerConfig>()
}
