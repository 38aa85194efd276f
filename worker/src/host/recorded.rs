//! What stands in the event of a host call: its arguments and its result, small and without secrets.
//!
//! An event is for people who look for a mistake, not an archive: texts and lists share a room of some kilobytes, and
//! what has none is counted. What is cut is cut after secrets were taken out, so that no cut leaves half a secret.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use longshore_proto::event::Data;
use longshore_secrets::Redactor;

/// Bytes of text that arguments or result of one call may show together. An event of the stream has 8 KiB at most
/// (`RUNNER_DEBUG_MAX_EVENT_BYTES`), half of which may be data.
const ROOM: usize = 3 * 1024;
/// Bytes of one text.
const TEXT: usize = 1024;
/// Bytes of an ordinary event of a host call: taken at once.
const EVENT: usize = 512;
/// Items of one list.
const ITEMS: usize = 10;

/// JSON as it is written, and what is left for more of it.
pub struct Room<'r> {
    left: usize,
    /// Bytes of one text.
    text: usize,
    redactor: &'r Redactor,
    json: Vec<u8>,
}

impl<'r> Room<'r> {
    /// A whole one.
    pub fn new(redactor: &'r Redactor) -> Self {
        Self { left: ROOM, text: TEXT, redactor, json: Vec::with_capacity(EVENT) }
    }

    /// Without an end: for what is bounded elsewhere.
    pub(super) fn boundless(redactor: &'r Redactor) -> Self {
        Self { left: usize::MAX, text: usize::MAX, redactor, json: Vec::new() }
    }

    /// A whole one, for more of an object that [`Self::begun`] has left open.
    pub(super) fn onto(redactor: &'r Redactor, json: Vec<u8>) -> Self {
        Self { left: ROOM, text: TEXT, redactor, json }
    }

    /// The beginning of an object.
    pub(super) fn begun(mut self, fields: impl FnOnce(&mut Fields<'_, 'r>)) -> Vec<u8> {
        self.json.push(b'{');
        fields(&mut Fields { room: &mut self, first: true });
        self.json
    }

    /// The rest of an object that has fields already.
    pub(super) fn rest(&mut self, fields: impl FnOnce(&mut Fields<'_, 'r>)) {
        fields(&mut Fields { room: self, first: false });
        self.json.push(b'}');
    }

    /// What was written, which is an object.
    pub(super) fn into_data(self) -> Option<Data> {
        String::from_utf8(self.json).ok().map(Data::from_object)
    }

    /// A text, without secrets, cut to what there is room for.
    pub fn text(&mut self, text: &str) {
        let shown = self.take(text);
        if shown.len() == text.len() {
            let redacted = self.redactor.redact(text);
            return self.string(&redacted);
        }
        let shown = format!("{}... ({} bytes)", self.redactor.redact_cut(shown), text.len());
        self.string(&shown);
    }

