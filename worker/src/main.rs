//! The worker's program; see `longshore_worker::process`.

/// Events and traces are made on the threads of guests and freed by those that publish them, which glibc's allocator makes both sides pay for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    longshore_service::process::main::<longshore_worker::config::WorkerConfig>()
}
