//! What `doctor` says: a line for each thing that it looked at.

use serde::Serialize;

use crate::output::printable;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Could not be looked at, and nothing depends on it here.
    Skipped,
    /// Works, and will not always.
    Warning,
    /// Does not work.
    Wrong,
}

impl State {
    /// As it is printed.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "-",
            Self::Warning => "note",
            Self::Wrong => "WRONG",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, such as `nats` or `bundle`.
    pub what: &'static str,
    /// How it is.
    pub state: State,
    /// A word for programs: the kind of trouble.
    pub code: &'static str,
    /// What was found.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(what: &'static str, message: impl AsRef<str>) -> Self {
        Self::new(what, State::Ok, "ok", message, None)
    }

    /// It was not looked at, and why.
    pub fn skipped(what: &'static str, message: impl AsRef<str>) -> Self {
        Self::new(what, State::Skipped, "skipped", message, None)
    }

    /// It works and should be looked at.
    pub fn warning(
        what: &'static str,
        code: &'static str,
        message: impl AsRef<str>,
        hint: impl AsRef<str>,
    ) -> Self {
        Self::new(what, State::Warning, code, message, Some(hint.as_ref()))
    }

    /// It does not work; what to do about it.
    pub fn wrong(
        what: &'static str,
        code: &'static str,
        message: impl AsRef<str>,
        hint: impl AsRef<str>,
    ) -> Self {
        Self::new(what, State::Wrong, code, message, Some(hint.as_ref()))
    }

    fn new(
        what: &'static str,
        state: State,
        code: &'static str,
        message: impl AsRef<str>,
        hint: Option<&str>,
    ) -> Self {
        // Words of servers and bundles may be anything.
        let hint = hint.filter(|hint| !hint.is_empty()).map(printable);
        Self { what, state, code, message: printable(message), hint }
    }

    /// As people read it.
    pub fn text(&self) -> String {
        let line = format!("{:<6} {:<10} {}", self.state.word(), self.what, self.message);
        match &self.hint {
            Some(hint) => format!("{line}\n{:>18}{hint}", ""),
            None => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_is_wrong_and_below_it_what_to_do() {
        let text = Finding::wrong("store", "no_bucket", "there is no bucket\u{1b}", "make it").text();
        assert_eq!(text, "WRONG  store      there is no bucket\u{fffd}\n                  make it");
        assert_eq!(Finding::ok("nats", "2.12.0").text(), "ok     nats       2.12.0");
    }
}
