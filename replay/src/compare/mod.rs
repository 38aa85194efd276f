//! Puts what was recorded beside what the replay did: what differs, of which class, the first first.

mod align;
mod ending;

use longshore_proto::{CallError, ErrorCode};
use longshore_worker::job::GuestResponse;
use serde::Serialize;

use crate::diff::Diff;
use crate::player::{Answered, Ended, Observed, Reads, Seen};
use crate::printable;
use crate::script::{Call, End, Script};
use crate::value;
use align::{Alignment, Item};

pub use ending::{class_of, is_time};

/// Divergences that are told; the rest is counted. Each may have a diff.
const MAX_TOLD: usize = 50;
/// Calls before a divergence that are shown with it.
const CONTEXT: usize = 3;
/// Bytes of arguments in a line of context.
const SHOWN_ARGS: usize = 160;

/// What kind of divergence it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A host call (or a reading of a clock or of random numbers) that was not recorded.
    Added,
    /// One that was recorded and did not come.
    Removed,
    /// One that came at another place than recorded.
    Reordered,
    /// One that came at its place with other arguments.
    ArgumentsChanged,
    /// The host calls are those recorded; the answer or what the guest wrote is another.
    OutputOnly,
    /// One of the two runs was ended by a limit.
    Limit,
    /// One of the two runs trapped.
    Trap,
}

impl Class {
    /// As reports spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Reordered => "reordered",
            Self::ArgumentsChanged => "arguments_changed",
            Self::OutputOnly => "output_only",
            Self::Limit => "limit",
            Self::Trap => "trap",
        }
    }
}

/// A host call as a line of context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its number in the trace; none: it was not recorded.
    pub call: Option<u32>,
    /// `storage.get`.
    pub function: String,
    /// As JSON, cut.
    pub args: String,
    /// `ok`, the error, or how the replay answered.
    pub outcome: String,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Divergence {
    /// Of which kind.
    pub class: Class,
    /// The host function; `response`, `stdout`, `stderr`, `stream N` or `end` where it is none.
    pub function: String,
    /// The host call's number in the trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_call: Option<u32>,
    /// Its number in the replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed_call: Option<u32>,
    /// In words.
    pub what: String,
    /// How the replay answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
    /// The calls before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<Line>,
    /// What exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<Diff>,
}

impl Divergence {
    fn of(class: Class, function: impl AsRef<str>, what: String) -> Self {
        Self {
            class,
            function: printable::line(function.as_ref(), 120),
            recorded_call: None,
            replayed_call: None,
            what,
            answered: None,
            context: Vec::new(),
            diff: None,
        }
    }

    /// What equal mistakes have in common: class, function and the first path that differs.
    pub fn fingerprint(&self) -> Fingerprint {
        let place = self.diff.as_ref().map_or_else(String::new, Diff::place);
        Fingerprint { class: self.class, function: self.function.clone(), place }
    }
}

/// See [`Divergence::fingerprint`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Fingerprint {
    /// Of which kind.
    pub class: Class,
    /// Where.
    pub function: String,
    /// `headers[*].value`.
    pub place: String,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The first first, at most [`MAX_TOLD`].
    pub divergences: Vec<Divergence>,
    /// Those not told.
    pub more: u64,
    /// Recorded calls that nobody asked for.
    pub leftovers: Vec<Line>,
    /// Those not listed.
    pub more_leftovers: u64,
    /// Host calls of the replay that were recorded.
    pub matched: u64,
    /// Calls and headers that were compared by their shape, for redaction replaced what stood there.
    pub by_shape: u64,
    /// Why only a part of the run was compared, if so.
    pub partial: Option<String>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

/// Compares. `exact`: the same bundle, so that a run that was ended by time may have got further on a faster machine.
pub fn compare(
    script: &Script,
    observed: &Observed,
    outcome: &Result<GuestResponse, CallError>,
    exact: bool,
) -> Comparison {
    let mut made = Comparing::new(script, observed, outcome, exact);
    let end = ending::diverges(&made);
    made.calls(&end);
    if !made.is_partial() {
        made.sources();
    }
    made.by_shape += end.by_shape;
    made.notes.extend(end.note);
    for divergence in end.divergences {
        made.found.push((made.end_place, divergence));
    }
    made.streams();
    made.finish()
}

/// Where in the order of things: the gap between calls that match, and the place in it.
type Place = (usize, usize);

struct Comparing<'c> {
    script: &'c Script,
    observed: &'c Observed,
    outcome: &'c Result<GuestResponse, CallError>,
    exact: bool,
    alignment: Alignment,
    found: Vec<(Place, Divergence)>,
    end_place: Place,
    by_shape: u64,
    notes: Vec<String>,
}

impl<'c> Comparing<'c> {
    fn new(
        script: &'c Script,
        observed: &'c Observed,
        outcome: &'c Result<GuestResponse, CallError>,
        exact: bool,
    ) -> Self {
        let alignment = Alignment::new(script, &observed.calls);
        let by_shape = observed.calls.iter().filter(|seen| seen.redacted).count() as u64;
        let end_place = (alignment.gaps + 2, 0);
        let (found, notes) = (Vec::new(), Vec::new());
        Self { script, observed, outcome, exact, alignment, found, end_place, by_shape, notes }
    }

