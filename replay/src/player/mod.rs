//! Answers the host functions of a replayed run from its trace, and writes down what was asked.

mod index;
mod overrides;
pub(crate) mod redacted;
mod sources;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use longshore_proto::trace::{Clock, RandomSource, StreamKind};
use longshore_worker::host::tape::{Played, Player};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use overrides::{Override, OverrideError, parse_override};
pub use redacted::alike;
pub use sources::{Reads, Written};

use crate::script::{Answer, Content, End, Script};
use crate::value;
use index::Index;
use sources::Sources;

/// Host calls that are written down. The budget of a run is 10,000 unless an operator raised it; log lines, which have
/// budgets of their own, are calls too.
const MAX_SEEN: usize = 200_000;
/// Bytes of arguments that are kept of calls that were not recorded.
const MAX_KEPT: usize = 64 << 20;

/// What a host call is answered that was not recorded. Whatever it is, nothing outside is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmatched {
    /// The function's error, where it has one that can be told from the trace; else the replay ends.
    #[default]
    Error,
    /// What was recorded of the call of the same function whose arguments and place are nearest.
    Nearest,
    /// A success that was recorded of the same function.
    Stub,
}

/// A host call that is about to be answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Which host call of the replay, from 0.
    pub number: u32,
    /// Its number in the trace; none: it was not recorded.
    pub recorded: Option<u32>,
    /// `storage.get`.
    pub function: String,
    /// By name.
    pub args: Value,
    /// `ok` or the error, as recorded.
    pub outcome: Option<String>,
    /// What was recorded.
    pub result: Value,
}

/// What a [`Stepper`] says.
#[derive(Debug, Clone, PartialEq)]
pub enum StepAnswer {
    /// This call is answered; it asks again before the next.
    Go,
    /// It does not ask again.
    RunOn,
    /// The replay ends here.
    Stop,
    /// The call is answered so.
    Override(Override),
}

/// Walks through a replay. Called on the thread that runs the guest, which may wait: time does not count in a replay.
pub trait Stepper: Send + Sync {
    /// Before each host call.
    fn before(&self, step: &Step) -> StepAnswer;
}

/// How a call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// As recorded.
    Recorded,
    /// As somebody wished.
    Overridden,
    /// As another call was ([`Unmatched::Nearest`], [`Unmatched::Stub`]), or with an error.
    MadeUp,
    /// Not at all: the replay ended.
    Ended,
}

/// A host call of the replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its number in the trace.
    pub matched: Option<u32>,
    /// It matches but for values that stand where redaction replaces whatever stands there.
    pub redacted: bool,
    /// `storage.get`.
    pub function: String,
    /// MessagePack; empty where it matched, for those of the trace are the same.
    pub args: Bytes,
    /// How.
    pub answered: Answered,
}

/// Why a player ended the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// This recorded call was under way when the recorded run ended.
    UnderWay(u32),
    /// The recorded run was ended by time here.
    OutOfTime,
    /// Nothing is recorded from here on.
    Cut(String),
    /// A call that was not recorded has no answer; its number in the replay.
    NoAnswer(u32),
    /// The stepper said so.
    Stopped,
    /// More calls than are written down.
    TooMany,
    /// What the trace, or a wish, has as an answer is none; why.
    Undecodable(String),
}

/// What one replay did.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// In order.
    pub calls: Vec<Seen>,
    /// Why the player ended it, if it did.
    pub ended: Option<Ended>,
    /// Readings of clocks.
    pub clocks: BTreeMap<&'static str, Reads>,
    /// Reads of random numbers.
    pub randoms: BTreeMap<&'static str, Reads>,
    /// What the guest wrote to each stream.
    pub written: BTreeMap<u32, Written>,
}

/// What a player needs beside the trace.
#[derive(Clone, Default)]
pub struct Rules {
    /// For calls that were not recorded.
    pub unmatched: Unmatched,
    /// Answers by recorded call.
    pub overrides: BTreeMap<u32, Override>,
    /// Walks through it.
    pub stepper: Option<Arc<dyn Stepper>>,
}

/// See the module.
pub struct TracePlayer {
    script: Arc<Script>,
    rules: Rules,
    state: Mutex<State>,
    /// Set when the trace has nothing more to tell of host calls.
    exhausted: CancellationToken,
}

