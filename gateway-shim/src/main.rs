//! The gateway's program; see `gateway_shim::process`.

fn main() -> std::process::ExitCode {
    longshore_service::process::main::<gateway_shim::config::ShimConfig>()
}
