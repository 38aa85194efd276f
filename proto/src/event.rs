//! Debug events: what a Redis stream entry holds (interop 3.6 and 8). The existing consumer reads the fields of the
//! reference; newer kinds go into `kind` and `data`, `stream` stays `log`, `stdout` or `stderr`.

use std::borrow::Cow;
use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use crate::ids::{ContentHash, ExecutionId, ExtensionId, TenantId};

/// How serious.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Finest.
    Trace,
    /// For developers.
    Debug,
    /// Usual.
    Info,
    /// Odd.
    Warn,
    /// Failed.
    Error,
}

impl Level {
    /// As the stream spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Where the text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The logging interface and the platform itself.
    Log,
    /// The guest's standard output.
    Stdout,
    /// The guest's standard error.
    Stderr,
}

impl Stream {
    /// As the stream spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The execution was admitted: who, which bundle, which limits.
    Context,
    /// The handler is about to be called.
    HandlerStart,
    /// A host call ended: name, duration, outcome.
    HostCall,
    /// The guest logged.
    Log,
    /// A line of standard output.
    Stdout,
    /// A line of standard error.
    Stderr,
    /// The handler answered: status, sizes, duration.
    Response,
    /// The execution failed.
    Error,
    /// What it used: CPU, memory, bytes.
    Usage,
    /// Events were lost before this one.
    Dropped,
}

impl Kind {
    /// As the stream spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::HandlerStart => "handler_start",
            Self::HostCall => "host_call",
            Self::Log => "log",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Response => "response",
            Self::Error => "error",
            Self::Usage => "usage",
            Self::Dropped => "dropped",
        }
    }
}

/// Whose event it is: shared by all events of an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The tenant.
    pub tenant: TenantId,
    /// The extension.
    pub extension: ExtensionId,
    /// The install.
    pub install: Option<String>,
    /// The caller's request id.
    pub request: Option<String>,
    /// The installed version.
    pub version: Option<String>,
    /// The bundle.
    pub content_hash: ContentHash,
    /// The execution.
    pub execution: ExecutionId,
    /// Its attempt.
    pub attempt: u32,
}

/// One entry of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct DebugEvent {
    /// Whose; absent for what belongs to no execution (drops).
    pub origin: Option<std::sync::Arc<Origin>>,
    /// When, as milliseconds since the Unix epoch; written as ISO-8601.
    pub at_ms: u64,
    /// How serious.
    pub level: Level,
    /// Where from.
    pub stream: Stream,
    /// What.
    pub kind: Kind,
    /// For people.
    pub message: String,
    /// The message was cut.
    pub truncated: bool,
    /// For programs, by kind; absent where the message says it all. A host call's name and outcome are what its message says, and are not
    /// here; see [`Self::whole_data`].
    pub data: Option<Data>,
}

/// A JSON object as text. It is written once, where the event is made, and copied from then on: as a tree of values it
/// was half of what a host call's event cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data(String);

