//! Writes a run's trace: every host call, clock, random number and stream, in the guest's order, with tokens in place of secrets.
//!
//! All of it stays in memory until the run is over, within bounds, and is published whole or not at all. So a trace that is wanted of failures
//! alone costs nothing but its encoding, and neither a slow Redis nor a worker's death leaves half of one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use longshore_proto::trace::{
    Clock, Entry, Header, MAX_INLINE_BYTES, Payload, RandomSource, StreamKind, Unreplayable,
};
use longshore_proto::{CallError, ContentHash, Run};
use longshore_secrets::tokens::Tokenizer;
use longshore_trace::{PackError, Packed, Packer, TrailerParts};
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::tape::encode;
use crate::job::{GuestResponse, Usage};

/// The host call whose answer is a secret as a whole.
const SECRET: &str = "secrets.get";
/// How the answer of a secret that names hosts begins: it is a handle, no value.
const HANDLE: &str = "{{secret:";
/// Functions of streams that stand for themselves: they have only numbers and lengths, so nothing is looked for in them.
const STREAMS: [&str; 3] = ["wasi:io/streams.", "wasi:io/poll.", "wasi:clocks/"];
/// What must still fit when the rest is cut: the answer's head, the streams' marks and the trailer.
const RESERVE: usize = 256 << 10;
/// What a stream weighs besides its bytes: a guest may begin many.
const STREAM_COST: usize = 128;
/// The guest's stdout.
pub(super) const STDOUT: u32 = 0;
/// Its stderr.
pub(super) const STDERR: u32 = 1;
/// The first of all other streams.
pub(super) const FIRST: u32 = 2;

/// The trace of one run, as it grows. Called from the threads that run the guest; one run's calls come one at a time.
pub struct Recorder {
    began: Instant,
    tokens: Tokenizer,
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    packer: Packer,
    calls: u32,
    streams: BTreeMap<u32, (StreamKind, Vec<u8>)>,
    next_stream: u32,
    /// Large payloads, by digest.
    stored: BTreeMap<ContentHash, Bytes>,
    /// Bytes of streams and stored payloads; the packer counts its own.
    held: usize,
    missing: Option<Unreplayable>,
    /// There was no room: nothing more of the guest's calls is kept, since a replay could not use it.
    closed: bool,
}

/// A host call that has begun. One that is dropped was under way when the run ended.
#[derive(Debug)]
pub struct BegunCall {
    call: u32,
    function: &'static str,
    at_us: u64,
    /// There was room for its beginning. Without it, an end has no place either.
    kept: bool,
}

/// A finished trace with what goes to the bundle store.
#[derive(Debug)]
pub struct Recorded {
    /// The trace.
    pub packed: Packed,
    /// Payloads over [`MAX_INLINE_BYTES`], by digest.
    pub payloads: BTreeMap<ContentHash, Bytes>,
}

impl Recorder {
    /// Begins with the header and the request. `limit` bounds what is held, in bytes; what is over it is cut, and the trace says after which
    /// call.
    pub fn new(mut header: Header, body: Option<&Bytes>, tokens: Tokenizer, limit: usize) -> Self {
        header.redaction = tokens.redaction();
        redact_run(&mut header.run, &tokens);
        let body = body.map(|body| tokens.body(body).into_owned());
        let streams = BTreeMap::from([
            (STDOUT, (StreamKind::Stdout, Vec::new())),
            (STDERR, (StreamKind::Stderr, Vec::new())),
        ]);
        let inner = Inner { next_stream: FIRST, streams, ..Inner::default() };
        let recorder = Self { began: Instant::now(), tokens, limit, inner: Mutex::new(inner) };
        {
            let inner = &mut *recorder.inner.lock();
            inner.packer.push(0, Entry::Header(Box::new(header)));
            let body = body.map(|body| recorder.payload(inner, body, None));
            inner.packer.push(0, Entry::Request { body });
        }
        recorder
    }

    /// A host call begins.
    pub fn begin_call(&self, function: &'static str, args: &impl Serialize) -> BegunCall {
        self.begin_encoded(function, encode(args))
    }

    /// The same with arguments that are MessagePack already.
    pub fn begin_encoded(&self, function: &'static str, args: Vec<u8>) -> BegunCall {
        let args = self.redacted(function, args);
        let inner = &mut *self.inner.lock();
        let (call, at_us) = (inner.calls, self.at());
        inner.calls = call.saturating_add(1);
        let kept = self.has_room(inner);
        if kept {
            let args = self.payload(inner, args, call.checked_sub(1));
            inner.packer.push(at_us, Entry::CallStart { call, function: function.into(), args });
        }
        BegunCall { call, function, at_us, kept }
    }

