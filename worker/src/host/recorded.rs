//! What stands in the event of a host call: its arguments and its result, small and without secrets.
//!
//! An event is for people who look for a mistake, not an archive: texts and lists share a room of some kilobytes, and
//! what has none is counted. What is cut is cut after secrets were taken out, so that no cut leaves half a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use longshore_secrets::Redactor;
use serde_json::{Map, Value, json};

/// Bytes of text that arguments and result of one call may show together. An event of the stream has 8 KiB at most
/// (`RUNNER_DEBUG_MAX_EVENT_BYTES`), half of which may be data.
const ROOM: usize = 3 * 1024;
/// Bytes of one text.
const TEXT: usize = 1024;
/// Items of one list.
const ITEMS: usize = 10;

/// What is left for one call.
pub struct Room<'r> {
    left: usize,
    redactor: &'r Redactor,
}

impl<'r> Room<'r> {
    /// A whole one.
    pub fn new(redactor: &'r Redactor) -> Self {
        Self { left: ROOM, redactor }
    }

    /// A text, cut to what there is room for. What is cut is without secrets; a whole text loses its own where all
    /// events do (`RunRecord::emit`): looking for them twice would be most of what an event costs.
    pub fn text(&mut self, text: &str) -> Value {
        let shown = self.take(text);
        if shown.len() == text.len() {
            return Value::String(shown.to_owned());
        }
        Value::String(format!("{}... ({} bytes)", self.redactor.redact_cut(shown), text.len()))
    }

    /// The beginning that there is room for.
    fn take<'t>(&mut self, text: &'t str) -> &'t str {
        let shown = text.get(..text.floor_char_boundary(TEXT.min(self.left))).unwrap_or_default();
        self.left = self.left.saturating_sub(shown.len());
        shown
    }

    /// Bytes: as text where they are text.
    pub fn bytes(&mut self, bytes: &[u8]) -> Value {
        let head = bytes.get(..TEXT).unwrap_or(bytes);
        match std::str::from_utf8(head) {
            Ok(_) if head.len() == bytes.len() => self.text(&String::from_utf8_lossy(bytes)),
            // Cut inside a character, or no text at all.
            Err(e) if e.error_len().is_some() => {
                let room = (TEXT.min(self.left) / 4 * 3).min(bytes.len());
                // A secret may stand in bytes that are no text: bytes are shown only when there is no secret at all.
                let part = bytes.get(..room).unwrap_or_default();
                if !self.redactor.is_empty() {
                    return json!({ "bytes": bytes.len() });
                }
                let b64 = BASE64.encode(part);
                self.left = self.left.saturating_sub(b64.len());
                json!({ "b64": b64, "bytes": bytes.len() })
            }
            _ => {
                let head = head.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                let head = self.take(head);
                json!({ "text": self.redactor.redact_cut(head), "bytes": bytes.len() })
            }
        }
    }
}