impl Data {
    /// From text that is a JSON object; the caller has just written it.
    pub fn from_object(text: String) -> Self {
        debug_assert!(text.starts_with('{') && text.ends_with('}'), "no object: {text}");
        Self(text)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes of the text.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no fields.
    pub fn is_empty(&self) -> bool {
        self.fields().is_empty()
    }

    /// What stands between its braces, to be put beside other fields.
    pub fn fields(&self) -> &str {
        self.0.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default()
    }

    /// Anything that is written as an object.
    pub fn of(object: &impl Serialize) -> Option<Self> {
        serde_json::to_string(object).ok().filter(|text| text.starts_with('{')).map(Self)
    }

    /// As a tree.
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl DebugEvent {
    /// The stream key of one tenant's extension: prefix, lower-cased tenant, `:`, lower-cased extension, joined
    /// verbatim; without either, `unknown` (interop 8).
    pub fn key(prefix: &str, origin: Option<&Origin>) -> String {
        match origin {
            Some(o) => Self::key_of(prefix, &o.tenant, &o.extension),
            None => format!("{prefix}unknown"),
        }
    }

    /// [`Self::key`] of what has both.
    pub fn key_of(prefix: &str, tenant: &TenantId, extension: &ExtensionId) -> String {
        let (tenant, extension) =
            (tenant.as_str().to_ascii_lowercase(), extension.as_str().to_ascii_lowercase());
        format!("{prefix}{tenant}:{extension}")
    }

    /// The firehose of everything: the prefix without its trailing colon.
    pub fn firehose_key(prefix: &str) -> &str {
        prefix.strip_suffix(':').unwrap_or(prefix)
    }

    /// The data as others are shown it.
    pub fn whole_data(&self) -> Option<Cow<'_, Data>> {
        let data = self.data.as_ref()?;
        let Some((name, outcome)) = call_of(self.kind.as_str(), &self.message) else {
            return Some(Cow::Borrowed(data));
        };
        // Both are words of ours, which need no escape.
        let begin = ["{\"name\":\"", name, "\",\"outcome\":\"", outcome, "\""].concat();
        let comma = if data.is_empty() { "" } else { "," };
        Some(Cow::Owned(Data([&begin, comma, data.fields(), "}"].concat())))
    }

    /// Gives the fields in the order in which they are written; optional ones are left out when unknown.
    pub fn each_field(&self, mut field: impl FnMut(&'static str, &str)) {
        field("ts", &iso8601(self.at_ms));
        field("level", self.level.as_str());
        field("stream", self.stream.as_str());
        field("kind", self.kind.as_str());
        if let Some(o) = &self.origin {
            field("tenant", o.tenant.as_str());
            field("extension", o.extension.as_str());
            for (name, value) in [("install", &o.install), ("request", &o.request), ("version", &o.version)] {
                if let Some(value) = value {
                    field(name, value);
                }
            }
            field("content_hash", &o.content_hash.to_string());
            field("execution", &o.execution.to_string());
            field("attempt", itoa::Buffer::new().format(o.attempt));
        }
        field("message", &self.message);
        field("truncated", if self.truncated { "1" } else { "0" });
        if let Some(data) = self.whole_data() {
            field("data", data.as_str());
        }
    }
}

/// Name and outcome of a host call, from its message, or from the first line of its entry's.
fn call_of<'m>(kind: &str, message: &'m str) -> Option<(&'m str, &'m str)> {
    let first_line = message.split('\n').next().unwrap_or_default();
    (kind == Kind::HostCall.as_str()).then(|| first_line.split_once(' ')).flatten()
}

/// The field of an entry that has the events that share it: a JSON array of objects with `at_ms` (left out: as the event before it), `kind`
/// (left out: `host_call`), `level` (left out: the entry's), `message` (left out: the next further line of the entry's message) and `data`
/// (left out: none; a host call's has no `name` and no `outcome`, which are its message). What is left out is most of what a run's host calls
/// would repeat: of 430 bytes of a small one 85.
pub const MORE: &str = "more";

/// One of the events of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'e> {
    /// What, as the stream spells it.
    pub kind: Cow<'e, str>,
    /// For people.
    pub message: Cow<'e, str>,
    /// What it has of its own; none: it is the first, whose other fields are the entry's.
    pub own: Option<Own>,
}

/// What an event that shares an entry does not take from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// When, as milliseconds since the Unix epoch; none: as the entry.
    pub at_ms: Option<u64>,
    /// How serious, as the stream spells it; none: as the entry.
    pub level: Option<String>,
    /// For programs.
    pub data: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Shared {
    at_ms: Option<u64>,
    #[serde(default = "host_call")]
    kind: Cow<'static, str>,
    level: Option<String>,
    message: Option<String>,
    data: Option<serde_json::Value>,
}

const fn host_call() -> Cow<'static, str> {
    Cow::Borrowed(Kind::HostCall.as_str())
}