    /// The beginning that there is room for.
    fn take<'t>(&mut self, text: &'t str) -> &'t str {
        let shown = text.get(..text.floor_char_boundary(self.text.min(self.left))).unwrap_or_default();
        self.left = self.left.saturating_sub(shown.len());
        shown
    }

    /// Bytes: as text where they are text.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let head = bytes.get(..self.text).unwrap_or(bytes);
        match std::str::from_utf8(head) {
            Ok(text) if head.len() == bytes.len() => self.text(text),
            // Cut inside a character, or no text at all.
            Err(e) if e.error_len().is_some() => {
                // A secret may stand in bytes that are no text: bytes are shown only when there is no secret at all.
                if !self.redactor.is_empty() {
                    return self.object(|object| object.field("bytes", |room| room.scalar(&bytes.len())));
                }
                let room = (self.text.min(self.left) / 4 * 3).min(bytes.len());
                let b64 = BASE64.encode(bytes.get(..room).unwrap_or_default());
                self.left = self.left.saturating_sub(b64.len());
                self.object(|object| {
                    object.field("b64", |room| room.string(&b64));
                    object.field("bytes", |room| room.scalar(&bytes.len()));
                });
            }
            _ => {
                let head = head.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                let head = self.redactor.redact_cut(self.take(head));
                self.object(|object| {
                    object.field("text", |room| room.string(&head));
                    object.field("bytes", |room| room.scalar(&bytes.len()));
                });
            }
        }
    }

    /// A number or a truth. One that is a secret, too, is none any more.
    pub fn scalar(&mut self, value: &impl serde::Serialize) {
        let from = self.json.len();
        // Into memory nothing fails.
        let _ = serde_json::to_writer(&mut self.json, value);
        if self.redactor.is_empty() {
            return;
        }
        let written = self.json.get(from..).unwrap_or_default();
        let written = String::from_utf8_lossy(written).into_owned();
        if let std::borrow::Cow::Owned(redacted) = self.redactor.redact(&written) {
            self.json.truncate(from);
            self.string(&redacted);
        }
    }

    /// A number of ours.
    pub fn number(&mut self, number: u64) {
        self.json.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Nothing: a field that has it is left out.
    pub fn null(&mut self) {
        self.json.extend_from_slice(b"null");
    }

    /// A text of ours, in which nothing needs an escape.
    pub fn name(&mut self, name: &'static str) {
        self.json.push(b'"');
        self.json.extend_from_slice(name.as_bytes());
        self.json.push(b'"');
    }

    /// Fields by name.
    pub fn object(&mut self, fields: impl FnOnce(&mut Fields<'_, 'r>)) {
        self.json.push(b'{');
        fields(&mut Fields { room: self, first: true });
        self.json.push(b'}');
    }

    /// Values one after the other; how many there are more than are shown.
    pub fn list<T>(
        &mut self,
        mut items: impl ExactSizeIterator<Item = T>,
        mut show: impl FnMut(T, &mut Self),
    ) {
        let from = self.json.len();
        self.json.push(b'[');
        let mut shown = 0;
        while shown < ITEMS && self.left > 0 {
            let Some(item) = items.next() else { break };
            if shown > 0 {
                self.json.push(b',');
            }
            show(item, self);
            shown += 1;
        }
        self.json.push(b']');
        let more = items.len();
        if more > 0 {
            drop(self.json.splice(from..from, *br#"{"first":"#));
            let _ = write!(self.json, ",\"more\":{more}}}");
        }
    }

    /// Texts of ours.
    pub(crate) fn names(&mut self, names: impl IntoIterator<Item = &'static str>) {
        self.json.push(b'[');
        for (at, name) in names.into_iter().enumerate() {
            if at > 0 {
                self.json.push(b',');
            }
            self.string(name);
        }
        self.json.push(b']');
    }

    fn string(&mut self, text: &str) {
        let _ = serde_json::to_writer(&mut self.json, text);
    }
}

/// The fields of an object that is being written.
pub struct Fields<'a, 'r> {
    room: &'a mut Room<'r>,
    first: bool,
}

impl<'r> Fields<'_, 'r> {
    /// A number of ours.
    pub fn number(&mut self, name: &'static str, number: u64) {
        self.field(name, |room| room.number(number));
    }

    /// A text.
    pub fn text(&mut self, name: &'static str, text: &str) {
        self.field(name, |room| room.text(text));
    }

    /// One more, unless its value is null.
    pub fn field(&mut self, name: &'static str, value: impl FnOnce(&mut Room<'r>)) {
        let before = self.room.json.len();
        if !self.first {
            self.room.json.push(b',');
        }
        self.room.json.push(b'"');
        self.room.json.extend_from_slice(name.as_bytes());
        self.room.json.extend_from_slice(b"\":");
        let from = self.room.json.len();
        value(self.room);
        if self.room.json.get(from..) == Some(b"null") {
            self.room.json.truncate(before);
        } else {
            self.first = false;
        }
    }
}

/// Something that can stand in an event.
pub trait Recorded {
    /// As JSON, within the room.
    fn record(&self, room: &mut Room<'_>);
}

impl Recorded for str {
    fn record(&self, room: &mut Room<'_>) {
        room.text(self);
    }
}

impl Recorded for String {
    fn record(&self, room: &mut Room<'_>) {
        room.text(self);
    }
}

impl<T: Recorded + ?Sized> Recorded for &T {
    fn record(&self, room: &mut Room<'_>) {
        (**self).record(room);
    }
}

impl Recorded for Vec<u8> {
    fn record(&self, room: &mut Room<'_>) {
        room.bytes(self);
    }
}

impl<T: Recorded> Recorded for Vec<T> {
    fn record(&self, room: &mut Room<'_>) {
        room.list(self.iter(), |item, room| item.record(room));
    }
}

impl<T: Recorded> Recorded for Option<T> {
    fn record(&self, room: &mut Room<'_>) {
        match self {
            Some(value) => value.record(room),
            None => room.null(),
        }
    }
}

/// Of an error, the outcome says all.
impl<T: Recorded, E> Recorded for Result<T, E> {
    fn record(&self, room: &mut Room<'_>) {
        match self {
            Ok(value) => value.record(room),
            Err(_) => room.null(),
        }
    }
}

impl<A: Recorded, B: Recorded> Recorded for (A, B) {
    fn record(&self, room: &mut Room<'_>) {
        room.json.push(b'[');
        self.0.record(room);
        room.json.push(b',');
        self.1.record(room);
        room.json.push(b']');
    }
}

macro_rules! as_they_are {
    ($($scalar:ty),*) => { $(impl Recorded for $scalar {
        fn record(&self, room: &mut Room<'_>) {
            room.scalar(self);
        }
    })* };
}
as_they_are!((), bool, u16, u32, u64, f64);

/// A value that is never shown.
pub struct Hidden;

impl Recorded for Hidden {
    fn record(&self, room: &mut Room<'_>) {
        room.name("[redacted]");
    }
}

/// `recorded!(Type { field, field });`: shows a record of the WIT by these fields.
macro_rules! recorded {
    ($($type:ident { $($field:ident),* $(,)? })*) => { $(
        impl $crate::host::recorded::Recorded for $type {
            fn record(&self, room: &mut $crate::host::recorded::Room<'_>) {
                room.object(|object| {
                    $(object.field(stringify!($field), |room| {
                        $crate::host::recorded::Recorded::record(&self.$field, room)
                    });)*
                });
            }
        }
    )* };
}
/// `recorded_names!(Enum { Case = "case" })`: shows an enum of the WIT by its name there.
macro_rules! recorded_names {
    ($($type:ident { $($case:ident = $name:literal),* $(,)? })*) => { $(
        impl $crate::host::recorded::Recorded for $type {
            fn record(&self, room: &mut $crate::host::recorded::Room<'_>) {
                room.name(match self { $(Self::$case => $name,)* });
            }
        }
    )* };
}
pub(crate) use recorded;
pub(crate) use recorded_names;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown_with(redactor: &Redactor, value: &impl Recorded) -> Value {
        let mut room = Room::new(redactor);
        value.record(&mut room);
        serde_json::from_slice(&room.json).unwrap()
    }

