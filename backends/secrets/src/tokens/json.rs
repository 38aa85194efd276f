//! The strings and numbers of a JSON text that paths name, and where they stand: the text is never written anew, so
//! that everything else keeps its bytes. What is no JSON ends the search; several documents one after another (NDJSON)
//! are each searched.

use std::borrow::Cow;

use crate::redact::decode::Encoding;

use super::path::{Child, Paths, Places};

/// Levels of nesting that are followed, as in serde_json.
const MAX_DEPTH: usize = 128;

/// What a path named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Between quotes; else a number.
    pub(super) string: bool,
}

/// An object or array that is open.
struct Level {
    /// Of the object or array itself.
    places: Places,
    /// Elements so far; none in an object.
    element: Option<usize>,
    /// Of the member whose value comes next.
    member: Option<Places>,
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

/// Whether a text may be JSON with something to find in it.
pub(super) fn may_be_json(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// The strings and numbers that the paths name, and those below what they name; sorted.
pub(super) fn leaves(text: &[u8], paths: &Paths) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    // None: no JSON from here on.
    let _ended = Reader { text, at: 0 }.read(paths, &mut leaves);
    leaves
}

impl<'t> Reader<'t> {
    fn read(&mut self, paths: &Paths, leaves: &mut Vec<Leaf>) -> Option<()> {
        let mut levels: Vec<Level> = Vec::new();
        loop {
            let byte = self.next_token()?;
            let begin = self.at;
            let places = match levels.last_mut() {
                // Between documents.
                None => Places::root(paths),
                Some(level) => match (byte, level.element) {
                    (b'}', None) | (b']', Some(_)) => {
                        self.at += 1;
                        levels.pop();
                        continue;
                    }
                    (b',', _) => {
                        self.at += 1;
                        level.element = level.element.map(|element| element + 1);
                        continue;
                    }
                    (_, Some(element)) => level.places.child(paths, Child::Element(element)),
                    (b'"', None) if level.member.is_none() => {
                        self.string()?;
                        let key = self.text.get(begin + 1..self.at - 1)?;
                        if self.next_token()? != b':' {
                            return None;
                        }
                        self.at += 1;
                        level.member = Some(level.places.child(paths, Child::Member(&unescaped(key))));
                        continue;
                    }
                    (_, None) => level.member.take()?,
                },
            };
            match byte {
                b'{' | b'[' => {
                    if levels.len() == MAX_DEPTH {
                        return None;
                    }
                    self.at += 1;
                    let element = (byte == b'[').then_some(0);
                    // Where nothing can be meant, the places are empty and cost nothing to follow.
                    levels.push(Level { places, element, member: None });
                }
                b'"' => {
                    self.string()?;
                    if places.inside {
                        leaves.push(Leaf { start: begin + 1, end: self.at - 1, string: true });
                    }
                }
                _ => {
                    self.word()?;
                    if places.inside && matches!(byte, b'-' | b'0'..=b'9') {
                        leaves.push(Leaf { start: begin, end: self.at, string: false });
                    }
                }
            }
        }
    }

    /// The next byte that is no blank.
    fn next_token(&mut self) -> Option<u8> {
        let rest = self.text.get(self.at..)?;
        let blanks = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))?;
        self.at += blanks;
        rest.get(blanks).copied()
    }

    /// Goes behind a string, which begins here.
    fn string(&mut self) -> Option<()> {
        let mut escaped = false;
        let inner = self.text.get(self.at + 1..)?;
        let end = inner.iter().position(|byte| {
            let quote = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            quote
        })?;
        self.at += end + 2;
        Some(())
    }

    /// Goes behind a number, `true`, `false` or `null`.
    fn word(&mut self) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let end = rest.iter().position(|byte| !is_word(byte)).unwrap_or(rest.len());
        self.at += end;
        (end > 0).then_some(())
    }
}

fn unescaped(key: &[u8]) -> Cow<'_, [u8]> {
    if Encoding::Json.applies(key, false) {
        Cow::Owned(Encoding::Json.decode(key, false).to_vec())
    } else {
        Cow::Borrowed(key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::Path;
    use super::*;

    fn found(text: &str, paths: &[&str]) -> Vec<String> {
        let mut all = Paths::default();
        paths.iter().for_each(|path| all.add(Path::parse(path).unwrap()));
        leaves(text.as_bytes(), &all).iter().map(|leaf| text[leaf.start..leaf.end].to_owned()).collect()
    }

    #[test]
    fn strings_and_numbers_are_found_by_path() {
        let text = r#" {"a": {"b": "x\"y", "c": [1, -2.5e3, "z", true, null, {"b": "deep"}]}, "b": "top" } "#;
        assert_eq!(found(text, &["$.a.b"]), [r#"x\"y"#]);
        assert_eq!(found(text, &["$..b"]), [r#"x\"y"#, "deep", "top"]);
        assert_eq!(found(text, &["$.a.c"]), ["1", "-2.5e3", "z", "deep"]);
        assert_eq!(found(text, &["$.a.c[1]", "$.b"]), ["-2.5e3", "top"]);
        assert_eq!(found(text, &["$.a.c[5].b", "$..c[0]"]), ["1", "deep"]);
        assert_eq!(found(text, &["$.x"]), Vec::<String>::new());
        assert_eq!(found(text, &["$.*"]).len(), 6);
        assert_eq!(found(r#"{"\u0061b":"v","":"w"}"#, &["$.ab", "$['']"]), ["v", "w"]);
    }

    #[test]
    fn several_documents_are_each_searched() {
        assert_eq!(found("{\"a\":1}\n{\"a\":\"2\"}\n[{\"a\":3}]", &["$.a"]), ["1", "2"]);
    }

    #[test]
    fn what_is_no_json_ends_the_search_and_keeps_what_was_found() {
        for (text, wanted) in [
            (r#"{"a":"x","b""#, 1),
            (r#"{"a":"x"#, 0),
            (r#"{"a" "x"}"#, 0),
            (r#"{a:"x"}"#, 0),
            (r#"{"a":}"#, 0),
            ("{\"a\":\"x\\", 0),
            ("]", 0),
            ("", 0),
            ("{", 0),
            (r#"{"a":1, : }"#, 1),
            (r#"["a":1]"#, 0),
        ] {
            assert_eq!(found(text, &["$.a"]).len(), wanted, "{text}");
        }
        let deep = format!("{}\"x\"{}", "[".repeat(129), "]".repeat(129));
        assert!(found(&deep, &["$..*"]).is_empty());
        let less = format!("{}\"x\"{}", "[".repeat(128), "]".repeat(128));
        assert_eq!(found(&less, &["$..*"]), ["x"]);
    }
}