/// Something that can stand in an event.
pub trait Recorded {
    /// As JSON, within the room.
    fn record(&self, room: &mut Room<'_>) -> Value;
}

impl Recorded for String {
    fn record(&self, room: &mut Room<'_>) -> Value {
        room.text(self)
    }
}

impl Recorded for Vec<u8> {
    fn record(&self, room: &mut Room<'_>) -> Value {
        room.bytes(self)
    }
}

impl<T: Recorded> Recorded for Vec<T> {
    fn record(&self, room: &mut Room<'_>) -> Value {
        let mut items: Vec<Value> = Vec::new();
        for item in self.iter().take(ITEMS) {
            if room.left == 0 {
                break;
            }
            items.push(item.record(room));
        }
        match self.len() - items.len() {
            0 => Value::Array(items),
            more => json!({ "first": items, "more": more }),
        }
    }
}

impl<T: Recorded> Recorded for Option<T> {
    fn record(&self, room: &mut Room<'_>) -> Value {
        self.as_ref().map_or(Value::Null, |value| value.record(room))
    }
}

/// Of an error, the outcome says all.
impl<T: Recorded, E> Recorded for Result<T, E> {
    fn record(&self, room: &mut Room<'_>) -> Value {
        self.as_ref().map_or(Value::Null, |value| value.record(room))
    }
}

impl<A: Recorded, B: Recorded> Recorded for (A, B) {
    fn record(&self, room: &mut Room<'_>) -> Value {
        Value::Array(vec![self.0.record(room), self.1.record(room)])
    }
}

macro_rules! as_they_are {
    ($($scalar:ty),*) => { $(impl Recorded for $scalar {
        fn record(&self, _room: &mut Room<'_>) -> Value {
            json!(self)
        }
    })* };
}
as_they_are!((), bool, u16, u32, u64, f64);

/// A value that is never shown.
pub struct Hidden;

impl Recorded for Hidden {
    fn record(&self, _room: &mut Room<'_>) -> Value {
        Value::String("[redacted]".to_owned())
    }
}

/// Pairs of names and values as an object; those that are null are left out.
pub fn object<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    let kept = pairs.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(kept.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

/// `recorded!(Type { field, field });`: shows a record of the WIT by these fields.
macro_rules! recorded {
    ($($type:ident { $($field:ident),* $(,)? })*) => { $(
        impl $crate::host::recorded::Recorded for $type {
            fn record(&self, room: &mut $crate::host::recorded::Room<'_>) -> serde_json::Value {
                $crate::host::recorded::object([
                    $((stringify!($field), $crate::host::recorded::Recorded::record(&self.$field, room)),)*
                ])
            }
        }
    )* };
}
/// `recorded_names!(Enum { Case = "case" })`: shows an enum of the WIT by its name there.
macro_rules! recorded_names {
    ($($type:ident { $($case:ident = $name:literal),* $(,)? })*) => { $(
        impl $crate::host::recorded::Recorded for $type {
            fn record(&self, _room: &mut $crate::host::recorded::Room<'_>) -> serde_json::Value {
                serde_json::Value::from(match self { $(Self::$case => $name,)* })
            }
        }
    )* };
}
pub(crate) use recorded;
pub(crate) use recorded_names;

#[cfg(test)]
mod tests {
    use super::*;

    fn room(redactor: &Redactor) -> Room<'_> {
        Room::new(redactor)
    }

    #[test]
    fn a_long_text_is_cut_and_says_how_long_it_was() {
        let redactor = Redactor::empty();
        let shown = "x".repeat(5_000).record(&mut room(&redactor));
        let shown = shown.as_str().unwrap();
        assert!(shown.ends_with("... (5000 bytes)") && shown.len() < TEXT + 32, "{}", shown.len());
    }

    #[test]
    fn all_parts_of_a_call_share_one_room() {
        let redactor = Redactor::empty();
        let texts: Vec<String> = (0..100).map(|_| "y".repeat(900)).collect();
        let shown = texts.record(&mut room(&redactor));
        assert!(shown.to_string().len() < ROOM + 512);
        assert!(shown["more"].as_u64().unwrap() >= 90);
    }

    #[test]
    fn bytes_are_text_where_they_are_and_base64_where_not() {
        let redactor = Redactor::empty();
        assert_eq!(b"hello".to_vec().record(&mut room(&redactor)), json!("hello"));
        assert_eq!(vec![0xff_u8, 0].record(&mut room(&redactor)), json!({"b64": "/wA=", "bytes": 2}));
        let euros = "\u{20ac}".repeat(10_000).into_bytes().record(&mut room(&redactor));
        assert_eq!(euros["bytes"], 30_000);
        assert!(euros["text"].as_str().unwrap().starts_with('\u{20ac}'));
    }

    #[test]
    fn no_cut_leaves_half_a_secret() {
        let secret = "hunter2-hunter2-hunter2-hunter2";
        let redactor = Redactor::new([secret]);
        for before in TEXT - secret.len()..TEXT {
            let text = format!("{}{secret}", "z".repeat(before)) + &"z".repeat(TEXT);
            let shown = [text.record(&mut room(&redactor)), text.into_bytes().record(&mut room(&redactor))];
            for shown in shown.map(|value| value.to_string()) {
                // Three bytes of a beginning are no secret: too many texts end so.
                assert!(!shown.contains("hunt"), "{before}: {shown}");
            }
        }
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let redactor = Redactor::empty();
        let room = &mut room(&redactor);
        let pairs = [("a", None::<String>.record(room)), ("b", Some(1_u32).record(room))];
        assert_eq!(object(pairs), json!({"b": 1}));
    }
}
