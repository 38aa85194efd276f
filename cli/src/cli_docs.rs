//! `docs/cli.md`: every command, from its declaration.

use std::process::ExitCode;

use clap::{Arg, Command};

use crate::exit::{Exit, ReplayExit};
use crate::output::Output;

/// What a table cannot say.
const INTRODUCTION: &str = include_str!("cli_docs.md");

/// A line for each exit code.
pub fn exit_codes() -> String {
    Exit::ALL.iter().map(|exit| format!("  {}  {}\n", exit.number(), exit.meaning())).collect()
}

/// Prints them.
pub fn print_exit_codes(output: &Output) -> ExitCode {
    let document: Vec<_> = Exit::ALL
        .iter()
        .map(|exit| serde_json::json!({ "exit": exit.number(), "meaning": exit.meaning() }))
        .collect();
    output.result(&document, exit_codes);
    Exit::Ok.into()
}

/// The page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Exit codes\n\n| Code | Meaning |\n| --- | --- |\n");
    for exit in Exit::ALL {
        page.push_str(&format!("| {} | {} |\n", exit.number(), exit.meaning()));
    }
    page.push_str("\n`longshore dev` ends with 128 and the signal's number when a signal ends it before everything is up.\n");
    page.push_str("\n`longshore replay` and `longshore verify-replay` compare, and have codes of their own:\n\n| Code | Meaning |\n| --- | --- |\n");
    for exit in ReplayExit::ALL {
        page.push_str(&format!("| {} | {} |\n", exit.number(), exit.meaning()));
    }
    page.push_str("\n## Commands\n");
    for command in crate::app::definition().get_subcommands().filter(|command| !command.is_hide_set()) {
        describe(command, "longshore", &mut page);
    }
    page
}

/// A command and those below it.
fn describe(command: &Command, above: &str, page: &mut String) {
    let path = format!("{above} {}", command.get_name());
    let below: Vec<&Command> = command.get_subcommands().filter(|below| !below.is_hide_set()).collect();
    if below.is_empty() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        page.push_str(&format!("\n### {path}\n\n{}.\n\n```\n{}\n```\n", cell(&about), usage(command, &path)));
        let args: Vec<&Arg> = command.get_arguments().filter(|arg| !is_of_all(arg)).collect();
        if !args.is_empty() {
            page.push_str("\n| Argument | Variable | Default | Meaning |\n| --- | --- | --- | --- |\n");
            args.iter().for_each(|arg| page.push_str(&row(arg)));
        }
    }
    below.into_iter().for_each(|command| describe(command, &path, page));
}

/// What every command has, and which fleet is meant: said once, in the introduction.
fn is_of_all(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "json" | "help" | "version" | "admin_url" | "admin_token_file")
}

fn usage(command: &Command, path: &str) -> String {
    let arguments = command.get_arguments().filter(|arg| !is_of_all(arg));
    let (named, plain): (Vec<&Arg>, Vec<&Arg>) = arguments.partition(|arg| arg.get_long().is_some());
    let mut usage = path.to_owned();
    for arg in plain {
        let name = value_name(arg);
        usage.push_str(&if arg.is_required_set() { format!(" {name}") } else { format!(" [{name}]") });
    }
    for arg in named.iter().filter(|arg| arg.is_required_set()) {
        usage.push_str(&format!(" --{} {}", arg.get_long().unwrap_or_default(), value_name(arg)));
    }
    if named.iter().any(|arg| !arg.is_required_set()) {
        usage.push_str(" [options]");
    }
    usage
}

fn value_name(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<&str> = names.iter().map(clap::builder::Str::as_str).collect();
    if names.is_empty() { arg.get_id().as_str().to_uppercase() } else { names.join(" ") }
}

fn row(arg: &Arg) -> String {
    let takes_value = arg.get_action().takes_values();
    let name = match (arg.get_long(), takes_value) {
        (Some(long), true) => format!("`--{long} {}`", value_name(arg)),
        (Some(long), false) => format!("`--{long}`"),
        (None, _) => format!("`{}`", value_name(arg)),
    };
    let variable = arg.get_env().map_or_else(String::new, |name| format!("`{}`", name.to_string_lossy()));
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default =
        if takes_value && !defaults.is_empty() { format!("`{}`", defaults.join(" ")) } else { String::new() };
    let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
    format!("| {} | {variable} | {default} | {} |\n", cell(&name), cell(&meaning))
}

/// Fit for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace('<', "\\<")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_in_the_page_and_in_the_help() {
        let (page, help) = (page(), exit_codes());
        for exit in Exit::ALL {
            assert!(page.contains(&format!("| {} | {} |", exit.number(), exit.meaning())));
            assert!(help.contains(exit.meaning()));
        }
        let mut codes = crate::app::definition().find_subcommand("exit-codes").unwrap().clone();
        assert!(codes.render_long_help().to_string().contains(Exit::Unreachable.meaning()));
    }

    #[test]
    fn commands_below_others_are_named_in_full() {
        let page = page();
        for heading in
            ["### longshore install\n", "### longshore token create\n", "### longshore tenant purge\n"]
        {
            assert!(page.contains(heading), "{heading}");
        }
        assert!(page.contains("longshore tenant purge TENANT --confirm TENANT"));
        assert!(!page.contains("### longshore child"));
    }
}
