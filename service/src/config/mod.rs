//! Configuration: read once at start, typed, every mistake reported at once, documented from the declaration itself.
//!
//! A settings struct is declared with [`settings!`](crate::settings); everything else here is what the macro expands to:
//! where a value comes from ([`Strings`], flags, files), how it is parsed ([`FromSetting`]), how mistakes are collected
//! ([`ConfigErrors`]), how it is printed without its secrets ([`Settings::values`]) and documented ([`markdown`]).
//!
//! Order of precedence: flag, variable (or one of its aliases), file twin, default. An empty string counts as unset.

mod command;
mod docs;
mod errors;
mod macros;
mod parse;
mod secret;
mod shared;
mod source;
#[cfg(test)]
mod tests;
mod tokens;
mod units;

pub use command::{args, exit_on_config_errors, from_matches, load_with_command};
pub use docs::markdown;
pub use errors::{ConfigError, ConfigErrors, EX_USAGE};
pub use parse::{FromSetting, parse_choice};
pub use secret::Secret;
pub use shared::{
    KvSettings, LifecycleConfig, LogFormat, NatsConfig, ScheduleKeeper, ScheduleSettings, SecretsConfig,
    SignaturePolicy, SignatureSettings, StoreSettings, TelemetryConfig,
};
pub use source::{Environment, Source, Strings};
pub use tokens::{AdminTokenSettings, ServiceTokens};
pub use units::{ByteSize, Millis, Seconds};

#[doc(hidden)]
pub use clap::Command as __Command;

/// A setting as the documentation and the command line see it; made by [`settings!`](crate::settings).
#[derive(Clone, Copy)]
pub struct Setting {
    /// The variable's name, such as `WORKER_SLOTS`; the flag is made from it.
    pub name: &'static str,
    /// Other variables that mean the same. Set to the same value they are fine, to another they are an error.
    pub aliases: &'static [&'static str],
    /// A variable that names a file holding the value, for secrets mounted as files, with the file that is tried when it is unset.
    pub file: Option<FileTwin>,
    /// The default as text, exactly what is parsed when nothing is set.
    pub default: Option<&'static str>,
    /// What it means, in Markdown.
    pub doc: &'static str,
    /// What a value looks like, for documentation and error messages.
    pub expected: fn() -> String,
    /// Never printed.
    pub secret: bool,
    /// `--flag` alone means true.
    pub switch: bool,
    /// Something must be set: there is no default and the type is not optional.
    pub required: bool,
}

/// The variable that names a file with a setting's value.
#[derive(Clone, Copy, Debug)]
pub struct FileTwin {
    /// The variable, such as `NATS_PASSWORD_FILE`.
    pub name: &'static str,
    /// Read when the variable is unset; no error when this file does not exist.
    pub default: Option<&'static str>,
}

impl Setting {
    /// The flag without its dashes: `WORKER_SLOTS` is `worker-slots`.
    pub fn flag(&self) -> String {
        flag_of(self.name)
    }
}

pub(crate) fn flag_of(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// The settings of one struct, for documentation and the command line.
#[derive(Clone, Copy)]
pub struct Group {
    /// The heading, such as `Worker`.
    pub title: &'static str,
    /// The struct's own documentation.
    pub doc: &'static str,
    /// In the order of declaration.
    pub settings: &'static [Setting],
}

/// What [`settings!`](crate::settings) implements for a struct.
pub trait Settings: Sized {
    /// Its own settings first, then those of nested structs; a struct nested twice appears once.
    fn groups() -> Vec<Group>;

    /// Reads every field, collecting mistakes; `None` when there was at least one.
    fn read(source: &Source<'_>, errors: &mut ConfigErrors) -> Option<Self>;

    /// Adds name and effective value of every setting, secrets redacted.
    fn collect(&self, values: &mut Vec<(&'static str, String)>);

    /// Name and effective value of every setting, secrets redacted.
    fn values(&self) -> Vec<(&'static str, String)> {
        let mut values = Vec::new();
        self.collect(&mut values);
        values
    }
}

/// Writes `NAME=value` lines; used by the `Debug` and `Display` that the macro generates.
#[doc(hidden)]
pub fn __write_values(
    values: &[(&'static str, String)],
    f: &mut std::fmt::Formatter<'_>,
) -> std::fmt::Result {
    for (at, (name, value)) in values.iter().enumerate() {
        if at > 0 {
            f.write_str("\n")?;
        }
        write!(f, "{name}={value}")?;
    }
    Ok(())
}

/// Adds `more` to `groups`, leaving out those that are already there.
#[doc(hidden)]
pub fn __add_groups(groups: &mut Vec<Group>, more: Vec<Group>) {
    for group in more {
        if !groups.iter().any(|known| known.title == group.title) {
            groups.push(group);
        }
    }
}