    /// Whether only the beginning of the run can be compared.
    fn is_partial(&self) -> bool {
        self.is_by_time()
            || matches!(
                self.observed.ended,
                Some(Ended::Cut(_) | Ended::Stopped | Ended::UnderWay(_) | Ended::OutOfTime | Ended::TooMany)
            )
    }

    /// Whether the recorded run was ended by time: where exactly is a matter of the machine.
    fn is_by_time(&self) -> bool {
        matches!(&self.script.end, End::Failure { code, .. } if is_time(*code))
    }

    /// Whether the replay was ended at this call because the trace tells nothing of it, which is no divergence.
    fn is_beyond(&self, seen: u32) -> bool {
        let ended =
            self.observed.calls.get(seen as usize).is_some_and(|call| call.answered == Answered::Ended);
        ended && !matches!(self.observed.ended, Some(Ended::NoAnswer(_)))
    }

    fn calls(&mut self, end: &ending::Ending) {
        let last_gap = self.alignment.gaps;
        // What a run that failed did not do any more is told by its end.
        let cut_short = self.outcome.is_err() || self.observed.ended.is_some();
        let recorded_failed = matches!(self.script.end, End::Failure { .. });
        let items = std::mem::take(&mut self.alignment.items);
        let beyond = recorded_failed && !end.divergences.is_empty();
        if beyond && !items.iter().any(|item| item.place().0 == last_gap && item.recorded().is_some()) {
            self.end_place = (last_gap, 0);
        }
        for item in &items {
            let place = (item.place().0, item.place().1 + 1);
            match item {
                Item::Reordered { seen, recorded, .. } => {
                    let (then, now) = (ordinal(*recorded), ordinal(*seen));
                    let what =
                        format!("host call {recorded} of the trace, the {then}, came as the {now} one");
                    self.push(place, Class::Reordered, Some(*recorded), Some(*seen), what, None);
                }
                // The trace has this call, and not what it was called with: it ends here, which is no divergence.
                Item::Changed { seen, recorded, .. }
                    if self.is_beyond(*seen)
                        && self.call(*recorded).is_some_and(|call| call.args.bytes().is_none()) => {}
                Item::Changed { seen, recorded, .. } => {
                    let diff = self.args_diff(*recorded, *seen);
                    let what = format!("host call {recorded} came with other arguments");
                    self.push(place, Class::ArgumentsChanged, Some(*recorded), Some(*seen), what, diff);
                }
                Item::Added { seen, .. } => {
                    if self.is_by_time() && self.exact && place.0 == last_gap || self.is_beyond(*seen) {
                        continue;
                    }
                    let diff = None;
                    let what = format!("it was not recorded; it came as the {} host call", ordinal(*seen));
                    self.push(place, Class::Added, None, Some(*seen), what, diff);
                }
                Item::Removed { recorded, .. } => {
                    if cut_short && place.0 == last_gap {
                        continue;
                    }
                    let what = format!("host call {recorded} of the trace did not come");
                    self.push(place, Class::Removed, Some(*recorded), None, what, None);
                }
            }
        }
        self.alignment.items = items;
    }

    fn push(
        &mut self,
        place: Place,
        class: Class,
        recorded: Option<u32>,
        seen: Option<u32>,
        what: String,
        diff: Option<Diff>,
    ) {
        let call = seen.and_then(|at| self.observed.calls.get(at as usize));
        let name = call.map(|seen| seen.function.as_str());
        let name = name.or_else(|| recorded.and_then(|at| self.call(at)).map(|call| call.function.as_str()));
        let mut divergence = Divergence::of(class, name.unwrap_or_default(), what);
        divergence.recorded_call = recorded;
        divergence.replayed_call = seen;
        divergence.answered = call.map(|seen| seen.answered);
        divergence.diff = diff;
        // Contexts cost a line of arguments each; those beyond are not told.
        if self.found.len() < MAX_TOLD {
            divergence.context = self.context(recorded, seen);
        }
        self.found.push((place, divergence));
    }

