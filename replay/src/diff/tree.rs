//! What differs between two values of JSON, by path.

use serde::Serialize;
use serde_json::Value;

use crate::printable;

/// Bytes of a value that is shown.
const MAX_SHOWN: usize = 400;
/// Bytes of a path.
const MAX_PATH: usize = 200;
/// How deep is looked.
const MAX_DEPTH: usize = 64;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another value.
    Changed,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `headers[2].value`; empty for the value itself.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
    /// As JSON, cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
    /// As JSON, cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<String>,
}

impl Change {
    /// One line for each side that has a value.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let path = if self.path.is_empty() { "(all)" } else { &self.path };
        let line = move |sign: char, value: &Option<String>| {
            value.as_ref().map(|value| format!("{sign} {path}: {value}"))
        };
        line('-', &self.recorded).into_iter().chain(line('+', &self.replayed))
    }
}

/// The first `most` changes, and how many more there are.
pub(super) fn diff(recorded: &Value, replayed: &Value, most: usize) -> (Vec<Change>, u64) {
    let mut found = Found { changes: Vec::new(), more: 0, most };
    found.walk(&mut String::new(), Some(recorded), Some(replayed), 0);
    (found.changes, found.more)
}

struct Found {
    changes: Vec<Change>,
    more: u64,
    most: usize,
}

impl Found {
    fn walk(&mut self, path: &mut String, recorded: Option<&Value>, replayed: Option<&Value>, depth: usize) {
        if recorded == replayed {
            return;
        }
        let length = path.len();
        match (recorded, replayed) {
            (Some(Value::Object(one)), Some(Value::Object(other))) if depth < MAX_DEPTH => {
                let new = other.keys().filter(|key| !one.contains_key(*key));
                for key in one.keys().chain(new) {
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(key);
                    self.walk(path, one.get(key), other.get(key), depth + 1);
                    path.truncate(length);
                }
            }
            (Some(Value::Array(one)), Some(Value::Array(other))) if depth < MAX_DEPTH => {
                for at in 0..one.len().max(other.len()) {
                    path.push_str(&format!("[{at}]"));
                    self.walk(path, one.get(at), other.get(at), depth + 1);
                    path.truncate(length);
                }
            }
            _ => self.found(path, recorded, replayed),
        }
    }

    fn found(&mut self, path: &str, recorded: Option<&Value>, replayed: Option<&Value>) {
        if self.changes.len() >= self.most {
            self.more += 1;
            return;
        }
        let kind = match (recorded, replayed) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        };
        let shown = |value: Option<&Value>| value.map(|v| printable::line(&v.to_string(), MAX_SHOWN));
        self.changes.push(Change {
            path: printable::line(path, MAX_PATH),
            kind,
            recorded: shown(recorded),
            replayed: shown(replayed),
        });
    }
}
