//! Output and time: `println!` says nothing and `std::thread::sleep` panics on wasm32-unknown-unknown, so guests call WASI themselves.

use crate::bindings::wasi::cli::{stderr::get_stderr, stdout::get_stdout};
use crate::bindings::wasi::clocks::monotonic_clock;
use crate::bindings::wasi::io::streams::OutputStream;

/// What `blocking-write-and-flush` takes at most in one call.
const WRITE_LIMIT: usize = 4096;

/// Writes `bytes` to stdout in pieces of at most 4,096 bytes; a closed stream swallows them.
pub fn print(bytes: &[u8]) {
    write(&get_stdout(), bytes);
}

/// Writes `bytes` to stderr in pieces of at most 4,096 bytes; a closed stream swallows them.
pub fn eprint(bytes: &[u8]) {
    write(&get_stderr(), bytes);
}

fn write(stream: &OutputStream, bytes: &[u8]) {
    for piece in bytes.chunks(WRITE_LIMIT) {
        if stream.blocking_write_and_flush(piece).is_err() {
            return;
        }
    }
}

/// Waits `milliseconds` on the monotonic clock's pollable.
pub fn sleep(milliseconds: u64) {
    monotonic_clock::subscribe_duration(milliseconds.saturating_mul(1_000_000)).block();
}

/// Nanoseconds of the monotonic clock.
pub fn now() -> u64 {
    monotonic_clock::now()
}
