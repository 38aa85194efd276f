//! The committed reference page is the one that the code makes.

use std::path::Path;

#[test]
fn the_committed_configuration_page_is_what_the_structs_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == longshore_cli::config_docs::page(),
        "docs/configuration.md differs from the configuration structs: run `make docs`"
    );
}