/// The events of an entry, by its fields `kind`, `message` and `more`, in their order. A `more` that is none (only a stranger writes such a
/// one) leaves the entry one event.
pub fn parts<'e>(kind: &'e str, message: &'e str, more: Option<&str>) -> Vec<Part<'e>> {
    let shared: Vec<Shared> = more.and_then(|more| serde_json::from_str(more).ok()).unwrap_or_default();
    if shared.is_empty() {
        return vec![Part { kind: kind.into(), message: message.into(), own: None }];
    }
    let lines = shared.iter().filter(|shared| shared.message.is_none()).count();
    // Without further lines it is the first's, whatever it has.
    let (own, further) = match lines {
        0 => (message, ""),
        _ => message.split_once('\n').unwrap_or((message, "")),
    };
    let first = Part { kind: kind.into(), message: own.into(), own: None };
    let (mut lines, mut now) = (further.split('\n'), None);
    let others = shared.into_iter().map(|Shared { at_ms, kind, level, message, mut data }| {
        now = at_ms.or(now);
        let message = message.map_or_else(|| lines.next().unwrap_or_default().into(), Cow::Owned);
        if let (Some((name, outcome)), Some(serde_json::Value::Object(data))) =
            (call_of(&kind, &message), &mut data)
        {
            data.insert("name".to_owned(), name.into());
            data.insert("outcome".to_owned(), outcome.into());
        }
        Part { kind, message, own: Some(Own { at_ms: now, level, data }) }
    });
    std::iter::once(first).chain(others).collect()
}

/// Cuts at a character boundary at or below `max` bytes; says whether it cut.
pub fn truncate(text: &mut String, max: usize) -> bool {
    if text.len() <= max {
        return false;
    }
    text.truncate(text.floor_char_boundary(max));
    true
}

