//! How a command ends: the exit codes, and what a failure says.
//!
//! The codes are part of the interface (scripts branch on them), so the enum is closed and docs/cli.md lists it by a test.

use std::process::ExitCode;

/// Exit codes of every command except `child` and `dev`'s signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It was done.
    Ok,
    /// It was refused, or failed for a reason that no other code names.
    Failed,
    /// The command line is wrong; clap ends with the same code.
    Usage,
    /// An install, extension, bundle, token or file that was named is not there.
    NotFound,
    /// No answer from the fleet: its admin service or gateway cannot be reached, or it has not what it needs.
    Unreachable,
    /// A bundle, manifest, component or value is not valid.
    Invalid,
    /// The token is missing, wrong or may not do this; or a grant, signature or policy forbids it.
    NotPermitted,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Unreachable,
        Self::Invalid,
        Self::NotPermitted,
    ];

    /// The number that the process ends with.
    pub const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Unreachable => 4,
            Self::Invalid => 5,
            Self::NotPermitted => 6,
        }
    }

    /// What it means, for the documentation and `longshore help exit-codes`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failed => "refused or failed",
            Self::Usage => "the command line is wrong",
            Self::NotFound => "what was named is not there",
            Self::Unreachable => "the fleet cannot be reached or is not ready",
            Self::Invalid => "a bundle, manifest, component or value is not valid",
            Self::NotPermitted => "not permitted: token, grant, signature or policy",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Why a command did not do what it was asked: for people on stderr, with `--json` as an object on stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// A word for programs; the admin API's code where it answered.
    pub code: &'static str,
    /// What happened, to whom.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// More for programs: problems of a manifest, missing grants.
    pub details: Option<serde_json::Value>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self { exit, code, message: message.into(), hint: None, details: None }
    }

    /// The command line asks for something that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// A bundle, manifest or value is not valid.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Invalid, code, message)
    }

    /// What was named is not there.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, code, message)
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with more for programs.
    #[must_use]
    pub fn details(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details);
        self
    }

    /// The object that `--json` prints.
    pub fn json(&self) -> serde_json::Value {
        let mut error =
            serde_json::json!({ "code": self.code, "message": self.message, "exit": self.exit.number() });
        if let Some(object) = error.as_object_mut() {
            if let Some(hint) = &self.hint {
                object.insert("hint".to_owned(), hint.as_str().into());
            }
            if let Some(details) = &self.details {
                object.insert("details".to_owned(), details.clone());
            }
        }
        serde_json::json!({ "error": error })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A file or folder that cannot be read or written, and everything else without a code of its own. The whole chain of causes is kept.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::new(Exit::Failed, "failed", format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_distinct_and_in_order() {
        let numbers: Vec<u8> = Exit::ALL.iter().map(|exit| exit.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_failure_keeps_its_exit_code_on_its_way_through_other_errors() {
        let failure = Failure::invalid("manifest_invalid", "line 3: x").hint("fix it");
        let back = Failure::from(anyhow::Error::new(failure.clone()).context("packing"));
        assert_eq!(back, failure);
        let json = failure.json();
        assert_eq!(json["error"]["exit"], 5);
        assert_eq!(json["error"]["hint"], "fix it");
        assert!(json["error"].get("details").is_none());
    }

    #[test]
    fn an_error_without_a_code_keeps_its_causes() {
        let error = anyhow::anyhow!("no such file").context("cannot read x");
        let failure = Failure::from(error);
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Failed, "cannot read x: no such file"));
    }
}
