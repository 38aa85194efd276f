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

/// Exit codes of `replay` and `verify-replay`, which compare: scripts must tell "it differs" from "it could not be compared", whatever the reason was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplayExit {
    /// The same.
    Same,
    /// Something differs.
    Diverged,
    /// The trace is damaged, incomplete, of another bundle or a newer schema, or gone.
    Unusable,
    /// Nothing was compared: the command line, the engine, the disk or the fleet.
    ToolFailed,
}

impl ReplayExit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Same, Self::Diverged, Self::Unusable, Self::ToolFailed];

    /// The number that the process ends with.
    pub const fn number(self) -> u8 {
        match self {
            Self::Same => 0,
            Self::Diverged => 1,
            Self::Unusable => 2,
            Self::ToolFailed => 3,
        }
    }

    /// The code with this number, as the replayer's reports give it; what is none means that the tool failed.
    pub const fn of(number: u8) -> Self {
        match number {
            0 => Self::Same,
            1 => Self::Diverged,
            2 => Self::Unusable,
            _ => Self::ToolFailed,
        }
    }

    /// What it means, for the documentation.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Same => "the same",
            Self::Diverged => "something differs; of `verify-replay`: the share is below --min-share",
            Self::Unusable => {
                "the trace is unusable: damaged, incomplete, of another bundle, of a newer schema, gone"
            }
            Self::ToolFailed => "nothing was compared: the command line, the engine, the disk, the fleet",
        }
    }
}

impl From<ReplayExit> for ExitCode {
    fn from(exit: ReplayExit) -> Self {
        Self::from(exit.number())
    }
}

/// Why a command did not do what it was asked: for people on stderr, with `--json` as an object on stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// How it ends instead, where the command has codes of its own.
    pub replay: Option<ReplayExit>,
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
        Self { exit, replay: None, code, message: message.into(), hint: None, details: None }
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

    /// The same with a code of `replay` and `verify-replay`.
    #[must_use]
    pub fn replay(mut self, exit: ReplayExit) -> Self {
        self.replay = Some(exit);
        self
    }

    /// The number that the process ends with.
    pub fn number(&self) -> u8 {
        self.replay.map_or_else(|| self.exit.number(), ReplayExit::number)
    }

    /// The object that `--json` prints.
    pub fn json(&self) -> serde_json::Value {
        let mut error =
            serde_json::json!({ "code": self.code, "message": self.message, "exit": self.number() });
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
        for exit in ReplayExit::ALL {
            assert_eq!(ReplayExit::of(exit.number()), exit);
        }
        assert_eq!(ReplayExit::of(77), ReplayExit::ToolFailed);
    }

    #[test]
    fn a_failed_replay_ends_with_the_codes_of_replays() {
        let failure = Failure::not_found("gone", "x").replay(ReplayExit::Unusable);
        assert_eq!((failure.number(), failure.json()["error"]["exit"].as_u64()), (2, Some(2)));
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
