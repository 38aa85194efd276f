//! What a replay found, for people and for programs.

mod text;

use longshore_proto::ContentHash;
use longshore_proto::trace::EngineInfo;
use longshore_worker::job::Outcome;
use serde::Serialize;

use crate::compare::{Class, Comparison, Divergence, Line};
use crate::player::Observed;
use crate::player::redacted::is_sensitive;
use crate::printable;
use crate::script::{End, Script};

/// The word on a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every host call, every byte that the guest wrote, the answer and the end are those recorded.
    Identical,
    /// Something differs.
    Diverged,
    /// Something differs, and the guest had seen a secret, of which the trace has only a token: what it made of the
    /// secret, it could not make of the token.
    SecretDependent,
}

impl Verdict {
    /// As reports spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Diverged => "diverged",
            Self::SecretDependent => "secret_dependent",
        }
    }
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Is it the same?
    Exact,
    /// The same bundle, with other answers: by `--override`, or by hand at a step.
    Overridden,
    /// Another bundle.
    WhatIf,
}

/// A number of the recorded run and of the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// Then.
    pub recorded: u64,
    /// Now.
    pub replayed: u64,
}

/// What both runs cost. Times are of different machines and, now, without anything to wait for; memory and counts
/// can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Resources {
    /// CPU time of the guest, microseconds.
    pub cpu_us: Pair,
    /// Linear memory at its peak, bytes.
    pub peak_memory_bytes: Pair,
    /// Host calls, as counted against the limit.
    pub host_calls: Pair,
    /// Time in the handler, microseconds.
    pub handler_us: Pair,
    /// What the guests compute, if it was counted ([`Options::fuel`](crate::Options::fuel)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<Fuel>,
}

/// What two bundles compute for the same run, in wasmtime's units of fuel: about one for each instruction. The same number
/// on every machine and every time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fuel {
    /// The bundle that was recorded.
    pub recorded_bundle: u64,
    /// That of this replay.
    pub candidate: u64,
    /// The candidate's by the recorded bundle's.
    pub ratio: f64,
}

impl Fuel {
    pub(crate) fn new(recorded_bundle: u64, candidate: u64) -> Self {
        let ratio = candidate as f64 / recorded_bundle.max(1) as f64;
        Self { recorded_bundle, candidate, ratio }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The run.
    pub execution: String,
    /// Its attempt.
    pub attempt: u32,
    /// Whose.
    pub tenant: String,
    /// Which extension.
    pub extension: String,
    /// `GET /path`, cut.
    pub request: String,
    /// What was asked.
    pub mode: Mode,
    /// The bundle that was recorded.
    pub bundle: ContentHash,
    /// The bundle that ran now.
    pub candidate: ContentHash,
    /// The engine that ran it then.
    pub engine: EngineInfo,
    /// The word.
    pub verdict: Verdict,
    /// That of the first divergence.
    pub class: Option<Class>,
    /// `HTTP 200` or the error's code, then.
    pub recorded_end: String,
    /// The same, now.
    pub replayed_end: String,
    /// The first first.
    pub divergences: Vec<Divergence>,
    /// Those not told.
    pub more_divergences: u64,
    /// Recorded host calls that nobody asked for.
    pub leftovers: Vec<Line>,
    /// Those not listed.
    pub more_leftovers: u64,
    /// Host calls in the trace and in the replay.
    pub calls: Pair,
    /// Those of the replay that were recorded.
    pub matched: u64,
    /// Calls and headers of which only the shape was compared, because redaction had replaced what stood there.
    pub by_shape: u64,
    /// Why only the beginning was replayed, if so.
    pub partial: Option<String>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
    /// What both cost.
    pub resources: Resources,
}

/// What a report is made of.
pub(crate) struct Sides<'s> {
    pub(crate) script: &'s Script,
    pub(crate) observed: &'s Observed,
    pub(crate) outcome: &'s Outcome,
    pub(crate) candidate: ContentHash,
}

impl Report {
    pub(crate) fn new(sides: &Sides<'_>, mode: Mode, found: Comparison) -> Self {
        let Sides { script, observed, outcome, candidate } = sides;
        let header = &script.header;
        let http = &header.run.http;
        let path = http.url.split('?').next().unwrap_or_default();
        let (trailer, usage) = (&script.trailer, outcome.usage);
        let pair = |recorded, replayed| Pair { recorded, replayed };
        Self {
            execution: header.execution.to_string(),
            attempt: header.attempt,
            tenant: header.run.context.tenant.to_string(),
            extension: header.run.context.extension.to_string(),
            request: printable::line(&format!("{} {path}", http.method), 200),
            mode,
            bundle: header.run.context.content_hash,
            candidate: *candidate,
            engine: header.engine.clone(),
            verdict: verdict(script, mode, &found),
            class: found.divergences.first().map(|divergence| divergence.class),
            recorded_end: match &script.end {
                End::Response { status, .. } => format!("HTTP {status}"),
                End::Failure { code, .. } => code.as_str().to_owned(),
            },
            replayed_end: match (&outcome.result, &observed.ended) {
                (_, Some(ended)) => ended.words(),
                (Ok(response), None) => format!("HTTP {}", response.status),
                (Err(error), None) => error.code.as_str().to_owned(),
            },
            divergences: found.divergences,
            more_divergences: found.more,
            leftovers: found.leftovers,
            more_leftovers: found.more_leftovers,
            calls: pair(script.calls.len() as u64, observed.calls.len() as u64),
            matched: found.matched,
            by_shape: found.by_shape,
            partial: found.partial,
            notes: found.notes,
            resources: Resources {
                cpu_us: pair(trailer.cpu_us, usage.cpu_us),
                peak_memory_bytes: pair(trailer.peak_memory_bytes, usage.peak_memory_bytes),
                host_calls: pair(trailer.host_calls, usage.host_calls),
                handler_us: pair(trailer.handler_us, usage.handler_us),
                fuel: None,
            },
        }
    }

    /// 0: identical. 1: something differs, secret or not.
    pub const fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Identical => 0,
            Verdict::Diverged | Verdict::SecretDependent => 1,
        }
    }

    /// For people; harmless for a terminal, whatever the guest wrote.
    pub fn text(&self, color: bool) -> String {
        text::render(self, color)
    }
}

fn verdict(script: &Script, mode: Mode, found: &Comparison) -> Verdict {
    // Every header of the request is given to the guest: of these it saw the value then and a token now, though no secret of the install's
    // reached it. (The gateway hands on neither `authorization` nor cookies; `/v1/execute` hands on whatever its caller sends.) An empty
    // value has no token.
    let headers = &script.header.run.http.headers;
    let credentials = headers.iter().any(|(name, value)| !value.is_empty() && is_sensitive(name));
    match (found.divergences.is_empty(), mode) {
        (true, _) => Verdict::Identical,
        (false, Mode::Exact) if script.trailer.secrets_read || credentials => Verdict::SecretDependent,
        (false, _) => Verdict::Diverged,
    }
}
