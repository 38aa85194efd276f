//! A small run, and the means to damage it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    reason = "a test; not every file uses all of it"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use longshore_proto::call::{CaptureLevel, Run, RunContext, RunHttp};
use longshore_proto::error::ErrorCode;
use longshore_proto::trace::*;
use longshore_proto::{BootId, CapabilitySet, ContentHash, ExecutionId, LimitSet, Limits, wire};
use longshore_trace::{Packed, Packer, TrailerParts, container, digest};

pub const EXECUTION: ExecutionId = ExecutionId::from_bytes([0xe1; 16]);

pub fn header(tenant: &str, execution: ExecutionId) -> Header {
    Header {
        v: TRACE_VERSION,
        execution,
        attempt: 1,
        run: Arc::new(Run {
            context: RunContext {
                request_id: Some("req-1".into()),
                tenant: tenant.parse().unwrap(),
                extension: "ext-1".parse().unwrap(),
                install_id: Some("install-1".into()),
                version_id: None,
                content_hash: digest(b"the bundle"),
                config: BTreeMap::from([("greeting".to_owned(), "ahoy".to_owned())]),
                trigger: None,
            },
            http: RunHttp {
                method: "GET".into(),
                url: "/hello?token=x".into(),
                headers: vec![("accept".into(), "*/*".into())],
                scheme: None,
                authority: None,
            },
            limits: Limits::default(),
            capabilities: CapabilitySet::parse(["cap:http.fetch"]).unwrap(),
            user: None,
            secret_envelope: None,
            egress: None,
            capture: CaptureLevel::Record,
        }),
        component: digest(b"the component"),
        engine: EngineInfo {
            wasmtime: "48.0.8".into(),
            compiler: "cranelift".into(),
            fingerprint: "1_48_x86_64".into(),
        },
        limits: LimitSet::default(),
        redaction: Redaction { policy: "p1".into(), key: "k1".into() },
        started_at_ms: 1_700_000_000_000,
        worker: BootId::from_bytes([0xb1; 16]),
    }
}

pub fn inline(bytes: &[u8]) -> Payload {
    Payload::Inline(Bytes::copy_from_slice(bytes))
}

pub fn start(call: u32) -> Entry {
    Entry::CallStart { call, function: "storage.get".into(), args: inline(b"\x81\xa1k\xa1v") }
}

pub fn end(call: u32) -> Entry {
    Entry::CallEnd { call, outcome: "ok".into(), result: inline(b"\xc0"), duration_us: 12, note: None }
}

pub fn response() -> Entry {
    Entry::Response {
        status: 201,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: Some(inline(b"answer")),
        trailers: Vec::new(),
    }
}

pub fn failure() -> Entry {
    Entry::Failure { code: ErrorCode::Timeout, message: "too late".into(), detail: None }
}

/// A run with something of everything.
pub fn entries(tenant: &str, execution: ExecutionId) -> Vec<Entry> {
    vec![
        Entry::Header(Box::new(header(tenant, execution))),
        Entry::Request { body: Some(inline(b"question")) },
        start(0),
        Entry::Clock { clock: Clock::Wall, ns: 1_700_000_000_000_000_000 },
        start(1),
        end(1),
        end(0),
        Entry::Random { source: RandomSource::Secure, bytes: vec![1, 2, 3, 4] },
        Entry::Stream { stream: 0, kind: StreamKind::Stdout, content: inline(b"hello\n") },
        response(),
    ]
}

pub fn parts() -> TrailerParts {
    TrailerParts {
        outcome: "ok".into(),
        cpu_us: 100,
        host_calls: 2,
        handler_us: 900,
        ..TrailerParts::default()
    }
}

pub fn pack(entries: Vec<Entry>) -> Packed {
    pack_with(entries, parts())
}

pub fn pack_with(entries: Vec<Entry>, parts: TrailerParts) -> Packed {
    let mut packer = Packer::new();
    for (at, entry) in entries.into_iter().enumerate() {
        packer.push(at as u64 * 10, entry);
    }
    packer.finish(1_000, parts).unwrap()
}

/// A packed run of a tenant with a body of bytes that do not compress.
pub fn run(
    tenant: &str,
    execution: ExecutionId,
    attempt: u32,
    noise: usize,
    edit: impl FnOnce(&mut Header),
) -> Packed {
    let mut all = entries(tenant, execution);
    if let Some(Entry::Header(header)) = all.first_mut() {
        header.attempt = attempt;
        edit(header);
    }
    all[1] = Entry::Request { body: Some(Payload::Inline(Bytes::from(random_bytes(noise)))) };
    pack(all)
}

/// The same each time.
pub fn random_bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(count)
    .collect()
}

/// The raw records of a packed trace.
pub fn records(packed: &[u8]) -> Vec<Vec<u8>> {
    let opened = container::open(packed, container::MAX_UNPACKED_BYTES).unwrap();
    container::split(&opened.frame).unwrap().into_iter().map(<[u8]>::to_vec).collect()
}

/// Packs records as they are: length and digest are right, whatever the records say.
pub fn seal(records: &[Vec<u8>]) -> Bytes {
    let mut frame = Vec::new();
    for record in records {
        frame.extend_from_slice(&(record.len() as u32).to_le_bytes());
        frame.extend_from_slice(record);
    }
    container::seal(TRACE_VERSION, &frame).unwrap()
}

/// Entries numbered and packed with a right trailer: whatever is wrong with them, all hashes and counts are right.
pub fn forge(entries: Vec<Entry>) -> Bytes {
    let mut raw: Vec<Vec<u8>> = entries
        .into_iter()
        .enumerate()
        .map(|(seq, entry)| wire::encode(&Record { seq: seq as u32, at_us: 0, entry }).unwrap())
        .collect();
    let hash = container::rolling(raw.iter().map(Vec::as_slice));
    let records = raw.len() as u32;
    let trailer = Entry::Trailer(trailer(records, hash));
    raw.push(wire::encode(&Record { seq: records, at_us: 0, entry: trailer }).unwrap());
    seal(&raw)
}

pub fn trailer(records: u32, hash: ContentHash) -> Trailer {
    Trailer {
        outcome: "ok".into(),
        cpu_us: 0,
        peak_memory_bytes: 0,
        host_calls: 0,
        outbound_requests: 0,
        handler_us: 0,
        records,
        hash,
        secrets_read: false,
        unreplayable: None,
    }
}