    /// A host call is over.
    pub fn end_call(
        &self,
        begun: BegunCall,
        outcome: &'static str,
        result: &impl Serialize,
        note: Option<String>,
    ) {
        let BegunCall { call, function, at_us, kept } = begun;
        if !kept {
            return;
        }
        let result = match function {
            SECRET => self.secret(encode(result)),
            function => self.redacted(function, encode(result)),
        };
        let note = note.map(|note| self.tokens.aside(&note).into_owned());
        let inner = &mut *self.inner.lock();
        let now_us = self.at();
        let result = self.payload(inner, result, call.checked_sub(1));
        let duration_us = now_us.saturating_sub(at_us);
        inner
            .packer
            .push(now_us, Entry::CallEnd { call, outcome: outcome.into(), result, duration_us, note });
    }

    /// The guest read a clock.
    pub fn clock(&self, clock: Clock, ns: u64) {
        self.push(Entry::Clock { clock, ns });
    }

    /// The guest read random bytes.
    pub fn random(&self, source: RandomSource, bytes: &[u8]) {
        self.push(Entry::Random { source, bytes: bytes.to_vec() });
    }

    /// The number of a stream that begins now.
    pub fn new_stream(&self, kind: StreamKind) -> u32 {
        let inner = &mut *self.inner.lock();
        let stream = inner.next_stream;
        inner.next_stream = stream.saturating_add(1);
        if self.has_room(inner) {
            inner.streams.insert(stream, (kind, Vec::new()));
            inner.held = inner.held.saturating_add(STREAM_COST);
        }
        stream
    }

    /// Bytes have gone through a stream.
    pub fn stream_bytes(&self, stream: u32, bytes: &[u8]) {
        let inner = &mut *self.inner.lock();
        if inner.closed {
            return;
        }
        if !self.fits(inner, bytes.len()) {
            return cut(
                inner,
                inner.calls.checked_sub(1),
                "the streams of the run are larger than a trace may be",
            );
        }
        if let Some((_, content)) = inner.streams.get_mut(&stream) {
            content.extend_from_slice(bytes);
            inner.held = inner.held.saturating_add(bytes.len());
        }
    }

