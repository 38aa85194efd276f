//! The admin service's program; see `longshore_admin::process`.

fn main() -> std::process::ExitCode {
    longshore_service::process::main::<longshore_admin::config::AdminConfig>()
}
