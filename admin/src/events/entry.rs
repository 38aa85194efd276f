//! An entry of a stream, and who wants it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use longshore_proto::event::{MORE, Part, iso8601, parts};
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
    /// A line for each event that shares the entry, with its level.
    lines: Vec<(usize, Bytes)>,
    tenant: String,
    extension: String,
    request: String,
}

impl Event {
    /// None: its id is none, which no Redis writes.
    pub fn read(key: &Arc<str>, entry: redis::streams::StreamId) -> Option<Self> {
        let id = Id::parse(&entry.id)?;
        let mut fields: Map<String, serde_json::Value> =
            entry.map.into_iter().filter_map(|(name, value)| Some((name, text(value)?.into()))).collect();
        let more = fields.remove(MORE);
        let own = |name: &str| fields.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let (tenant, extension, request) = (own("tenant"), own("extension"), own("request"));
        let (kind, message) = (own("kind"), own("message"));
        // In Redis everything is text.
        let data = serde_json::from_str::<serde_json::Value>(&own("data")).ok();
        let attempt = own("attempt").parse::<u32>().ok();
        let truncated = matches!(own("truncated").as_str(), "1" | "true");
        fields.extend(data.map(|data| ("data".to_owned(), data)));
        fields.extend(attempt.map(|attempt| ("attempt".to_owned(), attempt.into())));
        fields.insert("truncated".to_owned(), truncated.into());
        fields.insert("id".to_owned(), entry.id.into());
        let parts = parts(&kind, &message, more.as_ref().and_then(|more| more.as_str()));
        let lines = parts.into_iter().map(|part| line_of(&fields, part)).collect();
        Some(Self { key: key.clone(), id, lines, tenant, extension, request })
    }
}

