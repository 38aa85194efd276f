//! The way every host call goes.

use std::time::Instant;

use longshore_proto::Capability;

use super::recorded::{Fields, Recorded, Room};
use super::recorder::{BegunCall, Recorder};
use super::scope::RunScope;
use crate::engine::meter::Stop;

/// `host_call!(self, "interface.function", Capability, args: { a, b }, denied: value, |run| body)`: records the
/// arguments, runs `body` (which may await, and has the [`RunScope`] as `run`) if the install grants the capability,
/// gives `denied` otherwise, and records what came of it.
macro_rules! host_call {
    ($state:ident, $name:literal, $capability:ident, args: { $($arg:ident),* }, denied: $denied:expr, |$run:ident| $body:expr) => {
        $crate::host::host_call!(
            $state, $name, $capability, args: { $($arg),* }, unseen: {}, denied: $denied, |$run| $body
        )
    };
    ($state:ident, $name:literal, $capability:ident, args: { $($arg:ident),* }, unseen: { $($unseen:ident),* }, denied: $denied:expr, |$run:ident| $body:expr) => {{
        let $run = std::sync::Arc::clone(&$state.scope);
        #[allow(unused_variables, reason = "a function without parameters records none")]
        let args = |object: &mut $crate::host::recorded::Fields<'_, '_>| {
            $(object.field(stringify!($arg), |room| $crate::host::recorded::Recorded::record(&$arg, room));)*
        };
        let call = $crate::host::call::HostCall::begin(
            std::sync::Arc::clone(&$run),
            $name,
            longshore_proto::Capability::$capability,
            args,
        )?;
        #[allow(unused_mut, reason = "a function without parameters has none")]
        let turn = $run.tape.turn($name, |args| args$(.add(stringify!($arg), &$arg))*$(.add(stringify!($unseen), &$unseen))*);
        let span = call.span();
        match turn.map_err(|why| $run.replay_ended(why))? {
            $crate::host::tape::Turn::Played(value) => Ok(call.end(value)),
            $crate::host::tape::Turn::Live(recording) => {
                let value = if call.is_granted() {
                    // The state is not `Sync`, so a future may not hold it shared: the scope is what bodies work with.
                    tracing::Instrument::instrument(async { $body }, span).await
                } else {
                    $denied
                };
                Ok(call.end_recorded(value, recording))
            }
        }
    }};
}
pub(crate) use host_call;

/// The outcome of a call whose end nobody waited for: the run was over first, or a `wasi:http` guest let go of it.
const UNFINISHED: &str = "unfinished";

/// A host call under way. One that is dropped is counted and recorded as `unfinished`: it is what a run that ended in
/// a timeout was waiting for.
pub struct HostCall {
    name: &'static str,
    granted: bool,
    began: Instant,
    /// The beginning of its event's data, if it is shown: the arguments. Name and outcome are the event's message.
    shown: Option<Vec<u8>>,
    note: Option<String>,
    ended: bool,
    scope: std::sync::Arc<RunScope>,
}

impl HostCall {
    /// Charges the budget. The error ends the run: a guest that calls in a loop must not be able to go on. Lines of
    /// the log have budgets of their own, in bytes and lines, which cost lines and not the run.
    ///
    /// # Errors
    /// [`Stop::HostCalls`].
    pub fn begin(
        scope: std::sync::Arc<RunScope>,
        name: &'static str,
        needs: Capability,
        args: impl FnOnce(&mut Fields<'_, '_>),
    ) -> Result<Self, Stop> {
        if needs == Capability::LogEmit {
            scope.record.count_log_call();
        } else if !scope.record.charge_host_call() {
            return Err(Stop::HostCalls);
        }
        let granted = scope.run.capabilities.has(needs);
        // A line that is logged is an event of its own, and says all; behind a full log, calls to it would be all that is seen.
        let silent = needs == Capability::LogEmit && (granted || scope.record.is_log_full());
        let shown = scope.record.is_watched() && !silent;
        let shown = shown.then(|| {
            Room::new(scope.secrets.redactor()).begun(|object| {
                object.field("args", |room| room.object(args));
            })
        });
        Ok(Self { name, granted, began: Instant::now(), shown, note: None, ended: false, scope })
    }

