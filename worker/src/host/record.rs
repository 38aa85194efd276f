//! What a run leaves behind: events, output, counters. It outlives the store, so that a run that is dropped in the
//! middle of a host call still has its last half line and its usage.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use longshore_proto::event::{Data, DebugEvent, Kind, Level, Origin, Stream, truncate};
use longshore_secrets::Redactor;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::output::{Budget, Lines};
use super::recorded::{Fields, Room};
use crate::events::EventSink;
use crate::limits::RunLimits;

/// How guest output is written.
#[derive(Debug, Clone, Copy)]
pub struct OutputConfig {
    /// Bytes of one line.
    pub line_bytes: usize,
    /// Whether guest output also goes to the worker's own log.
    pub guest_log: bool,
}

/// The record of one run.
pub struct RunRecord {
    origin: Arc<Origin>,
    sink: Arc<dyn EventSink>,
    config: OutputConfig,
    /// When it began: one clock tells how long something took, and with this the time of day, too.
    began: (Instant, Duration),
    /// Known once the envelope has been opened, before anything of the call is published.
    redactor: OnceLock<Arc<Redactor>>,
    /// Known once the bundle is at hand, before the guest starts.
    limits: OnceLock<RunLimits>,
    host_calls: AtomicU64,
    /// Those among the host calls that log a line, which the limit of host calls leaves out.
    log_calls: AtomicU64,
    outbound_requests: AtomicU64,
    /// Words for the event of the host call that is under way.
    note: Mutex<Option<String>>,
    memory_refused: AtomicBool,
    peak_memory: AtomicU64,
    output: Mutex<Output>,
}

struct Output {
    budget: Budget,
    stdout: Lines,
    stderr: Lines,
}

/// A message that is a JSON object becomes fields that programs can search.
fn fields(message: &str) -> Option<Value> {
    let is_object = message.starts_with('{') && message.ends_with('}');
    let object = is_object.then(|| serde_json::from_str(message).ok()).flatten().filter(Value::is_object)?;
    Some(json!({ "fields": object }))
}

impl RunRecord {
    /// An empty one.
    pub fn new(origin: Origin, sink: Arc<dyn EventSink>, config: OutputConfig) -> Self {
        Self {
            origin: Arc::new(origin),
            sink: sink.for_run().unwrap_or(sink),
            config,
            began: (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            redactor: OnceLock::new(),
            limits: OnceLock::new(),
            host_calls: AtomicU64::new(0),
            log_calls: AtomicU64::new(0),
            outbound_requests: AtomicU64::new(0),
            note: Mutex::new(None),
            memory_refused: AtomicBool::new(false),
            peak_memory: AtomicU64::new(0),
            output: Mutex::new(Output {
                budget: Budget::default(),
                stdout: Lines::new(config.line_bytes),
                stderr: Lines::new(config.line_bytes),
            }),
        }
    }

    /// From now on nothing that is published has a secret of `redactor` in it. The first call counts.
    pub fn keep_secret(&self, redactor: Arc<Redactor>) {
        let _ = self.redactor.set(redactor);
    }

    /// The guest is about to start, under these limits. The first call counts.
    pub fn start(&self, limits: RunLimits) {
        self.output.lock().budget = Budget::new(limits.log_bytes.as_usize(), limits.log_lines.as_usize());
        let _ = self.limits.set(limits);
    }

    /// Whether anybody gets the events: if not, their details need not be made.
    pub fn is_watched(&self) -> bool {
        self.sink.is_watched()
    }

    /// Takes secrets out of a text that leaves the sandbox.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.redactor.get().map_or(Cow::Borrowed(text), |redactor| redactor.redact(text))
    }