    /// Something of this run cannot be replayed, whatever else the trace has.
    pub fn unreplayable(&self, reason: &str) {
        self.inner
            .lock()
            .missing
            .get_or_insert_with(|| Unreplayable { after_call: None, reason: reason.to_owned() });
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> usize {
        let inner = self.inner.lock();
        inner.packer.len().saturating_add(inner.held)
    }

    /// Microseconds since the run began.
    pub fn at(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes the streams, the answer and the trailer of a run that ended at `at` (see [`Self::at`]): this may be called much later. What is
    /// asked of the recorder afterwards is not part of the trace.
    ///
    /// # Errors
    /// The trace cannot be packed: it is larger than any reader takes, or a bug.
    pub fn finish(
        &self,
        at: u64,
        result: Result<&GuestResponse, (&CallError, Option<&str>)>,
        usage: &Usage,
    ) -> Result<Recorded, PackError> {
        let mut inner = std::mem::take(&mut *self.inner.lock());
        let last = inner.calls.checked_sub(1);
        for (stream, (kind, content)) in std::mem::take(&mut inner.streams) {
            inner.held = inner.held.saturating_sub(content.len());
            let content = match self.tokens.body(&content) {
                Cow::Owned(redacted) => redacted,
                Cow::Borrowed(_) => content,
            };
            let content = self.payload(&mut inner, content, last);
            inner.packer.push(at, Entry::Stream { stream, kind, content });
        }
        let text = |text: &str| self.tokens.text(text).into_owned();
        let pairs = |pairs: &[(String, String)]| {
            let redacted = pairs.iter().map(|(n, v)| (text(n), self.tokens.header(n, v).into_owned()));
            redacted.collect::<Vec<_>>()
        };
        let outcome = match result {
            Ok(response) => {
                let body = response.body.as_ref().map(|body| self.tokens.body(body).into_owned());
                let body = body.map(|body| self.payload(&mut inner, body, last));
                let (headers, trailers) = (pairs(&response.headers), pairs(&response.trailers));
                inner.packer.push(at, Entry::Response { status: response.status, headers, body, trailers });
                "ok".to_owned()
            }
            Err((error, detail)) => {
                // Neither is the guest's to read.
                let aside = |words: &str| self.tokens.aside(words).into_owned();
                let (message, detail) = (aside(&error.message), detail.map(aside));
                inner.packer.push(at, Entry::Failure { code: error.code, message, detail });
                error.code.as_str().to_owned()
            }
        };
        let parts = TrailerParts {
            outcome,
            cpu_us: usage.cpu_us,
            peak_memory_bytes: usage.peak_memory_bytes,
            host_calls: usage.host_calls,
            outbound_requests: usage.outbound_requests,
            handler_us: usage.handler_us,
            secrets_read: self.tokens.has_seen_secret(),
            unreplayable: inner.missing,
        };
        let packed = inner.packer.finish(at, parts)?;
        Ok(Recorded { packed, payloads: inner.stored })
    }

    fn push(&self, entry: Entry) {
        let inner = &mut *self.inner.lock();
        if self.has_room(inner) {
            inner.packer.push(self.at(), entry);
        }
    }

    fn fits(&self, inner: &Inner, more: usize) -> bool {
        let used = inner.packer.len().saturating_add(inner.held).saturating_add(more);
        used.saturating_add(RESERVE) <= self.limit && !inner.packer.is_full()
    }

    fn has_room(&self, inner: &mut Inner) -> bool {
        if !inner.closed && !self.fits(inner, 0) {
            cut(
                inner,
                inner.calls.checked_sub(1),
                "the run's trace is larger than LONGSHORE_TRACE_MAX_RUN_BYTES",
            );
        }
        !inner.closed
    }

    /// Keeps bytes, or says that without them the run can be replayed up to `before` only.
    fn payload(&self, inner: &mut Inner, bytes: Vec<u8>, before: Option<u32>) -> Payload {
        let length = bytes.len();
        if !self.fits(inner, length) {
            cut(inner, before, "a payload of the run is larger than its trace may be");
            return Payload::Cut { bytes: length as u64 };
        }
        if length <= MAX_INLINE_BYTES {
            return Payload::Inline(bytes.into());
        }
        let sha256 = ContentHash::from_bytes(Sha256::digest(&bytes).into());
        if inner.stored.insert(sha256, bytes.into()).is_none() {
            inner.held = inner.held.saturating_add(length);
        }
        Payload::Stored { sha256, bytes: length as u64 }
    }

    fn redacted(&self, function: &str, encoded: Vec<u8>) -> Vec<u8> {
        if STREAMS.iter().any(|prefix| function.starts_with(prefix)) {
            return encoded;
        }
        // Headers and fields by policy are looked for in requests and answers; elsewhere only when there is a secret at all.
        let named =
            function.contains("http") || function.starts_with("ui-proxy") || function.starts_with("services");
        if !named && self.tokens.is_idle() {
            return encoded;
        }
        self.with_value(encoded, |value| self.tokens.value(value))
    }

    /// The answer of `secrets.get`: a token as a whole, however short the secret is.
    fn secret(&self, encoded: Vec<u8>) -> Vec<u8> {
        self.with_value(encoded, |value| {
            let rmpv::Value::Map(fields) = value else { return };
            // Its errors are names of the WIT.
            for (_, value) in fields.iter_mut().filter(|(name, _)| name.as_str() == Some("Ok")) {
                if let Some(text) = value.as_str() {
                    let handle = text.starts_with(HANDLE);
                    *value = if handle {
                        self.tokens.text(text).as_ref().into()
                    } else {
                        self.tokens.secret(text).into()
                    };
                }
            }
        })
    }

    #[expect(clippy::unused_self, reason = "belongs to the two above")]
    fn with_value(&self, encoded: Vec<u8>, change: impl FnOnce(&mut rmpv::Value)) -> Vec<u8> {
        // It was encoded a moment ago, so it can be read. Were it not, nothing of it may be kept.
        let Ok(mut value) = rmpv::decode::read_value(&mut encoded.as_slice()) else { return Vec::new() };
        change(&mut value);
        let mut changed = Vec::with_capacity(encoded.len());
        match rmpv::encode::write_value(&mut changed, &value) {
            Ok(()) => changed,
            Err(_) => Vec::new(),
        }
    }
}

/// From here on the trace is not whole.
fn cut(inner: &mut Inner, after_call: Option<u32>, reason: &str) {
    inner.closed = true;
    inner.missing.get_or_insert_with(|| Unreplayable { after_call, reason: reason.to_owned() });
}

/// The run as the trace has it: without the envelope, and with tokens. Headers go first, so that what they give away is found in the rest. Most
/// runs have nothing to hide, and are not copied.
fn redact_run(run: &mut Arc<Run>, tokens: &Tokenizer) {
    if run.secret_envelope.is_some() {
        Arc::make_mut(run).secret_envelope = None;
    }
    for at in 0..run.http.headers.len() {
        let Some((name, value)) = run.http.headers.get(at) else { continue };
        if let Cow::Owned(token) = tokens.header(name, value)
            && let Some((_, value)) = Arc::make_mut(run).http.headers.get_mut(at)
        {
            *value = token;
        }
    }
    let plain = |value: &String| matches!(tokens.text(value), Cow::Borrowed(_));
    let replace = |value: &mut String| *value = tokens.text(value).into_owned();
    if !plain(&run.http.url) {
        replace(&mut Arc::make_mut(run).http.url);
    }
    if !run.context.config.values().all(plain) {
        Arc::make_mut(run).context.config.values_mut().for_each(replace);
    }
    let fields = |run: &Run| run.user.as_ref().is_none_or(|user| user.additional_fields.values().all(plain));
    if !fields(run)
        && let Some(user) = &mut Arc::make_mut(run).user
    {
        user.additional_fields.values_mut().for_each(replace);
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
