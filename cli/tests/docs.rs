//! The documentation is true where a machine can tell: metrics, links, targets of make, names of settings.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gateway_shim::dispatch::DispatchMetrics;
use gateway_shim::http::HttpMetrics;
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_service::nats::NatsMetrics;
use longshore_worker::debug::DebugMetrics;
use longshore_worker::metrics::{CacheMetrics, WorkerMetrics};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page that a reader is led to.
fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.extend(["README.md", "tests/README.md"].map(|page| root().join(page)));
    pages
}

/// The longest pieces of a text that consist of such characters.
fn words(text: &str, belongs: impl Fn(char) -> bool) -> BTreeSet<&str> {
    text.split(|c: char| !belongs(c)).filter(|word| !word.is_empty()).collect()
}

#[test]
fn operating_lists_exactly_the_metrics_that_the_programs_have() {
    let (shim, worker) = (Metrics::new("shim"), Metrics::new("worker"));
    for metrics in [&shim, &worker] {
        Tasks::new().register(metrics);
        NatsMetrics::register(metrics);
    }
    DispatchMetrics::register(&shim);
    HttpMetrics::register(&shim);
    WorkerMetrics::register(&worker);
    CacheMetrics::register(&worker);
    DebugMetrics::register(&worker);
    let registered: BTreeSet<String> =
        [shim, worker].iter().flat_map(|m| m.documented()).map(|(name, _)| name).collect();
    let page = read("docs/operating.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `longshore_"));
    let documented: BTreeSet<String> =
        rows.map(|row| format!("longshore_{}", row.split('`').next().unwrap())).collect();
    assert_eq!(documented, registered, "left: docs/operating.md, right: the programs");
}

/// The anchors of a page, as the usual renderers make them from headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ';
    let anchor =
        |title: &str| title.to_lowercase().chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-");
    page.lines().filter(|l| l.starts_with('#')).map(|l| anchor(l.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !anchor.is_empty() {
                assert!(
                    anchors(&read(&target)).contains(anchor),
                    "{}: no heading for {link}",
                    page.display()
                );
            }
        }
    }
}

#[test]
fn every_target_of_make_that_is_named_exists() {
    let makefile = read("Makefile");
    for page in pages() {
        let text = read(&page);
        let named = text.split("`make ").skip(1).chain(text.split("\nmake ").skip(1));
        for rest in named {
            let target = rest.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next().unwrap();
            assert!(makefile.contains(&format!("\n{target}:")), "{}: make {target}", page.display());
        }
    }
}

#[test]
fn every_variable_that_is_named_can_be_set() {
    let known = [
        "docs/configuration.md",
        ".env.runner.example",
        "Makefile",
        "deploy/nats.conf",
        "cli/src/dev/options.rs",
        "tests/tests/protocol/main.rs",
    ]
    .map(read)
    .join("\n");
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    for page in pages() {
        for name in words(&read(&page), is_name) {
            let variable =
                name.contains('_') && name.len() > 5 && !name.starts_with('_') && !name.ends_with('_');
            assert!(
                !variable || known.contains(name) || NOT_OURS.contains(&name),
                "{}: {name}",
                page.display()
            );
        }
    }
}

/// Names in capitals that are no settings of ours.
const NOT_OURS: [&str; 1] = ["HASH_MISMATCH"];
