//! From what wasmtime says to what the caller is told. The caller gets a code and a few words; the wasm backtrace,
//! with the guest's own function names, goes to the log and to the error event.

use longshore_proto::event::truncate;
use longshore_proto::{CallError, ErrorCode};
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};

use super::meter::Stop;

/// How much of a backtrace is kept: names are the guest's and may be long.
const BACKTRACE_BYTES: usize = 8 * 1024;

/// When it happened: the same error means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// While the instance was made.
    Instantiate,
    /// While the handler ran or its answer was read.
    Handler,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For the caller.
    pub error: CallError,
    /// For log and error event: where in the guest, or what in the host.
    pub detail: Option<String>,
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        Self { error, detail: None }
    }
}

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Self {
        Self::from(CallError::from(code))
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Self::from(stop.code())
    }
}

/// Sorts an error of wasmtime. `memory_refused`: the limit has refused a growth before.
pub fn classify(error: &wasmtime::Error, phase: Phase, memory_refused: bool) -> Fault {
    let (code, message) = kind(error, phase, memory_refused);
    Fault { error: CallError::new(code, message), detail: Some(detail(error)) }
}

fn kind(error: &wasmtime::Error, phase: Phase, memory_refused: bool) -> (ErrorCode, String) {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return (stop.code(), String::new());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return (ErrorCode::EngineInitFailed, "the worker has no room for another instance".to_owned());
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return (ErrorCode::Trap, format!("the guest exited with status {}", exit.0));
    }
    match (error.downcast_ref::<Trap>(), phase) {
        (Some(Trap::StackOverflow), _) => (ErrorCode::StackOverflow, String::new()),
        (Some(Trap::Interrupt), _) => (ErrorCode::Timeout, String::new()),
        // What allocators do when they get nothing: abort, or go on with a null pointer.
        (Some(Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds), _) if memory_refused => {
            (ErrorCode::OutOfMemory, String::new())
        }
        (Some(trap), _) => {
            let text = trap.to_string();
            (ErrorCode::Trap, text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned())
        }
        (None, Phase::Instantiate) if memory_refused => {
            (ErrorCode::OutOfMemory, "its initial memory is over the limit".to_owned())
        }
        (None, Phase::Instantiate) => (ErrorCode::EngineInitFailed, String::new()),
        (None, Phase::Handler) if is_too_much_data(error) => {
            (ErrorCode::ResponseTooLarge, "more data than the host takes at once".to_owned())
        }
        // A host function refused in a way that no guest can go on from: a full resource table, a broken contract.
        (None, Phase::Handler) => (ErrorCode::Trap, first_line(&error.root_cause().to_string())),
    }
}

/// wasmtime has no type for it: data that crosses the border in one call is bounded by `Store::set_hostcall_fuel`.
fn is_too_much_data(error: &wasmtime::Error) -> bool {
    format!("{error:#}").contains("too much data")
}

fn first_line(text: &str) -> String {
    let mut line = text.lines().next().unwrap_or_default().replace(char::is_control, " ");
    truncate(&mut line, 200);
    line
}

fn detail(error: &wasmtime::Error) -> String {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string).unwrap_or_default();
    let mut text = error.root_cause().to_string();
    if !backtrace.is_empty() {
        text.push('\n');
        text.push_str(&backtrace);
    }
    // The guest chose the names: nothing in them may steer a terminal.
    let mut text = text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
    truncate(&mut text, BACKTRACE_BYTES);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: impl Into<wasmtime::Error>, phase: Phase, refused: bool) -> ErrorCode {
        classify(&error.into(), phase, refused).error.code
    }

    #[test]
    fn a_refused_growth_explains_an_abort_but_not_every_later_trap() {
        let phase = Phase::Handler;
        assert_eq!(code(Trap::UnreachableCodeReached, phase, true), ErrorCode::OutOfMemory);
        assert_eq!(code(Trap::UnreachableCodeReached, phase, false), ErrorCode::Trap);
        assert_eq!(code(Trap::IntegerDivisionByZero, phase, true), ErrorCode::Trap);
        assert_eq!(code(Trap::StackOverflow, phase, true), ErrorCode::StackOverflow);
    }

    #[test]
    fn limits_that_travel_through_wasmtime_keep_their_code() {
        for stop in [Stop::Deadline, Stop::Cancelled, Stop::CpuTime, Stop::HostCalls, Stop::OutboundRequests]
        {
            assert_eq!(code(stop, Phase::Handler, false), stop.code());
        }
    }

    #[test]
    fn a_failed_instantiation_is_the_platforms_unless_the_memory_was_too_large() {
        let error = || wasmtime::format_err!("mmap failed");
        assert_eq!(code(error(), Phase::Instantiate, false), ErrorCode::EngineInitFailed);
        assert_eq!(code(error(), Phase::Instantiate, true), ErrorCode::OutOfMemory);
        assert!(classify(&error(), Phase::Instantiate, false).error.message.is_empty());
    }

    #[test]
    fn control_characters_of_a_guest_do_not_reach_a_terminal() {
        let fault = classify(&wasmtime::format_err!("\u{1b}[2Jboom\nsecond"), Phase::Handler, false);
        assert_eq!(fault.error.message, " [2Jboom");
        assert_eq!(fault.detail.unwrap(), "\u{fffd}[2Jboom\nsecond");
    }
}