    fn call(&self, number: u32) -> Option<&'c Call> {
        self.script.calls.get(number as usize)
    }

    fn args_diff(&self, recorded: u32, seen: u32) -> Option<Diff> {
        let recorded = self.call(recorded)?.args.bytes()?;
        let seen = self.observed.calls.get(seen as usize)?;
        Some(Diff::of_packed(recorded, &seen.args))
    }

    /// The calls before: of the replay where it has come there, else of the trace.
    fn context(&self, recorded: Option<u32>, seen: Option<u32>) -> Vec<Line> {
        match (seen, recorded) {
            (Some(seen), _) => {
                let seen = seen as usize;
                let before = self.observed.calls.get(seen.saturating_sub(CONTEXT)..seen).unwrap_or_default();
                before.iter().map(|seen| self.seen_line(seen)).collect()
            }
            (None, Some(recorded)) => {
                let before = recorded.saturating_sub(u32::try_from(CONTEXT).unwrap_or(0))..recorded;
                before.filter_map(|number| Some(recorded_line(number, self.call(number)?))).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    fn seen_line(&self, seen: &Seen) -> Line {
        match seen.matched.and_then(|number| Some((number, self.call(number)?))) {
            Some((number, call)) => {
                let mut line = recorded_line(number, call);
                if seen.answered != Answered::Recorded {
                    line.outcome = answered_words(seen.answered).to_owned();
                }
                line
            }
            None => Line {
                call: None,
                function: printable::line(&seen.function, 120),
                args: printable::line(&value::json_of(&seen.args).to_string(), SHOWN_ARGS),
                outcome: answered_words(seen.answered).to_owned(),
            },
        }
    }

    /// Clocks and random numbers: read more or less often than recorded.
    fn sources(&mut self) {
        let place = (self.alignment.gaps + 1, 0);
        let all = self.observed.clocks.iter().chain(&self.observed.randoms);
        for (name, reads) in all {
            if let Some((class, what)) = reads_differ(reads) {
                self.found.push((place, Divergence::of(class, name, what)));
            }
        }
    }

    fn streams(&mut self) {
        let place = (self.alignment.gaps + 3, 0);
        let partial = self.is_partial() || self.observed.ended.is_some();
        let (divergences, notes) = ending::streams(self.script, self.observed, partial);
        self.found.extend(divergences.into_iter().map(|divergence| (place, divergence)));
        self.notes.extend(notes);
    }

    fn finish(mut self) -> Comparison {
        self.found.sort_by_key(|(place, _)| *place);
        let more = self.found.len().saturating_sub(MAX_TOLD);
        self.found.truncate(MAX_TOLD);
        let divergences = self.found.into_iter().map(|(_, divergence)| divergence).collect();
        let partial = match &self.observed.ended {
            Some(Ended::Cut(why)) => Some(printable::line(why, 300)),
            Some(Ended::Stopped) => Some("stopped by its user".to_owned()),
            Some(Ended::TooMany) => Some("it makes more host calls than a replay writes down".to_owned()),
            _ => None,
        };
        let unused = &self.alignment.unused;
        let leftovers = unused
            .iter()
            .take(MAX_TOLD)
            .filter_map(|number| Some(recorded_line(*number, self.script.calls.get(*number as usize)?)));
        Comparison {
            divergences,
            more: more as u64,
            leftovers: leftovers.collect(),
            more_leftovers: unused.len().saturating_sub(MAX_TOLD) as u64,
            matched: self.observed.calls.iter().filter(|seen| seen.matched.is_some()).count() as u64,
            by_shape: self.by_shape,
            partial,
            notes: self.notes,
        }
    }
}

fn reads_differ(reads: &Reads) -> Option<(Class, String)> {
    let counts = format!("read {} times instead of {}", reads.replayed, reads.recorded);
    match (reads.replayed.cmp(&reads.recorded), reads.other_length) {
        (std::cmp::Ordering::Greater, _) => Some((Class::Added, counts)),
        (std::cmp::Ordering::Less, _) => Some((Class::Removed, counts)),
        (_, Some(at)) => Some((Class::ArgumentsChanged, format!("read {at} asked for another length"))),
        _ => None,
    }
}

fn recorded_line(number: u32, call: &Call) -> Line {
    let args =
        call.args.bytes().map_or_else(|| "(left out)".to_owned(), |args| value::json_of(args).to_string());
    Line {
        call: Some(number),
        function: printable::line(&call.function, 120),
        args: printable::line(&args, SHOWN_ARGS),
        outcome: call
            .answer
            .as_ref()
            .map_or_else(|| "under way at the end".to_owned(), |answer| printable::line(&answer.outcome, 80)),
    }
}

fn answered_words(answered: Answered) -> &'static str {
    match answered {
        Answered::Recorded => "as recorded",
        Answered::Overridden => "overridden",
        Answered::MadeUp => "not recorded, answered by the policy",
        Answered::Ended => "the replay ended here",
    }
}

/// 0 as `1st`.
fn ordinal(at: u32) -> String {
    let number = u64::from(at) + 1;
    let suffix = match (number % 10, number % 100) {
        (1, n) if n != 11 => "st",
        (2, n) if n != 12 => "nd",
        (3, n) if n != 13 => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

/// Whether the guest ran at all before the run failed so: nothing else can be had again.
pub fn has_run(code: ErrorCode) -> bool {
    use ErrorCode as E;
    matches!(
        code,
        E::Trap
            | E::OutOfMemory
            | E::StackOverflow
            | E::Timeout
            | E::CpuTime
            | E::HostCalls
            | E::OutboundRequests
            | E::ResponseTooLarge
            | E::InvalidResponse
            | E::Cancelled
            | E::Compile
            | E::Link
            | E::ExtensionHasNoHandler
    )
}
