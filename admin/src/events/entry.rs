//! An entry of a stream, and who wants it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use longshore_proto::event::iso8601;
use longshore_proto::{ExtensionId, TenantId};
use redis::Value;
use serde_json::{Map, json};

/// Levels as streams spell them, the finest first.
pub const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

/// Where `info` stands: an event that names no level we know is taken for that.
const USUAL: usize = 2;

/// An id of an entry; ordered as Redis orders them. Its first part is Unix milliseconds by the clock of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub ms: u64,
    pub number: u64,
}

impl Id {
    /// The first that a moment can have.
    pub const fn at(ms: u64) -> Self {
        Self { ms, number: 0 }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (ms, number) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

/// An entry, as NDJSON and with what readers choose by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its stream.
    pub key: Arc<str>,
    pub id: Id,
    /// A line; of host calls that share an entry, a line for each.
    pub lines: Bytes,
    tenant: String,
    extension: String,
    request: String,
    level: usize,
}

impl Event {
    /// None: its id is none, which no Redis writes.
    pub fn read(key: &Arc<str>, entry: redis::streams::StreamId) -> Option<Self> {
        let id = Id::parse(&entry.id)?;
        let mut fields: Map<String, serde_json::Value> =
            entry.map.into_iter().filter_map(|(name, value)| Some((name, text(value)?.into()))).collect();
        let own = |name: &str| fields.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let (tenant, extension, request) = (own("tenant"), own("extension"), own("request"));
        let level = rank(&own("level")).unwrap_or(USUAL);
        // In Redis everything is text.
        let data = serde_json::from_str::<serde_json::Value>(&own("data")).ok();
        let attempt = own("attempt").parse::<u32>().ok();
        let truncated = matches!(own("truncated").as_str(), "1" | "true");
        fields.extend(data.map(|data| ("data".to_owned(), data)));
        fields.extend(attempt.map(|attempt| ("attempt".to_owned(), attempt.into())));
        fields.insert("truncated".to_owned(), truncated.into());
        fields.insert("id".to_owned(), entry.id.into());
        let lines = match host_calls(&mut fields) {
            None => line(&serde_json::Value::Object(fields)),
            Some(calls) => lines_of(fields, calls),
        };
        Some(Self { key: key.clone(), id, lines, tenant, extension, request, level })
    }
}

/// The host calls that an entry holds, taken out of it.
fn host_calls(fields: &mut Map<String, serde_json::Value>) -> Option<Vec<serde_json::Value>> {
    if fields.get("kind").and_then(serde_json::Value::as_str) != Some("host_call") {
        return None;
    }
    match fields.get_mut("data")?.get_mut("calls")?.take() {
        serde_json::Value::Array(calls) if !calls.is_empty() => Some(calls),
        _ => None,
    }
}

/// A line for each call, as if each had an entry: with its own line of the message, its own time and its own data.
fn lines_of(mut fields: Map<String, serde_json::Value>, calls: Vec<serde_json::Value>) -> Bytes {
    let message = fields.get("message").and_then(|message| message.as_str()).unwrap_or_default().to_owned();
    let mut messages = message.lines();
    let mut lines = Vec::new();
    for mut call in calls {
        let at = call.as_object_mut().and_then(|call| call.remove("at_ms")).and_then(|at| at.as_u64());
        fields.extend(at.map(|at| ("ts".to_owned(), iso8601(at).into())));
        fields.insert("message".to_owned(), messages.next().unwrap_or_default().into());
        fields.insert("data".to_owned(), call);
        lines.extend(line(&fields));
    }
    lines.into()
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// How serious a level is.
pub(super) fn rank(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == level)
}

/// A value and the end of its line.
fn line(value: &impl serde::Serialize) -> Bytes {
    // JSON values are always written.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// What a reader is told that has missed events.
pub(super) fn lost(count: u64) -> Bytes {
    line(&json!({ "lost": count }))
}

/// What a reader is told so that it knows that the connection holds.
pub(super) fn heartbeat() -> Bytes {
    line(&json!({ "heartbeat": true }))
}

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Whose.
    pub tenant: TenantId,
    /// Of this extension alone.
    pub extension: Option<ExtensionId>,
    /// Of this request alone.
    pub request: Option<String>,
    /// Of this level (its place in [`LEVELS`]) or a more serious one.
    pub level: Option<usize>,
    /// Also those since then, Unix milliseconds.
    pub since_ms: Option<u64>,
    /// Also those that come.
    pub follow: bool,
}

impl Want {
    /// Whether an event is wanted. Names of streams are lower-cased, so two tenants may share one: the event itself says whose it is.
    pub(super) fn takes(&self, event: &Event) -> bool {
        self.tenant.as_str() == event.tenant
            && self.extension.as_ref().is_none_or(|wanted| wanted.as_str() == event.extension)
            && self.request.as_ref().is_none_or(|wanted| *wanted == event.request)
            && self.level.is_none_or(|least| event.level >= least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(fields: &[(&str, &str)]) -> Event {
        let map = fields.iter().map(|(n, v)| ((*n).to_owned(), Value::BulkString(v.as_bytes().to_vec())));
        let entry =
            redis::streams::StreamId { id: "1500-2".to_owned(), map: map.collect(), ..Default::default() };
        Event::read(&Arc::from("k"), entry).unwrap()
    }

    #[test]
    fn an_entry_becomes_a_line_whose_data_is_json_again() {
        let event = event(&[
            ("tenant", "t"),
            ("message", "two\nlines"),
            ("data", "{\"a\":1}"),
            ("attempt", "2"),
            ("truncated", "1"),
        ]);
        let text = std::str::from_utf8(&event.lines).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(json["data"]["a"], 1);
        assert_eq!(
            (&json["attempt"], &json["truncated"], &json["id"]),
            (&json!(2), &json!(true), &json!("1500-2"))
        );
        assert_eq!(event.id, Id { ms: 1500, number: 2 });
    }

    #[test]
    fn host_calls_that_share_an_entry_are_lines_of_their_own() {
        let event = event(&[
            ("ts", "1970-01-01T00:00:00.007Z"),
            ("kind", "host_call"),
            ("message", "storage.get ok\nhttp.fetch denied"),
            ("data", r#"{"calls":[{"at_ms":7,"name":"storage.get"},{"at_ms":9,"name":"http.fetch"}]}"#),
        ]);
        let lines: Vec<serde_json::Value> = std::str::from_utf8(&event.lines)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let shown: Vec<_> = lines.iter().map(|l| (&l["ts"], &l["message"], &l["data"])).collect();
        assert_eq!(
            shown,
            [
                (
                    &json!("1970-01-01T00:00:00.007Z"),
                    &json!("storage.get ok"),
                    &json!({"name": "storage.get"})
                ),
                (
                    &json!("1970-01-01T00:00:00.009Z"),
                    &json!("http.fetch denied"),
                    &json!({"name": "http.fetch"})
                ),
            ]
        );
    }

    #[test]
    fn calls_that_are_none_and_calls_without_anything_still_make_lines() {
        let lines = |data| {
            let event = event(&[("kind", "host_call"), ("message", "m"), ("data", data)]);
            event.lines.iter().filter(|byte| **byte == b'\n').count()
        };
        assert_eq!(
            ["{}", "[]", r#"{"calls":[]}"#, r#"{"calls":7}"#, r#"{"calls":[7,{}]}"#].map(lines),
            [1, 1, 1, 1, 2]
        );
    }

    #[test]
    fn bytes_that_are_no_text_and_data_that_is_no_json_still_make_a_line() {
        let map = [("data".to_owned(), Value::BulkString(vec![0xff, b'{']))].into_iter().collect();
        let entry = redis::streams::StreamId { id: "1-0".to_owned(), map, ..Default::default() };
        let event = Event::read(&Arc::from("k"), entry).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&event.lines).unwrap();
        assert_eq!(json["data"], "\u{fffd}{");
        let none = redis::streams::StreamId { id: "x".to_owned(), ..Default::default() };
        assert_eq!(Event::read(&Arc::from("k"), none), None);
    }

    #[test]
    fn a_reader_gets_its_own_tenants_events_of_its_level_and_request() {
        let want = Want {
            tenant: "t".parse().unwrap(),
            extension: Some("e".parse().unwrap()),
            request: Some("r".to_owned()),
            level: rank("warn"),
            since_ms: None,
            follow: false,
        };
        let mine = [("tenant", "t"), ("extension", "e"), ("request", "r"), ("level", "error")];
        assert!(want.takes(&event(&mine)));
        for (at, other) in [(0, "T"), (1, "E"), (2, "q"), (3, "info")] {
            let mut fields = mine;
            fields[at].1 = other;
            assert!(!want.takes(&event(&fields)), "{other}");
        }
        assert!(!want.takes(&event(&mine[1..])), "an event of nobody");
    }

    #[test]
    fn ids_are_in_the_order_of_redis() {
        assert!(Id::parse("9-10").unwrap() > Id::parse("9-9").unwrap());
        assert!(Id::at(10) > Id::parse("9-99").unwrap());
        assert_eq!(Id::parse("9-10").unwrap().to_string(), "9-10");
        for bad in ["", "9", "a-b", "-1"] {
            assert_eq!(Id::parse(bad), None, "{bad}");
        }
    }
}
