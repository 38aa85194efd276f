//! What a run leaves behind: events, output, counters. It outlives the store, so that a run that is dropped in the
//! middle of a host call still has its last half line and its usage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use longshore_proto::event::{DebugEvent, Kind, Level, Origin, Stream, truncate};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::output::{Budget, Lines};
use crate::events::EventSink;

/// How much a run may leave behind.
#[derive(Debug, Clone, Copy)]
pub struct RecordLimits {
    /// Host calls; lines of the log do not count.
    pub host_calls: u64,
    /// Bytes of log lines, stdout and stderr together.
    pub log_bytes: usize,
    /// Bytes of one line.
    pub line_bytes: usize,
    /// Whether guest output also goes to the worker's own log.
    pub guest_log: bool,
}

/// The record of one run.
pub struct RunRecord {
    origin: Arc<Origin>,
    sink: Arc<dyn EventSink>,
    limits: RecordLimits,
    host_calls: AtomicU64,
    memory_refused: AtomicBool,
    peak_memory: AtomicU64,
    output: Mutex<Output>,
}

struct Output {
    budget: Budget,
    stdout: Lines,
    stderr: Lines,
}

impl RunRecord {
    /// An empty one.
    pub fn new(origin: Origin, sink: Arc<dyn EventSink>, limits: RecordLimits) -> Self {
        Self {
            origin: Arc::new(origin),
            sink,
            limits,
            host_calls: AtomicU64::new(0),
            memory_refused: AtomicBool::new(false),
            peak_memory: AtomicU64::new(0),
            output: Mutex::new(Output {
                budget: Budget::new(limits.log_bytes),
                stdout: Lines::new(limits.line_bytes),
                stderr: Lines::new(limits.line_bytes),
            }),
        }
    }

    /// Publishes one event.
    pub fn emit(&self, kind: Kind, level: Level, stream: Stream, message: String, data: Option<Value>) {
        self.publish(kind, level, stream, message, false, data);
    }

    fn publish(
        &self,
        kind: Kind,
        level: Level,
        stream: Stream,
        message: String,
        truncated: bool,
        data: Option<Value>,
    ) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.sink.emit(DebugEvent {
            origin: Some(Arc::clone(&self.origin)),
            at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
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
        if self.output.lock().budget.take(text.len().min(self.limits.line_bytes)) {
            self.publish_line(kind, level, stream, text, cut);
        }
    }

    fn publish_line(&self, kind: Kind, level: Level, stream: Stream, text: &[u8], cut: bool) {
        // Cut before the conversion: three bytes come out of each that is no UTF-8.
        let kept = text.get(..self.limits.line_bytes).unwrap_or(text);
        let cut = cut || kept.len() < text.len();
        let mut message = match std::str::from_utf8(kept) {
            Ok(text) => text.to_owned(),
            // A cut inside a character is no fault of the guest.
            Err(e) if cut && e.error_len().is_none() => {
                String::from_utf8_lossy(kept.get(..e.valid_up_to()).unwrap_or_default()).into_owned()
            }
            Err(_) => String::from_utf8_lossy(kept).into_owned(),
        };
        let truncated = truncate(&mut message, self.limits.line_bytes) || cut;
        if self.limits.guest_log {
            self.trace(level, stream, &message);
        }
        self.publish(kind, level, stream, message, truncated, None);
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
        let (lines, bytes) = self.output.lock().budget.dropped();
        if lines > 0 {
            self.emit(
                Kind::Dropped,
                Level::Warn,
                Stream::Log,
                format!(
                    "{lines} lines of output ({bytes} bytes) dropped: the run is over its limit of {} bytes",
                    self.limits.log_bytes
                ),
                Some(json!({ "lines": lines, "bytes": bytes, "limit_bytes": self.limits.log_bytes })),
            );
        }
    }

    /// Whether the log has ended.
    pub fn is_log_full(&self) -> bool {
        self.output.lock().budget.is_full()
    }

    /// Counts a host call; whether it is within the limit.
    pub fn charge_host_call(&self) -> bool {
        self.host_calls.fetch_add(1, Relaxed) < self.limits.host_calls
    }

    /// Host calls so far.
    pub fn host_calls(&self) -> u64 {
        self.host_calls.load(Relaxed)
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
        let limits = RecordLimits { host_calls: 1, log_bytes: 1, line_bytes: 1, guest_log: false };
        Self::new(origin, Arc::new(crate::events::NoEvents), limits)
    }
}
