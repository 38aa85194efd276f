//! JSON paths (a subset of RFC 9535) that are followed while a text is read.
//!
//! `$` and then any of `.name`, `['name']`, `["name"]`, `[0]`, `.*`, `[*]`, and each of these after `..` for "anywhere
//! below". No slices, filters, lists or indices from the end: they ask for a document that is whole, and what is
//! recorded may be cut off or be several documents.

use std::collections::HashSet;

/// Steps of a path.
const MAX_STEPS: usize = 16;

/// A path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// After `..`.
    anywhere: bool,
    to: Selector,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Selector {
    Name(String),
    Index(usize),
    Any,
}

/// Why a text is no path. Positions are in bytes, from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `$.a` begins so.
    #[error("a path begins with `$`")]
    Root,
    /// `$` alone would be the whole body.
    #[error("a path has at least one step, such as `$.name`")]
    Empty,
    /// A step that is none, or none that is supported.
    #[error("at byte {at}: expected `.name`, `['name']`, `[0]`, `.*` or `[*]`, or one of them after `..`")]
    Step {
        /// Where.
        at: usize,
    },
    /// A quote or bracket that is not closed.
    #[error("at byte {at}: the bracket is not closed")]
    Open {
        /// Where it begins.
        at: usize,
    },
    /// Over 16.
    #[error("more than {MAX_STEPS} steps")]
    Steps,
}

impl Path {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self, PathError> {
        let mut rest = text.strip_prefix('$').ok_or(PathError::Root)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            let anywhere = rest.starts_with("..");
            let to = if anywhere {
                let below = rest.get(2..).unwrap_or_default();
                if below.starts_with('[') { bracket(below, at + 2)? } else { name(below, at + 2)? }
            } else if let Some(below) = rest.strip_prefix('.') {
                name(below, at + 1)?
            } else {
                bracket(rest, at)?
            };
            let (to, after) = to;
            steps.push(Step { anywhere, to });
            if steps.len() > MAX_STEPS {
                return Err(PathError::Steps);
            }
            rest = after;
        }
        if steps.is_empty() { Err(PathError::Empty) } else { Ok(Self(steps)) }
    }
}

fn name(text: &str, at: usize) -> Result<(Selector, &str), PathError> {
    if let Some(after) = text.strip_prefix('*') {
        return Ok((Selector::Any, after));
    }
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_' || !char.is_ascii();
    let end = text.find(|char| !is_name(char)).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(PathError::Step { at });
    }
    Ok((Selector::Name(name.to_owned()), after))
}

fn bracket(text: &str, at: usize) -> Result<(Selector, &str), PathError> {
    let inner = text.strip_prefix('[').ok_or(PathError::Step { at })?;
    if let Some(quote) = inner.chars().next().filter(|first| matches!(first, '\'' | '"')) {
        let mut name = String::new();
        let mut chars = inner.char_indices().skip(1);
        while let Some((place, char)) = chars.next() {
            if char == quote {
                let after = inner.get(place + 1..).and_then(|after| after.strip_prefix(']'));
                let after = after.ok_or(PathError::Open { at })?;
                return Ok((Selector::Name(name), after));
            }
            let char = if char == '\\' {
                let escaped = chars.next().map(|(_, escaped)| escaped);
                let known = escaped.filter(|escaped| matches!(escaped, '\'' | '"' | '\\' | '/'));
                known.ok_or(PathError::Step { at: at + 1 + place })?
            } else {
                char
            };
            name.push(char);
        }
        return Err(PathError::Open { at });
    }
    let (inner, after) = inner.split_once(']').ok_or(PathError::Open { at })?;
    if inner == "*" {
        return Ok((Selector::Any, after));
    }
    // RFC 9535: no sign, no leading zero.
    let plain = inner.bytes().all(|byte| byte.is_ascii_digit()) && (inner == "0" || !inner.starts_with('0'));
    match inner.parse() {
        Ok(index) if plain => Ok((Selector::Index(index), after)),
        _ => Err(PathError::Step { at }),
    }
}

/// Several paths.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// `$..name`, which are the most: one look for all of them. As paths they would all be open everywhere.
    fields: HashSet<Vec<u8>>,
    others: Vec<Path>,
}

impl Paths {
    pub(super) fn add(&mut self, path: Path) {
        match path.0.as_slice() {
            [Step { anywhere: true, to: Selector::Name(name) }] => self.add_field(name),
            _ => self.others.push(path),
        }
    }

    /// `$..name`.
    pub(super) fn add_field(&mut self, name: &str) {
        self.fields.insert(name.as_bytes().to_vec());
    }
}