    /// Whether the install grants what the call needs.
    pub fn is_granted(&self) -> bool {
        self.granted
    }

    /// The span of the call.
    pub fn span(&self) -> tracing::Span {
        tracing::info_span!("host_call", name = self.name)
    }

    /// The same for one that is part of a trace.
    pub(super) fn end_recorded<T: CallOutcome + Recorded + serde::Serialize>(
        mut self,
        value: T,
        recording: Option<(std::sync::Arc<Recorder>, BegunCall)>,
    ) -> T {
        self.note = self.scope.record.take_note();
        let outcome = if self.granted { value.outcome() } else { "denied" };
        if let Some((recorder, call)) = recording {
            recorder.end_call(call, outcome, &value, self.note.clone());
        }
        self.publish(outcome, |room| value.record(room));
        value
    }

    /// Counts what came of it and publishes it.
    pub fn end<T: CallOutcome + Recorded>(mut self, value: T) -> T {
        self.note = self.scope.record.take_note();
        let outcome = if self.granted { value.outcome() } else { "denied" };
        self.publish(outcome, |room| value.record(room));
        value
    }

    /// Words for the event, of a call that runs beside others.
    pub fn note(&mut self, words: String) {
        self.note = Some(words);
    }

    /// The same for a call whose result is not one of the WIT.
    pub fn publish(mut self, outcome: &'static str, result: impl FnOnce(&mut Room<'_>)) {
        self.report(outcome, result);
    }

    fn report(&mut self, outcome: &'static str, result: impl FnOnce(&mut Room<'_>)) {
        self.ended = true;
        let now = Instant::now();
        let took = now.saturating_duration_since(self.began);
        self.scope.backends.metrics.ended(self.name, outcome, took);
        let Some(begun) = self.shown.take() else { return };
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let note = self.note.take();
        let mut room = Room::onto(self.scope.secrets.redactor(), begun);
        room.rest(|object| {
            object.field("duration_us", |room| room.number(took));
            object.field("result", result);
            object.field("note", |room| note.record(room));
        });
        self.scope.record.host_call(now, [self.name, " ", outcome].concat(), room.into_data());
    }
}

impl Drop for HostCall {
    fn drop(&mut self) {
        if !self.ended {
            self.report(UNFINISHED, |room| room.null());
        }
    }
}

/// A word for what a host call gave.
pub trait CallOutcome {
    /// `ok`, or the error's name in the WIT.
    fn outcome(&self) -> &'static str;
}

/// An error enum of the WIT.
pub trait WitError {
    /// Its case, as the WIT spells it.
    fn case(&self) -> &'static str;
}

/// `wit_error!(Error)`: its case is the outcome of a call that fails with it.
macro_rules! wit_error {
    ($error:ty) => {
        impl $crate::host::call::WitError for $error {
            fn case(&self) -> &'static str {
                self.name()
            }
        }
    };
}
pub(crate) use wit_error;

impl<T, E: WitError> CallOutcome for Result<T, E> {
    fn outcome(&self) -> &'static str {
        self.as_ref().map_or_else(WitError::case, |_| "ok")
    }
}

/// `always_ok!(Value, ..)`: what a function gives that cannot fail.
macro_rules! always_ok {
    ($($value:ty),*) => { $(impl $crate::host::call::CallOutcome for $value {
        fn outcome(&self) -> &'static str {
            "ok"
        }
    })* };
}
pub(crate) use always_ok;
always_ok!((), Vec<String>);

/// `by_success!(Result, ..)`: records of the WIT that say in `success` whether the call did what it should.
macro_rules! by_success {
    ($($value:ty),*) => { $(impl $crate::host::call::CallOutcome for $value {
        fn outcome(&self) -> &'static str {
            if self.success { "ok" } else { "failed" }
        }
    })* };
}
pub(crate) use by_success;
