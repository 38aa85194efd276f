//! How the two runs ended, and what they left behind: the answer, and what the guest wrote.

use longshore_proto::trace::StreamKind;
use longshore_proto::{CallError, ErrorCode};
use longshore_worker::job::GuestResponse;
use serde_json::{Value, json};

use super::{Class, Comparing, Divergence};
use crate::diff::Diff;
use crate::player::redacted::header_alike;
use crate::player::{Ended, Observed};
use crate::printable;
use crate::script::{Content, End, Script};

/// Whether time ended the run, so that where it ended is a matter of the machine.
pub const fn is_time(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Timeout | ErrorCode::CpuTime | ErrorCode::Cancelled)
}

/// The class of a run's end.
pub const fn class_of(code: ErrorCode) -> Class {
    use ErrorCode as E;
    match code {
        E::Timeout
        | E::CpuTime
        | E::Cancelled
        | E::OutOfMemory
        | E::StackOverflow
        | E::HostCalls
        | E::OutboundRequests
        | E::ResponseTooLarge => Class::Limit,
        E::InvalidResponse => Class::OutputOnly,
        _ => Class::Trap,
    }
}

pub(super) struct Ending {
    pub(super) divergences: Vec<Divergence>,
    pub(super) by_shape: u64,
    pub(super) note: Option<String>,
}

impl Ending {
    fn same() -> Self {
        Self { divergences: Vec::new(), by_shape: 0, note: None }
    }

    fn noted(note: String) -> Self {
        Self { note: Some(note), ..Self::same() }
    }

    fn other(class: Class, recorded: &str, replayed: &str) -> Self {
        let what = format!("recorded: {recorded}; replayed: {replayed}");
        Self { divergences: vec![Divergence::of(class, "end", what)], ..Self::same() }
    }
}

pub(super) fn diverges(made: &Comparing<'_>) -> Ending {
    match &made.observed.ended {
        // Told by `partial`, or by the call that has no answer.
        Some(
            Ended::Cut(_) | Ended::Stopped | Ended::TooMany | Ended::NoAnswer(_) | Ended::Undecodable(_),
        ) => {
            return Ending::same();
        }
        Some(Ended::UnderWay(_) | Ended::OutOfTime) if made.exact => return Ending::same(),
        // A candidate that comes to the call during which the recorded run ended does the same as recorded.
        Some(Ended::UnderWay(_) | Ended::OutOfTime) => return Ending::same(),
        None => {}
    }
    match (&made.script.end, made.outcome) {
        (End::Response { status, headers, body, trailers }, Ok(response)) => {
            let recorded = Recorded { status: *status, headers, body: body.as_ref(), trailers };
            recorded.differs(response)
        }
        (End::Response { status, .. }, Err(error)) => {
            Ending::other(class_of(error.code), &format!("HTTP {status}"), &words(error))
        }
        (End::Failure { code, .. }, outcome) if is_time(*code) && made.exact => by_time(made, *code, outcome),
        (End::Failure { code, .. }, Err(error)) if *code == error.code => Ending::same(),
        // The replay of a run that time ended is stopped once it has done what was recorded.
        (End::Failure { code, .. }, Err(error)) if is_time(*code) && is_time(error.code) => Ending::same(),
        (End::Failure { code, message }, Err(error)) => {
            let recorded = printable::line(&format!("{} {message}", code.as_str()), 200);
            Ending::other(class_of(error.code), &recorded, &words(error))
        }
        (End::Failure { code, message }, Ok(response)) => {
            let recorded = printable::line(&format!("{} {message}", code.as_str()), 200);
            Ending::other(class_of(*code), &recorded, &format!("HTTP {}", response.status))
        }
    }
}

/// The recorded run was ended by time, and this is the same bundle.
fn by_time(made: &Comparing<'_>, code: ErrorCode, outcome: &Result<GuestResponse, CallError>) -> Ending {
    let recorded = code.as_str();
    let left = made.alignment.unused.len();
    match outcome {
        _ if left > 0 => {
            let replayed = match outcome {
                Ok(response) => format!("HTTP {}", response.status),
                Err(error) => words(error),
            };
            Ending::other(
                Class::Limit,
                recorded,
                &format!("{replayed}, {left} recorded host calls before that"),
            )
        }
        Err(error) if !is_time(error.code) => Ending::other(class_of(error.code), recorded, &words(error)),
        Err(_) => Ending::same(),
        Ok(response) => Ending::noted(format!(
            "recorded: {recorded}; with the time that it was denied it goes on to HTTP {}",
            response.status
        )),
    }
}

