//! `docs/configuration.md`: every setting, from the structs that read them.

use std::collections::HashSet;

use clap::{Arg, Args as _, Command};
use gateway_shim::config::ShimConfig;
use longshore_service::config::{Group, Settings as _, markdown};
use longshore_worker::config::WorkerConfig;

use crate::dev::DevArgs;

/// What cannot be said in a table: the rules, and where a variable of the existing platform means something else here.
const INTRODUCTION: &str = include_str!("config_docs.md");

/// The page.
pub fn page() -> String {
    let (worker, shim) = (WorkerConfig::groups(), ShimConfig::groups());
    let has = |groups: &[Group], title: &str| groups.iter().any(|group| group.title == title);
    let (shared, worker_only): (Vec<_>, Vec<_>) =
        worker.into_iter().partition(|group| has(&shim, group.title));
    let shim_only: Vec<_> = shim.into_iter().filter(|group| !has(&shared, group.title)).collect();
    let mut page = INTRODUCTION.to_owned();
    for (title, groups) in
        [("Worker (`worker`)", worker_only), ("Gateway (`gateway-shim`)", shim_only), ("Both", shared)]
    {
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
