//! Mistakes in the configuration, all of them at once.

use std::fmt;

/// Exit code of a program whose flags or variables are wrong (`EX_USAGE` of sysexits.h).
pub const EX_USAGE: u8 = 64;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value cannot be read.
    #[error("{name}: {value} is not valid: expected {expected}")]
    Invalid {
        /// The variable or flag as it was given.
        name: String,
        /// The offending value, redacted when it is secret.
        value: String,
        /// What is expected.
        expected: String,
    },
    /// Nothing is set where something must be.
    #[error("{name} is not set: expected {expected}")]
    Missing {
        /// The variable, with its aliases.
        name: String,
        /// What is expected.
        expected: String,
    },
    /// A variable and its alias contradict each other.
    #[error("{first} and {second} are both set, to different values; they mean the same: set one of them")]
    Conflict {
        /// The variable.
        first: String,
        /// The alias.
        second: String,
    },
    /// A file that a variable names cannot be read.
    #[error("{name}: cannot read {path}: {cause}")]
    File {
        /// The variable.
        name: String,
        /// The file.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// The command line cannot be understood.
    #[error("{0}")]
    CommandLine(String),
    /// Values that do not fit together.
    #[error("{0}")]
    Other(String),
}

/// All mistakes of a configuration, or the text that `--help` or `--version` asked for.
#[derive(Default)]
pub struct ConfigErrors {
    pub(super) errors: Vec<ConfigError>,
    pub(super) answer: Option<String>,
}

impl ConfigErrors {
    /// Adds a mistake.
    pub fn push(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    /// Adds: `name` has the wrong value. For secret values use [`ConfigErrors::other`] and leave the value out.
    pub fn invalid(
        &mut self,
        name: impl Into<String>,
        value: impl fmt::Display,
        expected: impl Into<String>,
    ) {
        self.push(ConfigError::Invalid {
            name: name.into(),
            value: format!("{:?}", value.to_string()),
            expected: expected.into(),
        });
    }

    /// Adds a sentence about values that do not fit together; it names the variables and what to do.
    pub fn other(&mut self, sentence: impl Into<String>) {
        self.push(ConfigError::Other(sentence.into()));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.errors.len()
    }

    /// No mistakes.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// In the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// The text that `--help` or `--version` asked for: not a mistake, but the program ends.
    pub fn answer(&self) -> Option<&str> {
        self.answer.as_deref()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(answer) = &self.answer {
            return f.write_str(answer);
        }
        for (at, error) in self.errors.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self { errors: vec![error], answer: None }
    }
}