    /// The same for a text that may have been cut off at its end.
    pub fn redact_cut<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.redactor.get().map_or(Cow::Borrowed(text), |redactor| redactor.redact_cut(text))
    }

    /// Leaves words for the event of the host call that is under way: why it was refused, what the other side said.
    pub fn note(&self, words: impl Into<String>) {
        *self.note.lock() = Some(words.into());
    }

    pub(super) fn take_note(&self) -> Option<String> {
        self.note.lock().take()
    }

    /// Publishes one event, if anybody gets it. Secrets are taken out of `message` and of what `data` writes.
    pub fn emit(
        &self,
        kind: Kind,
        level: Level,
        stream: Stream,
        message: fmt::Arguments<'_>,
        data: impl FnOnce(&mut Fields<'_, '_>),
    ) {
        if !self.sink.is_watched() {
            return;
        }
        let nothing = Redactor::empty();
        let redactor = self.redactor.get().map_or(&nothing, Arc::as_ref);
        let mut room = Room::boundless(redactor);
        room.object(data);
        let data = room.into_data().filter(|data| !data.is_empty());
        let message = (self.shown(message.to_string(), false), false);
        self.send(Instant::now(), (kind, level, stream), message, data);
    }

    /// Publishes the end of a host call; nothing of it is secret any more.
    pub(super) fn host_call(&self, ended: Instant, message: String, data: Option<Data>) {
        self.send(ended, (Kind::HostCall, Level::Debug, Stream::Log), (message, false), data);
    }

    /// A text as it may leave the sandbox; `cut` when its end is missing.
    fn shown(&self, text: String, cut: bool) -> String {
        match self.redactor.get().filter(|redactor| !redactor.is_empty()) {
            None => text,
            Some(redactor) if cut => redactor.redact_cut(&text).into_owned(),
            Some(redactor) => redactor.redact(&text).into_owned(),
        }
    }

    fn shown_data(&self, mut data: Option<Value>) -> Option<Data> {
        if let (Some(data), Some(redactor)) = (&mut data, self.redactor.get().filter(|r| !r.is_empty())) {
            redactor.redact_json(data);
        }
        Data::of(&data?)
    }

    /// Publishes what has no secrets any more: a message, and whether it is cut.
    fn send(
        &self,
        at: Instant,
        (kind, level, stream): (Kind, Level, Stream),
        (message, truncated): (String, bool),
        data: Option<Data>,
    ) {
        let (began, epoch) = self.began;
        let at = epoch.saturating_add(at.saturating_duration_since(began));
        self.sink.emit(DebugEvent {
            origin: Some(Arc::clone(&self.origin)),
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            level,
            stream,
            kind,
            message,
            truncated,
            data,
        });
    }

    /// Publishes one line of the guest, cut at the line limit, if the budget has room for it.
    pub fn line(&self, kind: Kind, level: Level, stream: Stream, text: &[u8], cut: bool) {
        if self.output.lock().budget.take(text.len().min(self.config.line_bytes)) {
            self.publish_line(kind, level, stream, text, cut);
        }
    }

    fn publish_line(&self, kind: Kind, level: Level, stream: Stream, text: &[u8], cut: bool) {
        // Cut before the conversion: three bytes come out of each that is no UTF-8.
        let kept = text.get(..self.config.line_bytes).unwrap_or(text);
        let cut = cut || kept.len() < text.len();
        let mut message = match std::str::from_utf8(kept) {
            Ok(text) => text.to_owned(),
            // A cut inside a character is no fault of the guest.
            Err(e) if cut && e.error_len().is_none() => {
                String::from_utf8_lossy(kept.get(..e.valid_up_to()).unwrap_or_default()).into_owned()
            }
            Err(_) => String::from_utf8_lossy(kept).into_owned(),
        };
        let truncated = truncate(&mut message, self.config.line_bytes) || cut;
        let fields = if kind == Kind::Log && !truncated { fields(&message) } else { None };
        let message = self.shown(message, truncated);
        if self.config.guest_log {
            self.trace(level, stream, &message);
        }
        self.send(Instant::now(), (kind, level, stream), (message, truncated), self.shown_data(fields));
    }

    fn trace(&self, level: Level, stream: Stream, line: &str) {
        let origin = &self.origin;
        let request = origin.request.as_deref().unwrap_or_default();
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(target: "guest", tenant = %origin.tenant, extension = %origin.extension, request,
                    stream = stream.as_str(), "{line}")
            };
        }
        match level {
            Level::Error => event!(error),
            Level::Warn => event!(warn),
            Level::Info => event!(info),
            Level::Debug => event!(debug),
            Level::Trace => event!(trace),
        }
    }

    /// Takes what the guest wrote to stdout or stderr.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        self.lines(stream, |lines, line| lines.push(bytes, line));
    }

    fn lines(&self, stream: Stream, feed: impl FnOnce(&mut Lines, &mut dyn FnMut(&[u8], bool))) {
        let (kind, level) = match stream {
            Stream::Stderr => (Kind::Stderr, Level::Error),
            _ => (Kind::Stdout, Level::Info),
        };
        let output = &mut *self.output.lock();
        let lines = if stream == Stream::Stderr { &mut output.stderr } else { &mut output.stdout };
        let budget = &mut output.budget;
        feed(lines, &mut |text, cut| {
            if budget.take(text.len()) {
                self.publish_line(kind, level, stream, text, cut);
            }
        });
    }

    /// Publishes half lines and says how much was dropped. Call when the instance is gone.
    pub fn end_output(&self) {
        self.lines(Stream::Stdout, |lines, line| lines.end(line));
        self.lines(Stream::Stderr, |lines, line| lines.end(line));
        let (dropped, over_lines) = {
            let output = self.output.lock();
            (output.budget.dropped(), output.budget.is_out_of_lines())
        };
        let (Some(limits), (lines @ 1.., bytes)) = (self.limits.get(), dropped) else {
            return;
        };
        let (code, limit, unit) = match over_lines {
            true => ("log_lines", limits.log_lines, "lines"),
            false => ("log_bytes", limits.log_bytes, "bytes"),
        };
        let (value, by) = (limit.value, limit.by.as_str());
        self.emit(
            Kind::Dropped,
            Level::Warn,
            Stream::Log,
            format_args!(
                "{lines} lines of output ({bytes} bytes) dropped: {code}: {value} {unit} are allowed by {by}"
            ),
            |data| {
                data.text("code", code);
                data.number("lines", lines);
                data.number("bytes", bytes);
                data.number("limit", value);
                data.text("limit_by", by);
            },
        );
    }

    /// Whether the log has ended.
    pub fn is_log_full(&self) -> bool {
        self.output.lock().budget.is_full()
    }

    /// Counts a host call that logs a line: lines have limits of their own.
    pub fn count_log_call(&self) {
        self.log_calls.fetch_add(1, Relaxed);
    }

    /// Counts any other host call; whether it is within the limit.
    pub fn charge_host_call(&self) -> bool {
        let limit = self.limits.get().map_or(0, |limits| limits.host_calls.value);
        self.host_calls.fetch_add(1, Relaxed) < limit
    }

    /// Counts an outbound request; whether it is within the limit.
    pub fn charge_outbound_request(&self) -> bool {
        let limit = self.limits.get().map_or(0, |limits| limits.outbound_requests.value);
        self.outbound_requests.fetch_add(1, Relaxed) < limit
    }

    /// Outbound requests so far.
    pub fn outbound_requests(&self) -> u64 {
        self.outbound_requests.load(Relaxed)
    }

    /// Host calls so far, those that log included.
    pub fn host_calls(&self) -> u64 {
        self.host_calls.load(Relaxed).saturating_add(self.log_calls.load(Relaxed))
    }

    /// Remembers that a growth was refused.
    pub fn memory_refused(&self) {
        self.memory_refused.store(true, Relaxed);
    }

    /// Whether one was.
    pub fn was_memory_refused(&self) -> bool {
        self.memory_refused.load(Relaxed)
    }

    /// Notes what the instance holds.
    pub fn memory_held(&self, bytes: usize) {
        self.peak_memory.fetch_max(bytes as u64, Relaxed);
    }

    /// The most that it held, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.peak_memory.load(Relaxed)
    }

    /// One that keeps nothing.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let origin = Origin {
            tenant: "t".parse().unwrap(),
            extension: "e".parse().unwrap(),
            install: None,
            request: None,
            version: None,
            content_hash: longshore_proto::ContentHash::from_bytes([0; 32]),
            execution: longshore_proto::ExecutionId::from_bytes([0; 16]),
            attempt: 1,
        };
        let config = OutputConfig { line_bytes: 1, guest_log: false };
        Self::new(origin, Arc::new(crate::events::NoEvents), config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WorkerMaxima;

    #[test]
    fn lines_of_the_log_are_counted_and_take_nothing_from_the_host_calls() {
        let record = RunRecord::for_tests();
        let worker = WorkerMaxima { host_calls: 2, ..WorkerMaxima::default() };
        let limits = RunLimits::lowest(&worker, &Default::default(), &Default::default());
        record.start(limits);
        (0..100).for_each(|_| record.count_log_call());
        assert_eq!([(); 3].map(|()| record.charge_host_call()), [true, true, false]);
        assert_eq!(record.host_calls(), 103);
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_is_cut_inside_a_secret_leaves_no_beginning_of_it_in_the_workers_own_log() {
        let mut record = RunRecord::for_tests();
        record.config = OutputConfig { line_bytes: 20, guest_log: true };
        record.keep_secret(Arc::new(Redactor::new(["canary-secret-value"])));
        let limits = RunLimits::lowest(&WorkerMaxima::default(), &Default::default(), &Default::default());
        record.start(limits);
        let written = Written::default();
        let writer = written.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            record.line(Kind::Log, Level::Info, Stream::Log, b"a key: canary-secret-value", false);
            record.line(Kind::Log, Level::Info, Stream::Log, b"a plain line", false);
        });
        let log = String::from_utf8(written.0.lock().clone()).unwrap();
        assert!(log.contains("a key: ") && log.contains("a plain line"), "{log}");
        assert!(!log.contains("cana"), "{log}");
    }
}
