//! The committed reference pages are those that the code makes.

use std::path::Path;

fn committed(page: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page))
        .unwrap_or_default()
}

#[test]
fn the_committed_configuration_page_is_what_the_structs_say() {
    assert!(
        committed("configuration.md") == longshore_cli::config_docs::page(),
        "docs/configuration.md differs from the configuration structs: run `make docs`"
    );
}

#[test]
fn the_committed_page_of_commands_is_what_the_declarations_say() {
    assert!(
        committed("cli.md") == longshore_cli::cli_docs::page(),
        "docs/cli.md differs from the declared commands: run `make docs`"
    );
}
