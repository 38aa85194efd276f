//! What differs between two texts, values or bytes, in the form that tells most: paths of JSON, lines of text, an
//! offset with its surroundings. All of it is bounded, because guests choose what is compared.

mod bytes;
mod tree;

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

pub use tree::{Change, ChangeKind};

use crate::printable;
use crate::value;

/// Changes or lines of one diff; the rest is counted.
const MAX_PARTS: usize = 40;
/// Texts above this are compared by bytes: the lines of two megabytes cost more time than they tell.
const MAX_TEXT: usize = 512 << 10;
/// How long lines may be looked at before a coarser diff does.
const PATIENCE: Duration = Duration::from_millis(200);
/// Bytes of one line that is shown.
const MAX_LINE: usize = 300;

/// A difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Diff {
    /// Both are JSON, or values of a host call.
    Json {
        /// In the order of the recorded value.
        changes: Vec<Change>,
        /// Those that are not listed.
        more: u64,
    },
    /// Both are text: lines that begin with `-` were recorded, with `+` replayed.
    Text {
        /// With a line of context around each change.
        lines: Vec<String>,
        /// Those that are not listed.
        more: u64,
    },
    /// Bytes.
    Bytes {
        /// The first that differs.
        offset: u64,
        /// How many were recorded.
        recorded_bytes: u64,
        /// How many came now.
        replayed_bytes: u64,
        /// A hex dump around the offset.
        recorded: Vec<String>,
        /// The same.
        replayed: Vec<String>,
    },
}

impl Diff {
    /// Of two bodies, or what went through two streams.
    pub fn of_bytes(recorded: &[u8], replayed: &[u8]) -> Self {
        let (Ok(one), Ok(other)) = (std::str::from_utf8(recorded), std::str::from_utf8(replayed)) else {
            return bytes::diff(recorded, replayed);
        };
        if let (Some(one), Some(other)) = (value::nested(one), value::nested(other))
            && one != other
        {
            return Self::of_values(one, other);
        }
        if one.len().max(other.len()) > MAX_TEXT || !one.contains('\n') && one.len() > 4 * MAX_LINE {
            return bytes::diff(recorded, replayed);
        }
        text(one, other)
    }

    /// Of two values; texts in them that are JSON are compared as JSON.
    pub fn of_values(recorded: Value, replayed: Value) -> Self {
        let (changes, more) = tree::diff(&value::opened(recorded), &value::opened(replayed), MAX_PARTS);
        Self::Json { changes, more }
    }

    /// Of MessagePack. Values that are equal as JSON and differ in their bytes are shown by their bytes.
    pub fn of_packed(recorded: &[u8], replayed: &[u8]) -> Self {
        match Self::of_values(value::json_of(recorded), value::json_of(replayed)) {
            Self::Json { changes, .. } if changes.is_empty() => bytes::diff(recorded, replayed),
            diff => diff,
        }
    }

    /// Where the first difference is, in a form that equal mistakes share: indexes of lists are `[*]`.
    pub fn place(&self) -> String {
        match self {
            Self::Json { changes, .. } => changes.first().map_or_else(String::new, |c| general(&c.path)),
            Self::Text { .. } => "text".to_owned(),
            Self::Bytes { .. } => "bytes".to_owned(),
        }
    }

    /// Lines for people: `-` recorded, `+` replayed.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Json { changes, more } => {
                let mut lines: Vec<String> = changes.iter().flat_map(Change::lines).collect();
                if *more > 0 {
                    lines.push(format!("  and {more} more"));
                }
                lines
            }
            Self::Text { lines, more } => {
                let more = (*more > 0).then(|| format!("  and {more} more lines"));
                lines.iter().cloned().chain(more).collect()
            }
            Self::Bytes { offset, recorded_bytes, replayed_bytes, recorded, replayed } => {
                let head = format!(
                    "  first difference at byte {offset} (recorded {recorded_bytes} bytes, replayed {replayed_bytes})"
                );
                let recorded = recorded.iter().map(|line| format!("- {line}"));
                let replayed = replayed.iter().map(|line| format!("+ {line}"));
                std::iter::once(head).chain(recorded).chain(replayed).collect()
            }
        }
    }
}

