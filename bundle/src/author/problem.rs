//! What is wrong with a project, said so that its author finds the place.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing has to be done.
    Note,
    /// It runs here, and is refused or works differently elsewhere, or is likely to be a mistake.
    Warning,
    /// It cannot be packed or installed.
    Error,
}

impl Severity {
    /// In lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The file that a problem is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Where(pub String);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// `manifest.json`, the component's path, or a file's.
    pub file: Where,
    /// In a manifest: the line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// In a manifest: `api.endpoints[2].path`. Empty for the whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// One that has no line: of a component or a file.
    pub fn of_file(severity: Severity, file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity, file: Where(file.into()), line: None, field: String::new(), message: message.into() }
    }
}

/// `manifest.json:7: api.endpoints[0].method: ...`, which editors and terminals know how to follow.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file.0)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if self.severity != Severity::Error {
            write!(f, ": {}", self.severity.as_str())?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Whether any of them forbids to go on.
pub(super) fn any_error(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

/// A text of the author's, short and harmless enough for a terminal.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

/// `; did you mean ...?` where one of `known` is near enough to be meant.
pub(super) fn did_you_mean<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let text: String = text.chars().take(64).collect::<String>().to_ascii_lowercase();
    let nearest = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&text, &name.to_ascii_lowercase()), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    // At 0.85 `storage` finds `cap:storage.kv` no more, but `cap:storge.kv` does, and `colour` finds nothing.
    match nearest {
        Some((likeness, name)) if likeness >= 0.85 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_a_compilers() {
        let mut problem = Problem {
            severity: Severity::Error,
            file: Where("manifest.json".into()),
            line: Some(7),
            field: "ui.entry".into(),
            message: "is missing".into(),
        };
        assert_eq!(problem.to_string(), "manifest.json:7: ui.entry: is missing");
        problem.severity = Severity::Warning;
        assert_eq!(problem.to_string(), "manifest.json:7: warning: ui.entry: is missing");
        let of_file = Problem::of_file(Severity::Note, "dist/main.wasm", "x");
        assert_eq!(of_file.to_string(), "dist/main.wasm: note: x");
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = ["cap:http.fetch", "cap:storage.kv"];
        assert_eq!(did_you_mean("cap:http.fetsh", known), "; did you mean `cap:http.fetch`?");
        assert_eq!(did_you_mean("CAP:STORAGE.KY", known), "; did you mean `cap:storage.kv`?");
        assert_eq!(did_you_mean("colour", known), "");
        assert_eq!(did_you_mean(&"x".repeat(100_000), known), "");
    }

    #[test]
    fn a_long_or_hostile_text_is_shown_short_and_harmless() {
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(shown(&"x".repeat(81)).chars().count(), 81);
        assert!(shown(&"x".repeat(81)).ends_with('…'));
    }
}