struct State {
    index: Index,
    seen: Vec<Seen>,
    kept: usize,
    sources: Sources,
    ended: Option<Ended>,
    steps: bool,
}

impl TracePlayer {
    /// For one replay.
    pub fn new(script: Arc<Script>, rules: Rules) -> Self {
        let exhausted = CancellationToken::new();
        if script.calls.is_empty() {
            exhausted.cancel();
        }
        let state = State {
            index: Index::new(&script),
            seen: Vec::new(),
            kept: 0,
            sources: Sources::new(&script),
            ended: None,
            steps: rules.stepper.is_some(),
        };
        Self { script, rules, state: Mutex::new(state), exhausted }
    }

    /// Set when every recorded call was asked for.
    pub fn exhausted(&self) -> CancellationToken {
        self.exhausted.clone()
    }

    /// What it did so far.
    pub fn observed(&self) -> Observed {
        let mut state = self.state.lock();
        let (clocks, randoms, written) = state.sources.take();
        Observed {
            calls: std::mem::take(&mut state.seen),
            ended: state.ended.clone(),
            clocks,
            randoms,
            written,
        }
    }

    fn answer(&self, state: &mut State, function: &str, args: &[u8]) -> Played {
        let found = state.index.take(function, args).map(|number| (number, false));
        let found =
            found.or_else(|| state.index.take_redacted(&self.script, function, args).map(|n| (n, true)));
        let number = u32::try_from(state.seen.len()).unwrap_or(u32::MAX);
        let (matched, redacted) = found.map_or((None, false), |(at, redacted)| (Some(at), redacted));
        let kept = if matched.is_some() && !redacted { &[][..] } else { args };
        state.kept = state.kept.saturating_add(kept.len());
        let kept = if state.kept > MAX_KEPT { Bytes::new() } else { Bytes::copy_from_slice(kept) };
        let (answered, answer) = self.decide(state, number, matched, function, args);
        state.seen.push(Seen { matched, redacted, function: function.to_owned(), args: kept, answered });
        if state.index.is_used_up() {
            self.exhausted.cancel();
        }
        match answer {
            Ok(result) => Played::Result(result),
            Err(ended) => end(state, ended),
        }
    }

    fn decide(
        &self,
        state: &mut State,
        number: u32,
        matched: Option<u32>,
        function: &str,
        args: &[u8],
    ) -> (Answered, Result<Bytes, Ended>) {
        let recorded =
            matched.and_then(|at| self.script.calls.get(at as usize)).and_then(|c| c.answer.as_ref());
        if let Some(ended) = self.is_over(state, matched) {
            return (Answered::Ended, Err(ended));
        }
        let stepped =
            state.steps.then(|| self.step(state, number, matched, function, args, recorded)).flatten();
        let wished = match stepped {
            Some(Ok(wished)) => Some(wished),
            Some(Err(ended)) => return (Answered::Ended, Err(ended)),
            None => matched.and_then(|at| self.rules.overrides.get(&at).cloned()),
        };
        if let Some(wished) = wished
            && let Some(result) = wished.result(&self.script, function, recorded)
        {
            return (Answered::Overridden, Ok(result));
        }
        match (matched, recorded) {
            (Some(at), None) => (Answered::Ended, Err(Ended::UnderWay(at))),
            (Some(_), Some(Answer { result: Content::Whole(result), .. })) => {
                (Answered::Recorded, Ok(result.clone()))
            }
            (Some(at), Some(Answer { result: Content::Cut(bytes), .. })) => {
                let why =
                    format!("the result of call {at} ({bytes} bytes) was left out when it was recorded");
                (Answered::Ended, Err(Ended::Cut(why)))
            }
            (None, _) => match self.made_up(state, number, function, args) {
                Some(result) => (Answered::MadeUp, Ok(result)),
                None => (Answered::Ended, Err(Ended::NoAnswer(number))),
            },
        }
    }

