//! Traces made by hand, and guests that are lists of steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use longshore_proto::call::{RunContext, RunHttp};
use longshore_proto::trace::{
    Clock, EngineInfo, Entry, Header, Payload, RandomSource, Record, Redaction, StreamKind, TRACE_VERSION,
    Trailer, Unreplayable,
};
use longshore_proto::{BootId, CallError, ContentHash, ErrorCode, ExecutionId, LimitSet, Run};
use longshore_worker::host::tape::{Played, Player as _};
use longshore_worker::job::{GuestResponse, Outcome};
use serde_json::{Value, json};

use crate::compare::{Comparison, compare};
use crate::player::{Rules, TracePlayer};
use crate::report::{Mode, Report, Sides};
use crate::script::{Script, ScriptError};
use crate::value;

pub(crate) fn packed(json: &Value) -> Vec<u8> {
    value::pack(&value::packed_like(json, None))
}

pub(crate) fn header() -> Header {
    Header {
        v: TRACE_VERSION,
        execution: ExecutionId::from_bytes([7; 16]),
        attempt: 1,
        run: Arc::new(Run {
            context: RunContext {
                request_id: None,
                tenant: "t-1".parse().unwrap(),
                extension: "7a4c1d2e-0000-4000-8000-000000000001".parse().unwrap(),
                install_id: None,
                version_id: None,
                content_hash: ContentHash::from_bytes([1; 32]),
                config: BTreeMap::new(),
                trigger: None,
            },
            http: RunHttp {
                method: "GET".into(),
                url: "/x?secret=1".into(),
                headers: Vec::new(),
                scheme: None,
                authority: None,
            },
            limits: Default::default(),
            capabilities: Default::default(),
            user: None,
            secret_envelope: None,
            egress: None,
            capture: Default::default(),
        }),
        component: ContentHash::from_bytes([2; 32]),
        engine: EngineInfo { wasmtime: "48".into(), compiler: "cranelift".into(), fingerprint: "f".into() },
        limits: LimitSet::default(),
        redaction: Redaction::default(),
        started_at_ms: 1_000,
        worker: BootId::from_bytes([3; 16]),
    }
}

/// A trace, record by record.
pub(crate) struct Made {
    entries: Vec<Entry>,
    calls: u32,
    end: Entry,
    pub(crate) secrets_read: bool,
    pub(crate) unreplayable: Option<Unreplayable>,
}

pub(crate) fn made() -> Made {
    let entries = vec![Entry::Header(Box::new(header())), Entry::Request { body: None }];
    Made { entries, calls: 0, end: answer(b"ok"), secrets_read: false, unreplayable: None }
}

fn answer(body: &'static [u8]) -> Entry {
    Entry::Response {
        status: 200,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: Some(Payload::Inline(Bytes::from_static(body))),
        trailers: Vec::new(),
    }
}

pub(crate) fn response(body: &'static [u8]) -> GuestResponse {
    GuestResponse {
        status: 200,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: Some(Bytes::from_static(body)),
        trailers: Vec::new(),
    }
}

impl Made {
    pub(crate) fn entry(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    pub(crate) fn begin(mut self, function: &str, args: &Value) -> Self {
        let args = Payload::Inline(packed(args).into());
        let call = self.calls;
        self.calls += 1;
        self.entry(Entry::CallStart { call, function: function.to_owned().into(), args })
    }

    pub(crate) fn call(self, function: &str, args: &Value, result: &Value) -> Self {
        let outcome = if result.get("Err").is_some() { "missing" } else { "ok" };
        let made = self.begin(function, args);
        let call = made.calls - 1;
        let result = Payload::Inline(packed(result).into());
        made.entry(Entry::CallEnd { call, outcome: outcome.into(), result, duration_us: 5, note: None })
    }

    /// `storage.get` of a key.
    pub(crate) fn get(self, key: &str) -> Self {
        let result = json!({"Ok": {"key": key, "value": format!("value of {key}")}});
        self.call("storage.get", &json!({"key": key}), &result)
    }

    pub(crate) fn failed(mut self, code: ErrorCode) -> Self {
        self.end = Entry::Failure { code, message: String::new(), detail: None };
        self
    }

    pub(crate) fn records(self) -> Vec<Record> {
        let mut entries = self.entries;
        entries.push(self.end);
        let records = u32::try_from(entries.len()).unwrap();
        entries.push(Entry::Trailer(Trailer {
            outcome: "ok".into(),
            cpu_us: 10,
            peak_memory_bytes: 65_536,
            host_calls: 3,
            outbound_requests: 0,
            handler_us: 100,
            records,
            hash: ContentHash::from_bytes([9; 32]),
            secrets_read: self.secrets_read,
            unreplayable: self.unreplayable,
        }));
        (0..).zip(entries).map(|(seq, entry)| Record { seq, at_us: u64::from(seq), entry }).collect()
    }

    pub(crate) fn script(self) -> Script {
        self.try_script().unwrap()
    }

    pub(crate) fn try_script(self) -> Result<Script, ScriptError> {
        Script::new(&self.records(), &BTreeMap::new())
    }
}

/// What a guest does.
pub(crate) enum Does {
    Call(&'static str, Value),
    Clock,
    Random(usize),
    Prints(&'static str),
}

pub(crate) fn get(key: &str) -> Does {
    Does::Call("storage.get", json!({"key": key}))
}

/// What a guest got, and how it ended.
pub(crate) struct Played2 {
    pub(crate) results: Vec<Value>,
    pub(crate) report: Report,
    pub(crate) comparison: Comparison,
}

/// Plays a script to a guest.
pub(crate) fn play(
    script: Script,
    rules: Rules,
    mode: Mode,
    does: &[Does],
    outcome: Result<GuestResponse, ErrorCode>,
) -> Played2 {
    let script = Arc::new(script);
    let player = TracePlayer::new(Arc::clone(&script), rules);
    let mut results = Vec::new();
    let mut result = outcome.map_err(CallError::from);
    for step in does {
        match step {
            Does::Call(function, args) => match player.call(function, &packed(args)) {
                Played::Result(result) => results.push(value::json_of(&result)),
                Played::End(_) => {
                    result = Err(CallError::from(ErrorCode::Internal));
                    break;
                }
            },
            Does::Clock => results.push(json!(player.clock(Clock::Wall))),
            Does::Random(length) => results.push(json!(player.random(RandomSource::Secure, *length).len())),
            Does::Prints(text) => player.wrote(0, StreamKind::Stdout, text.as_bytes()),
        }
    }
    let observed = player.observed();
    let comparison = compare(&script, &observed, &result, mode == Mode::Exact);
    let outcome = Outcome { result, usage: Default::default() };
    let candidate = ContentHash::from_bytes([1; 32]);
    let sides = Sides { script: &script, observed: &observed, outcome: &outcome, candidate };
    Played2 { results, report: Report::new(&sides, mode, comparison.clone()), comparison }
}

/// The same in exact mode with the answer that the trace has.
pub(crate) fn replayed(made: Made, does: &[Does]) -> Played2 {
    play(made.script(), Rules::default(), Mode::Exact, does, Ok(response(b"ok")))
}