/// A member of an object or an element of an array.
#[derive(Debug, Clone, Copy)]
pub(super) enum Child<'a> {
    Member(&'a [u8]),
    Element(usize),
}

/// How far each path is followed at some place of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// A path ended here or above.
    pub(super) inside: bool,
    /// Path and step.
    open: Vec<(usize, usize)>,
}

impl Places {
    /// At the root of a document.
    pub(super) fn root(paths: &Paths) -> Self {
        Self { inside: false, open: (0..paths.others.len()).map(|path| (path, 0)).collect() }
    }

    /// One level down.
    pub(super) fn child(&self, paths: &Paths, child: Child<'_>) -> Self {
        let field = matches!(child, Child::Member(key) if paths.fields.contains(key));
        let mut below = Self { inside: self.inside || field, open: Vec::new() };
        if below.inside {
            // All below is meant already.
            return below;
        }
        for (path, at) in &self.open {
            let Some(steps) = paths.others.get(*path).map(|path| &path.0) else { continue };
            let Some(step) = steps.get(*at) else { continue };
            let mut go = |place| {
                if !below.open.contains(&place) {
                    below.open.push(place);
                }
            };
            if step.anywhere {
                go((*path, *at));
            }
            let meant = match (&step.to, child) {
                (Selector::Any, _) => true,
                (Selector::Name(name), Child::Member(key)) => name.as_bytes() == key,
                (Selector::Index(index), Child::Element(at)) => *index == at,
                _ => false,
            };
            if meant && at + 1 == steps.len() {
                below.inside = true;
            } else if meant {
                go((*path, at + 1));
            }
        }
        below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(path: &str, children: &[Child<'_>]) -> bool {
        let mut paths = Paths::default();
        paths.add(Path::parse(path).unwrap());
        let root = Places::root(&paths);
        children.iter().fold(root, |places, child| places.child(&paths, *child)).inside
    }

    #[test]
    fn paths_are_followed_from_the_root_down() {
        let member = |name: &'static str| Child::Member(name.as_bytes());
        let a_b = [member("a"), member("b")];
        for path in
            ["$.a.b", "$['a'].b", "$[\"a\"]['b']", "$..b", "$.*.b", "$[*]['b']", "$.a.*", "$..*", "$.a"]
        {
            assert!(meant(path, &a_b), "{path}");
        }
        for path in ["$.b", "$.b.a", "$.a.b.c", "$.A.b", "$.a[0]", "$..c", "$.*.*.*"] {
            assert!(!meant(path, &a_b), "{path}");
        }
        let list = [member("a"), Child::Element(2), member("x-y")];
        for path in ["$.a[2]['x-y']", "$..['x-y']", "$..[2]", "$.a..*", "$..a"] {
            assert!(meant(path, &list), "{path}");
        }
        assert!(!meant("$.a[1]['x-y']", &list));
        assert!(meant("$..a..b", &[member("x"), member("a"), member("y"), member("b")]));
        assert!(meant(r"$['it\'s']", &[member("it's")]));
        assert!(!meant("$.a", &[]));
    }

    #[test]
    fn what_is_no_path_is_refused_with_the_place() {
        let cases = [
            ("a", PathError::Root),
            ("", PathError::Root),
            ("$", PathError::Empty),
            ("$a", PathError::Step { at: 1 }),
            ("$.", PathError::Step { at: 2 }),
            ("$..", PathError::Step { at: 3 }),
            ("$.a.1", PathError::Step { at: 4 }),
            ("$.a-b", PathError::Step { at: 3 }),
            ("$.a b", PathError::Step { at: 3 }),
            ("$[-1]", PathError::Step { at: 1 }),
            ("$[01]", PathError::Step { at: 1 }),
            ("$[0:2]", PathError::Step { at: 1 }),
            ("$[?@.a]", PathError::Step { at: 1 }),
            ("$[99999999999999999999999]", PathError::Step { at: 1 }),
            ("$.a[0", PathError::Open { at: 3 }),
            ("$['a", PathError::Open { at: 1 }),
            ("$['a'", PathError::Open { at: 1 }),
            ("$['a','b']", PathError::Open { at: 1 }),
            ("$['\\q']", PathError::Step { at: 3 }),
        ];
        for (text, error) in cases {
            assert_eq!(Path::parse(text).unwrap_err(), error, "{text}");
        }
        assert_eq!(Path::parse(&format!("${}", ".a".repeat(17))).unwrap_err(), PathError::Steps);
    }
}