    /// Whether the trace ends before this call.
    fn is_over(&self, state: &State, matched: Option<u32>) -> Option<Ended> {
        if let Some(cut) = self.script.unreplayable()
            && let Some(after) = cut.after_call
        {
            let beyond = matched.map_or_else(|| state.index.is_used_up_to(after), |at| at > after);
            if beyond {
                return Some(Ended::Cut(cut.reason.clone()));
            }
        }
        let timed_out =
            matches!(&self.script.end, End::Failure { code, .. } if crate::compare::is_time(*code));
        (timed_out && matched.is_none() && state.index.is_used_up()).then_some(Ended::OutOfTime)
    }

    fn step(
        &self,
        state: &mut State,
        number: u32,
        matched: Option<u32>,
        function: &str,
        args: &[u8],
        recorded: Option<&Answer>,
    ) -> Option<Result<Override, Ended>> {
        let stepper = self.rules.stepper.as_ref()?;
        let result =
            recorded.and_then(|answer| answer.result.bytes()).map_or(Value::Null, |r| value::json_of(r));
        let step = Step {
            number,
            recorded: matched,
            function: function.to_owned(),
            args: value::json_of(args),
            outcome: recorded.map(|answer| answer.outcome.clone()),
            result,
        };
        match stepper.before(&step) {
            StepAnswer::Go => None,
            StepAnswer::RunOn => {
                state.steps = false;
                None
            }
            StepAnswer::Stop => Some(Err(Ended::Stopped)),
            StepAnswer::Override(wished) => Some(Ok(wished)),
        }
    }

    fn made_up(&self, state: &mut State, number: u32, function: &str, args: &[u8]) -> Option<Bytes> {
        let recorded = match self.rules.unmatched {
            Unmatched::Error => None,
            Unmatched::Nearest => state.index.nearest(&self.script, number, function, args),
            Unmatched::Stub => self.script.calls.iter().find_map(|call| {
                let answer = call.answer.as_ref().filter(|a| call.function == function && a.outcome == "ok");
                answer.and_then(|answer| answer.result.bytes()).cloned()
            }),
        };
        recorded.or_else(|| overrides::error_of(&self.script, function))
    }
}

fn end(state: &mut State, ended: Ended) -> Played {
    let words = ended.words();
    state.ended.get_or_insert(ended);
    Played::End(words)
}

impl Ended {
    /// For people.
    pub fn words(&self) -> String {
        match self {
            Self::UnderWay(call) => format!("the recorded run ended during host call {call}"),
            Self::OutOfTime => "the recorded run ran out of time here".to_owned(),
            Self::Cut(why) | Self::Undecodable(why) => crate::printable::line(why, 300),
            Self::NoAnswer(call) => {
                format!("host call {call} of the replay was not recorded, and the trace has no answer for it")
            }
            Self::Stopped => "stopped".to_owned(),
            Self::TooMany => format!("more than {MAX_SEEN} host calls"),
        }
    }
}

impl Player for TracePlayer {
    fn call(&self, function: &str, args: &[u8]) -> Played {
        let state = &mut *self.state.lock();
        // A guest may go on for a moment after its end was said.
        match state.ended.clone() {
            Some(ended) => end(state, ended),
            None if state.seen.len() >= MAX_SEEN => end(state, Ended::TooMany),
            None => self.answer(state, function, args),
        }
    }

    fn clock(&self, clock: Clock) -> u64 {
        self.state.lock().sources.clock(&self.script, clock)
    }

    fn random(&self, source: RandomSource, length: usize) -> Vec<u8> {
        self.state.lock().sources.random(&self.script, source, length)
    }

    fn read(&self, stream: u32, length: usize) -> Bytes {
        self.state.lock().sources.read(&self.script, stream, length)
    }

    fn wrote(&self, stream: u32, kind: StreamKind, bytes: &[u8]) {
        self.state.lock().sources.wrote(stream, kind, bytes);
    }

    fn ended(&self, why: &str) {
        let state = &mut *self.state.lock();
        let last = u32::try_from(state.seen.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let made_up = state.seen.last().is_some_and(|seen| seen.answered == Answered::MadeUp);
        // Of an end that this player said itself the first reason counts. What the policy made up and does not fit is no answer.
        state.ended.get_or_insert_with(|| {
            if made_up { Ended::NoAnswer(last) } else { Ended::Undecodable(why.to_owned()) }
        });
    }
}
