//! `docs/configuration.md`: every setting, from the structs that read them.

use std::collections::HashSet;

use clap::{Arg, Args as _, Command};
use gateway_shim::config::ShimConfig;
use longshore_admin::config::AdminConfig;
use longshore_service::config::{Group, Settings as _, markdown};
use longshore_worker::config::WorkerConfig;

use crate::dev::DevArgs;

/// What cannot be said in a table: the rules, and where a variable of the existing platform means something else here.
const INTRODUCTION: &str = include_str!("config_docs.md");

/// The page.
pub fn page() -> String {
    let programs = [
        ("Worker (`worker`)", WorkerConfig::groups()),
        ("Gateway (`gateway-shim`)", ShimConfig::groups()),
        ("Admin service (`longshore-admin`)", AdminConfig::groups()),
    ];
    let knowing = |title: &str| {
        programs.iter().filter(|(_, groups)| groups.iter().any(|group| group.title == title)).count()
    };
    let (mut sections, mut shared, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (title, groups) in &programs {
        let (own, common): (Vec<&Group>, Vec<&Group>) =
            groups.iter().partition(|group| knowing(group.title) == 1);
        sections.push((*title, own.into_iter().copied().collect::<Vec<_>>()));
        shared.extend(common.into_iter().filter(|group| seen.insert(group.title)).copied());
    }
    sections.push(("Several programs", shared));
    let mut page = INTRODUCTION.to_owned();
    for (title, groups) in sections {
        page.push_str(&format!("\n## {title}\n\n"));
        // One level down, below the heading of the program. An empty list is no code.
        let tables = markdown(&groups).replace("## ", "### ").replace("| `` |", "| empty |");
        page.push_str(tables.trim_end());
        page.push('\n');
    }
    page.push_str("\n## Development (`longshore dev`)\n\n");
    page.push_str(&dev_table());
    page
}

/// The options of `longshore dev`, from their declaration.
fn dev_table() -> String {
    let mut table = String::from("| Variable | Flag | Default | Meaning |\n| --- | --- | --- | --- |\n");
    let command = DevArgs::augment_args(Command::new("dev"));
    let mut seen = HashSet::new();
    for arg in command.get_arguments().filter(|arg| seen.insert(arg.get_id().clone())) {
        table.push_str(&dev_row(arg));
    }
    table
}

fn dev_row(arg: &Arg) -> String {
    let code = |text: &str| format!("`{text}`");
    let variable = arg.get_env().map_or_else(String::new, |name| code(&name.to_string_lossy()));
    let flag = arg.get_long().map_or_else(String::new, |name| code(&format!("--{name}")));
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match defaults.as_slice() {
        _ if arg.get_action().takes_values() && !defaults.is_empty() => code(&defaults.join(" ")),
        _ => "unset".to_owned(),
    };
    let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
    format!("| {variable} | {flag} | {default} | {} |\n", meaning.replace('|', "\\|"))
}
