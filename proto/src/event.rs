//! Debug events: what a Redis stream entry holds (interop 3.6 and 8). The existing consumer reads the fields of the
//! reference; newer kinds go into `kind` and `data`, `stream` stays `log`, `stdout` or `stderr`.

use serde::{Deserialize, Serialize};

use crate::ids::{ContentHash, ExecutionId, ExtensionId, TenantId};

/// How serious.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// For programs: a JSON object, by kind; absent where the message says it all.
    pub data: Option<serde_json::Value>,
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

    /// The fields in the order in which they are written; optional ones are left out when unknown.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = Vec::with_capacity(16);
        fields.push(("ts", iso8601(self.at_ms)));
        fields.push(("level", self.level.as_str().to_owned()));
        fields.push(("stream", self.stream.as_str().to_owned()));
        fields.push(("kind", self.kind.as_str().to_owned()));
        if let Some(o) = &self.origin {
            fields.push(("tenant", o.tenant.to_string()));
            fields.push(("extension", o.extension.to_string()));
            let optional = [("install", &o.install), ("request", &o.request), ("version", &o.version)];
            fields.extend(optional.into_iter().filter_map(|(name, v)| Some((name, v.clone()?))));
            fields.push(("content_hash", o.content_hash.to_string()));
            fields.push(("execution", o.execution.to_string()));
            fields.push(("attempt", o.attempt.to_string()));
        }
        fields.push(("message", self.message.clone()));
        fields.push(("truncated", if self.truncated { "1" } else { "0" }.to_owned()));
        if let Some(data) = &self.data {
            fields.push(("data", data.to_string()));
        }
        fields
    }
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
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
    );
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .ok()
        .and_then(|t| t.format(format).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00.000Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_falls_on_a_character_boundary() {
        let mut text = "aé漢字".to_owned();
        assert!(truncate(&mut text, 5));
        assert_eq!(text, "aé");
        assert!(!truncate(&mut text, 5));
    }

    #[test]
    fn time_is_written_as_the_consumer_reads_it() {
        assert_eq!(iso8601(1_793_361_600_123), "2026-10-30T12:00:00.123Z");
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
        let fields = event.fields();
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