    fn shown(value: &impl Recorded) -> Value {
        shown_with(&Redactor::empty(), value)
    }

    #[test]
    fn a_long_text_is_cut_and_says_how_long_it_was() {
        let shown = shown(&"x".repeat(5_000));
        let shown = shown.as_str().unwrap();
        assert!(shown.ends_with("... (5000 bytes)") && shown.len() < TEXT + 32, "{}", shown.len());
    }

    #[test]
    fn all_parts_of_a_call_share_one_room() {
        let texts: Vec<String> = (0..100).map(|_| "y".repeat(900)).collect();
        let shown = shown(&texts);
        assert!(shown.to_string().len() < ROOM + 512);
        assert!(shown["more"].as_u64().unwrap() >= 90);
    }

    #[test]
    fn a_list_says_how_many_more_there_are() {
        assert_eq!(shown(&vec![1_u32, 2]), json!([1, 2]));
        assert_eq!(shown(&Vec::<u32>::new()), json!([]));
        let many: Vec<u32> = (0..12).collect();
        assert_eq!(shown(&many), json!({"first": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "more": 2}));
    }

    #[test]
    fn bytes_are_text_where_they_are_and_base64_where_not() {
        assert_eq!(shown(&b"hel\"lo".to_vec()), json!("hel\"lo"));
        assert_eq!(shown(&vec![0xff_u8, 0]), json!({"b64": "/wA=", "bytes": 2}));
        let euros = shown(&"\u{20ac}".repeat(10_000).into_bytes());
        assert_eq!(euros["bytes"], 30_000);
        assert!(euros["text"].as_str().unwrap().starts_with('\u{20ac}'));
    }

    #[test]
    fn no_cut_leaves_half_a_secret() {
        let secret = "hunter2-hunter2-hunter2-hunter2";
        let redactor = Redactor::new([secret]);
        for before in TEXT - secret.len()..TEXT {
            let text = format!("{}{secret}", "z".repeat(before)) + &"z".repeat(TEXT);
            let shown = [shown_with(&redactor, &text), shown_with(&redactor, &text.into_bytes())];
            for shown in shown.map(|value| value.to_string()) {
                // Three bytes of a beginning are no secret: too many texts end so.
                assert!(!shown.contains("hunt"), "{before}: {shown}");
            }
        }
    }

    #[test]
    fn a_secret_is_no_text_no_bytes_and_no_number() {
        let redactor = Redactor::new(["12345678", "canary-secret"]);
        assert_eq!(shown_with(&redactor, &"a canary-secret".to_owned()), json!("a [redacted]"));
        assert_eq!(shown_with(&redactor, &b"canary-secret".to_vec()), json!("[redacted]"));
        assert_eq!(shown_with(&redactor, &12_345_678_u64), json!("[redacted]"));
        assert_eq!(shown_with(&redactor, &1_234_567_u64), json!(1_234_567));
        assert_eq!(shown_with(&redactor, &vec![0xff_u8]), json!({"bytes": 1}));
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let redactor = Redactor::empty();
        let mut room = Room::new(&redactor);
        room.object(|object| {
            object.field("a", |room| None::<String>.record(room));
            object.field("b", |room| Some(1_u32).record(room));
            object.field("c", |room| ().record(room));
            object.field("d", |room| Err::<u32, ()>(()).record(room));
        });
        assert_eq!(room.into_data().unwrap().value(), json!({"b": 1}));
    }
}