/// `a[3].b` as `a[*].b`.
fn general(path: &str) -> String {
    let mut general = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('[') {
        general.push_str(before);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let tail = after.get(digits..).unwrap_or_default();
        if digits > 0 && tail.starts_with(']') {
            general.push_str("[*");
            rest = tail;
        } else {
            general.push('[');
            rest = after;
        }
    }
    general.push_str(rest);
    general
}

fn text(recorded: &str, replayed: &str) -> Diff {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(recorded, replayed);
    let mut lines = Vec::new();
    let mut more = 0u64;
    for (at, group) in diff.grouped_ops(1).iter().enumerate() {
        if at > 0 && lines.len() < MAX_PARTS {
            lines.push("  ...".to_owned());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            if lines.len() >= MAX_PARTS {
                more += 1;
                continue;
            }
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let value = change.value();
            // A missing newline at the end is a difference that must be seen.
            let missing = if value.ends_with('\n') || sign == ' ' { "" } else { " (no newline)" };
            let value = value.strip_suffix('\n').unwrap_or(value);
            lines.push(format!("{sign} {}{missing}", printable::line(value, MAX_LINE)));
        }
    }
    Diff::Text { lines, more }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn two_json_bodies_are_compared_as_json() {
        let diff = Diff::of_bytes(br#"{"a":1,"b":[1,2],"c":0}"#, br#"{"b":[1,3],"a":1,"d":0}"#);
        let Diff::Json { changes, more: 0 } = &diff else { panic!("{diff:?}") };
        let paths: Vec<_> = changes.iter().map(|c| (c.path.as_str(), c.kind)).collect();
        assert_eq!(
            paths,
            [("b[1]", ChangeKind::Changed), ("c", ChangeKind::Removed), ("d", ChangeKind::Added)]
        );
        assert_eq!(diff.place(), "b[*]");
    }

    #[test]
    fn json_that_differs_in_blanks_alone_is_text() {
        assert!(matches!(Diff::of_bytes(b"{\"a\":1}", b"{\"a\": 1}"), Diff::Text { .. }));
    }

    #[test]
    fn text_is_compared_by_lines_and_a_missing_newline_is_seen() {
        let Diff::Text { lines, .. } = Diff::of_bytes(b"a\nb\nc\nd\ne\n", b"a\nb\nX\nd\ne") else { panic!() };
        assert_eq!(lines, ["  b", "- c", "+ X", "  d", "- e", "+ e (no newline)"]);
    }

    #[test]
    fn bytes_are_shown_around_the_first_difference() {
        let mut other = vec![0xff_u8; 100];
        other[50] = 1;
        let diff = Diff::of_bytes(&[0xff; 100], &other);
        let Diff::Bytes { offset: 50, recorded, replayed, .. } = diff else { panic!("{diff:?}") };
        assert!(recorded[0].starts_with("00000020") && replayed.iter().any(|line| line.contains("01")));
    }

    #[test]
    fn nothing_that_a_guest_writes_steers_the_terminal() {
        for diff in [
            Diff::of_bytes(b"\x1b[2J\na", b"\x1b[3J\nb"),
            Diff::of_values(json!({"\u{1b}k": "\u{1b}[1m"}), json!({"\u{1b}k": ["\u{1b}"]})),
        ] {
            assert!(!diff.lines().iter().any(|line| line.contains('\u{1b}')), "{diff:?}");
        }
    }

    #[test]
    fn a_diff_has_a_bounded_number_of_parts() {
        let many: Value = (0..1000).map(|n| json!(n)).collect();
        let Diff::Json { changes, more } = Diff::of_values(many, json!([])) else { panic!() };
        assert_eq!((changes.len(), more), (MAX_PARTS, 1000 - MAX_PARTS as u64));
    }

    #[test]
    fn indexes_are_made_general_and_other_brackets_are_not() {
        assert_eq!(general("a[12].b[x][3]"), "a[*].b[x][*]");
    }
}