fn words(error: &CallError) -> String {
    printable::line(&error.to_string(), 200)
}

struct Recorded<'r> {
    status: u16,
    headers: &'r [(String, String)],
    body: Option<&'r Content>,
    trailers: &'r [(String, String)],
}

impl Recorded<'_> {
    fn differs(&self, response: &GuestResponse) -> Ending {
        let mut ending = Ending::same();
        let (headers, shaped) = pairs_alike(self.headers, &response.headers);
        let (trailers, shaped_too) = pairs_alike(self.trailers, &response.trailers);
        ending.by_shape = shaped + shaped_too;
        if self.status != response.status || !headers || !trailers {
            let recorded = head(self.status, self.headers, self.trailers);
            let replayed = head(response.status, &response.headers, &response.trailers);
            let mut found =
                Divergence::of(Class::OutputOnly, "response", "the answer's head differs".to_owned());
            found.diff = Some(Diff::of_values(recorded, replayed));
            ending.divergences.push(found);
        }
        let what = match (self.body, &response.body) {
            (None, None) => None,
            (Some(Content::Cut(bytes)), _) => {
                ending.note =
                    Some(format!("the answer's body ({bytes} bytes) was left out when it was recorded"));
                None
            }
            (Some(Content::Whole(recorded)), Some(replayed)) => {
                let differs = recorded != replayed;
                differs.then(|| {
                    ("the answer's body differs".to_owned(), Some(Diff::of_bytes(recorded, replayed)))
                })
            }
            (Some(Content::Whole(recorded)), None) => {
                Some((format!("the answer has no body; {} bytes were recorded", recorded.len()), None))
            }
            (None, Some(replayed)) => {
                Some((format!("the answer has a body of {} bytes; none was recorded", replayed.len()), None))
            }
        };
        if let Some((what, diff)) = what {
            let mut found = Divergence::of(Class::OutputOnly, "response body", what);
            found.diff = diff;
            ending.divergences.push(found);
        }
        ending
    }
}

fn head(status: u16, headers: &[(String, String)], trailers: &[(String, String)]) -> Value {
    let mut head = json!({ "status": status, "headers": headers });
    if !trailers.is_empty()
        && let Some(head) = head.as_object_mut()
    {
        head.insert("trailers".to_owned(), json!(trailers));
    }
    head
}

/// Whether they are alike, and how many are so only in their shape.
fn pairs_alike(recorded: &[(String, String)], replayed: &[(String, String)]) -> (bool, u64) {
    let pairs = recorded.iter().zip(replayed);
    let alike =
        recorded.len() == replayed.len() && pairs.clone().all(|(one, other)| header_alike(one, other));
    let shaped = pairs.filter(|(one, other)| one != other).count() as u64;
    (alike, if alike { shaped } else { 0 })
}

/// What the guest wrote. Of a run that was compared in part, one has to be the beginning of the other.
pub(super) fn streams(script: &Script, observed: &Observed, partial: bool) -> (Vec<Divergence>, Vec<String>) {
    let mut found = Vec::new();
    let mut notes = Vec::new();
    let recorded = script.streams.iter().filter(|(_, (kind, _))| *kind != StreamKind::Input);
    let mut numbers: Vec<u32> = recorded.map(|(number, _)| *number).collect();
    numbers.extend(observed.written.keys());
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        let name = match number {
            0 => "stdout".to_owned(),
            1 => "stderr".to_owned(),
            number => format!("stream {number}"),
        };
        let recorded = match script.streams.get(&number) {
            Some((_, Content::Whole(bytes))) => bytes.as_ref(),
            Some((_, Content::Cut(bytes))) => {
                notes.push(format!("{name} ({bytes} bytes) was left out when it was recorded"));
                continue;
            }
            None => &[],
        };
        let (replayed, more) = observed
            .written
            .get(&number)
            .map_or((&[][..], 0), |written| (written.bytes.as_slice(), written.more));
        let same = if partial {
            recorded.starts_with(replayed) || replayed.starts_with(recorded)
        } else {
            recorded == replayed && more == 0
        };
        if !same {
            let mut divergence =
                Divergence::of(Class::OutputOnly, &name, "what the guest wrote differs".to_owned());
            divergence.diff = Some(Diff::of_bytes(recorded, replayed));
            found.push(divergence);
        }
    }
    (found, notes)
}