/// ISO-8601 in UTC with milliseconds, which the consumer's JavaScript `Date` reads.
pub fn iso8601(at_ms: u64) -> String {
    thread_local! {
        // Events come by the thousand in a second, and its calendar is most of the work.
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let (second, ms) = (at_ms / 1_000, at_ms % 1_000);
    SECOND.with_borrow_mut(|(known, text)| {
        if *known != second {
            *text = calendar(second);
            *known = second;
        }
        format!("{text}.{ms:03}Z")
    })
}

fn calendar(second: u64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    i64::try_from(second)
        .ok()
        .and_then(|second| time::OffsetDateTime::from_unix_timestamp(second).ok())
        .and_then(|time| time.format(format).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cut_falls_on_a_character_boundary() {
        let mut text = "aé漢字".to_owned();
        assert!(truncate(&mut text, 5));
        assert_eq!(text, "aé");
        assert!(!truncate(&mut text, 5));
    }

    #[test]
    fn an_entry_comes_apart_into_the_events_that_share_it() {
        let more = r#"[{"kind":"handler_start"},{"at_ms":7,"data":{"b":2}},{},{"at_ms":9,"kind":"usage","level":"debug","data":{"a":1}}]"#;
        let own = |at_ms, level: Option<&str>, data| Some(Own { at_ms, level: level.map(Into::into), data });
        let part = |kind: &'static str, message: &'static str, own| Part {
            kind: kind.into(),
            message: message.into(),
            own,
        };
        assert_eq!(
            parts("context", "GET /\nhandler\nstorage.get ok\nuser.get denied\n3 us", Some(more)),
            [
                part("context", "GET /", None),
                part("handler_start", "handler", own(None, None, None)),
                part(
                    "host_call",
                    "storage.get ok",
                    own(Some(7), None, Some(json!({ "name": "storage.get", "outcome": "ok", "b": 2 })))
                ),
                part("host_call", "user.get denied", own(Some(7), None, None)),
                part("usage", "3 us", own(Some(9), Some("debug"), Some(json!({ "a": 1 })))),
            ]
        );
        // Fewer lines than events, and the other way round: nothing of what there is stands for something else.
        let short = parts("context", "GET /", Some(more));
        assert_eq!(short.iter().map(|part| &*part.message).collect::<Vec<_>>(), ["GET /", "", "", "", ""]);
        // What follows a line of the guest brings its message along, and the line stays as it is, of however many lines.
        let more =
            r#"[{"at_ms":7,"kind":"host_call","message":"x\ny"},{"at_ms":9,"kind":"usage","message":""}]"#;
        assert_eq!(
            parts("log", "two\nlines", Some(more)),
            [
                part("log", "two\nlines", None),
                part("host_call", "x\ny", own(Some(7), None, None)),
                part("usage", "", own(Some(9), None, None)),
            ]
        );
        assert_eq!(parts("log", "two\nlines", None), [part("log", "two\nlines", None)]);
        for nonsense in ["", "{}", "[]", "[7]", "[{\"kind\":7}]", "[{\"at_ms\":-1,\"kind\":\"x\"}]"] {
            assert_eq!(
                parts("log", "two\nlines", Some(nonsense)),
                parts("log", "two\nlines", None),
                "{nonsense}"
            );
        }
    }

    #[test]
    fn a_host_call_that_stands_alone_is_written_with_its_name_and_outcome() {
        let mut event = DebugEvent {
            origin: None,
            at_ms: 0,
            level: Level::Debug,
            stream: Stream::Log,
            kind: Kind::HostCall,
            message: "storage.get missing".into(),
            truncated: false,
            data: Data::of(&json!({ "args": { "key": "k" } })),
        };
        let whole = |event: &DebugEvent| event.whole_data().map(|data| data.value());
        let named = json!({ "name": "storage.get", "outcome": "missing", "args": { "key": "k" } });
        assert_eq!(whole(&event), Some(named.clone()));
        // Others have joined its entry.
        event.message.push_str("\nstorage.put ok");
        assert_eq!(whole(&event), Some(named));
        event.data = Data::of(&json!({}));
        assert_eq!(whole(&event), Some(json!({ "name": "storage.get", "outcome": "missing" })));
        event.kind = Kind::Usage;
        assert_eq!(whole(&event), Some(json!({})));
        event.data = None;
        assert_eq!(whole(&event), None);
    }

    #[test]
    fn time_is_written_as_the_consumer_reads_it() {
        for (at_ms, text) in [
            (1_793_361_600_123, "2026-10-30T12:00:00.123Z"),
            (1_793_361_600_007, "2026-10-30T12:00:00.007Z"),
            (1_793_361_601_000, "2026-10-30T12:00:01.000Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (u64::MAX, "1970-01-01T00:00:00.615Z"),
        ] {
            assert_eq!(iso8601(at_ms), text);
        }
    }

    #[test]
    fn the_key_is_joined_verbatim_and_lower_cased_and_the_firehose_loses_its_colon() {
        let origin = Origin {
            tenant: "T1".parse().unwrap(),
            extension: "Ext".parse().unwrap(),
            install: None,
            request: Some("r".into()),
            version: None,
            content_hash: ContentHash::from_bytes([1; 32]),
            execution: ExecutionId::from_bytes([2; 16]),
            attempt: 1,
        };
        assert_eq!(DebugEvent::key("ext-debug:", Some(&origin)), "ext-debug:t1:ext");
        assert_eq!(DebugEvent::key("ext:debug", None), "ext:debugunknown");
        assert_eq!(DebugEvent::firehose_key("ext-debug:"), "ext-debug");
        assert_eq!(DebugEvent::firehose_key("ext:debug"), "ext:debug");
        let event = DebugEvent {
            origin: Some(std::sync::Arc::new(origin)),
            at_ms: 0,
            level: Level::Info,
            stream: Stream::Stdout,
            kind: Kind::Stdout,
            message: "hi".into(),
            truncated: true,
            data: None,
        };
        let mut fields = Vec::new();
        event.each_field(|name, value| fields.push((name, value.to_owned())));
        let names: Vec<_> = fields.iter().map(|(n, _)| *n).collect();
        assert_eq!(
            names,
            [
                "ts",
                "level",
                "stream",
                "kind",
                "tenant",
                "extension",
                "request",
                "content_hash",
                "execution",
                "attempt",
                "message",
                "truncated"
            ]
        );
        assert!(fields.contains(&("truncated", "1".to_owned())));
    }
}
