//! The command line, made from the same table as everything else.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command};

use super::{ConfigError, ConfigErrors, EX_USAGE, Setting, Settings, Source, Strings, flag_of};

/// One flag for each setting of `S` (and for each file twin), to add to a command of one's own.
pub fn args<S: Settings>() -> Vec<Arg> {
    let mut args: Vec<Arg> = Vec::new();
    for group in S::groups() {
        for setting in group.settings {
            args.push(arg(setting).help_heading(group.title));
            if let Some(file) = setting.file {
                args.push(
                    Arg::new(file.name)
                        .long(flag_of(file.name))
                        .value_name("FILE")
                        .help(format!("File that holds {} [env: {}]", setting.name, file.name))
                        .help_heading(group.title),
                );
            }
        }
    }
    args
}

fn arg(setting: &Setting) -> Arg {
    let doc = setting.doc.trim();
    let first_sentence = doc.split_once(". ").map_or(doc, |(first, _)| first).replace('\n', " ");
    let mut help = format!(
        "{} [env: {}]",
        first_sentence.split_whitespace().collect::<Vec<_>>().join(" "),
        setting.name
    );
    if let Some(default) = setting.default {
        help.push_str(&format!(" [default: {default}]"));
    }
    let arg = Arg::new(setting.name).long(setting.flag()).value_name("VALUE").help(help);
    if setting.switch { arg.num_args(0..=1).default_missing_value("true") } else { arg }
}

/// Reads `S` from variables and from the flags of `matches`, whose command has the [`args`] of `S`.
pub fn from_matches<S: Settings>(strings: &dyn Strings, matches: &ArgMatches) -> Result<S, ConfigErrors> {
    let mut flags = BTreeMap::new();
    for setting in S::groups().iter().flat_map(|group| group.settings) {
        for name in std::iter::once(setting.name).chain(setting.file.map(|file| file.name)) {
            if let Ok(Some(value)) = matches.try_get_one::<String>(name) {
                flags.insert(name.to_owned(), value.clone());
            }
        }
    }
    let mut errors = ConfigErrors::default();
    match S::read(&Source::new(strings, flags), &mut errors) {
        Some(settings) if errors.is_empty() => Ok(settings),
        _ => Err(errors),
    }
}

/// As the `load` of a settings struct, with a command of the caller's: its name, version and extra flags, which are in the matches returned.
pub fn load_with_command<S: Settings>(
    command: Command,
    strings: &dyn Strings,
    command_line: impl IntoIterator<Item = String>,
) -> Result<(S, ArgMatches), ConfigErrors> {
    let matches =
        command.args(args::<S>()).color(clap::ColorChoice::Never).try_get_matches_from(command_line);
    let matches = matches.map_err(|error| {
        let text = error.to_string().trim_end().to_owned();
        if error.use_stderr() {
            ConfigErrors::from(ConfigError::CommandLine(text))
        } else {
            ConfigErrors { answer: Some(text), ..ConfigErrors::default() }
        }
    })?;
    from_matches(strings, &matches).map(|settings| (settings, matches))
}

/// For `main` only: on mistakes prints them all to stderr and ends the process with [`EX_USAGE`]; after `--help` or
/// `--version` prints the answer to stdout and ends it with 0.
pub fn exit_on_config_errors<T>(result: Result<T, ConfigErrors>) -> T {
    use std::io::Write;
    match result {
        Ok(value) => value,
        // A closed pipe (`worker --help | head`) is no reason to panic, so no `println!`.
        Err(errors) if errors.answer().is_some() => {
            let _ = writeln!(std::io::stdout(), "{errors}");
            std::process::exit(0)
        }
        Err(errors) => {
            let _ = writeln!(std::io::stderr(), "{errors}");
            std::process::exit(i32::from(EX_USAGE))
        }
    }
}