/// The line of an event as if it had the entry for itself, and its level.
fn line_of(entry: &Map<String, serde_json::Value>, part: Part<'_>) -> (usize, Bytes) {
    let mut fields = entry.clone();
    if fields.contains_key("message") {
        fields.insert("message".to_owned(), part.message.into_owned().into());
    }
    if let Some(own) = part.own {
        fields.insert("kind".to_owned(), part.kind.into());
        fields.extend(own.at_ms.map(|at_ms| ("ts".to_owned(), iso8601(at_ms).into())));
        fields.extend(own.level.map(|level| ("level".to_owned(), level.into())));
        fields.remove("data");
        fields.extend(own.data.map(|data| ("data".to_owned(), data)));
    }
    let level = fields.get("level").and_then(|level| rank(level.as_str()?)).unwrap_or(USUAL);
    (level, line(&fields))
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
    /// Whether anything of an entry is wanted. Names of streams are lower-cased, so two tenants may share one: the entry itself says whose
    /// it is.
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.tenant.as_str() == event.tenant
            && self.extension.as_ref().is_none_or(|wanted| wanted.as_str() == event.extension)
            && self.request.as_ref().is_none_or(|wanted| *wanted == event.request)
            && self.lines(event).next().is_some()
    }

    /// What is wanted of an entry, if anything is.
    pub(super) fn of(&self, event: &Event) -> Option<Bytes> {
        let mut lines = self.wants(event).then(|| self.lines(event))?;
        Some(match event.lines.len() {
            1 => lines.next()?.clone(),
            _ => lines
                .fold(Vec::new(), |mut all, line| {
                    all.extend_from_slice(line);
                    all
                })
                .into(),
        })
    }

    fn lines<'e>(&self, event: &'e Event) -> impl Iterator<Item = &'e Bytes> + use<'e> {
        let least = self.level.unwrap_or_default();
        event.lines.iter().filter(move |(level, _)| *level >= least).map(|(_, line)| line)
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

    fn all_of(tenant: &str) -> Want {
        Want {
            tenant: tenant.parse().unwrap(),
            extension: None,
            request: None,
            level: None,
            since_ms: None,
            follow: false,
        }
    }

    fn shown(want: &Want, event: &Event) -> Vec<serde_json::Value> {
        let text = want.of(event).unwrap();
        assert!(text.ends_with(b"\n"), "{text:?}");
        std::str::from_utf8(&text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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
        let [json] = shown(&all_of("t"), &event).try_into().unwrap();
        assert_eq!(json["message"], "two\nlines");
        assert_eq!(json["data"]["a"], 1);
        assert_eq!(
            (&json["attempt"], &json["truncated"], &json["id"]),
            (&json!(2), &json!(true), &json!("1500-2"))
        );
        assert_eq!(event.id, Id { ms: 1500, number: 2 });
    }

    #[test]
    fn events_that_share_an_entry_are_lines_of_their_own() {
        let event = event(&[
            ("ts", "1970-01-01T00:00:00.007Z"),
            ("tenant", "t"),
            ("kind", "response"),
            ("level", "info"),
            ("message", "200\n9 us"),
            ("data", r#"{"status":200}"#),
            ("more", r#"[{"at_ms":9,"kind":"usage","level":"debug","data":{"cpu_us":9}}]"#),
        ]);
        let common = json!({ "tenant": "t", "id": "1500-2", "truncated": false });
        let of = |mut own: serde_json::Value| {
            own.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
            own
        };
        let response = of(json!({ "ts": "1970-01-01T00:00:00.007Z", "kind": "response", "level": "info",
            "message": "200", "data": { "status": 200 } }));
        let usage = of(json!({ "ts": "1970-01-01T00:00:00.009Z", "kind": "usage", "level": "debug",
            "message": "9 us", "data": { "cpu_us": 9 } }));
        let mut want = all_of("t");
        assert_eq!(shown(&want, &event), [response.clone(), usage]);
        // Each is chosen by its own level.
        want.level = rank("info");
        assert_eq!(shown(&want, &event), [response]);
    }

    #[test]
    fn what_shares_an_entry_and_has_no_data_does_not_borrow_it() {
        let event = event(&[
            ("tenant", "t"),
            ("kind", "context"),
            ("message", "GET /\nhandler"),
            ("data", r#"{"method":"GET"}"#),
            ("more", r#"[{"at_ms":9,"kind":"handler_start"}]"#),
        ]);
        let lines = shown(&all_of("t"), &event);
        assert_eq!((&lines[1]["message"], lines[1].get("data")), (&json!("handler"), None));
    }

    #[test]
    fn bytes_that_are_no_text_and_data_that_is_no_json_still_make_a_line() {
        let bytes = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let map = [("data".to_owned(), bytes(&[0xff, b'{'])), ("tenant".to_owned(), bytes(b"t"))];
        let map = map.into_iter().collect();
        let entry = redis::streams::StreamId { id: "1-0".to_owned(), map, ..Default::default() };
        let event = Event::read(&Arc::from("k"), entry).unwrap();
        let [json] = shown(&all_of("t"), &event).try_into().unwrap();
        assert_eq!(json["data"], "\u{fffd}{");
        let none = redis::streams::StreamId { id: "x".to_owned(), ..Default::default() };
        assert_eq!(Event::read(&Arc::from("k"), none), None);
    }

    #[test]
    fn a_reader_gets_its_own_tenants_events_of_its_level_and_request() {
        let want = Want {
            extension: Some("e".parse().unwrap()),
            request: Some("r".to_owned()),
            level: rank("warn"),
            ..all_of("t")
        };
        let mine = [("tenant", "t"), ("extension", "e"), ("request", "r"), ("level", "error")];
        assert!(want.of(&event(&mine)).is_some());
        for (at, other) in [(0, "T"), (1, "E"), (2, "q"), (3, "info")] {
            let mut fields = mine;
            fields[at].1 = other;
            assert_eq!(want.of(&event(&fields)), None, "{other}");
        }
        assert_eq!(want.of(&event(&mine[1..])), None, "an event of nobody");
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
