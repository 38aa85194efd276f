//! The documentation is true where a machine can tell: metrics, limits, links, targets of make, names of settings.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gateway_shim::dispatch::DispatchMetrics;
use gateway_shim::dispatch::machine::MachineConfig;
use gateway_shim::gateway::GatewayMetrics;
use gateway_shim::http::HttpMetrics;
use gateway_shim::schedules::ScheduleMetrics;
use gateway_shim::ui::UiMetrics;
use longshore_access::AccessMetrics;
use longshore_bundle::ArchiveLimits;
use longshore_proto::limits;
use longshore_registry::RegistryMetrics;
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_service::nats::NatsMetrics;
use longshore_worker::admit::table::TableConfig;
use longshore_worker::debug::{DebugMetrics, TraceMetrics};
use longshore_worker::engine::config::EngineConfig;
use longshore_worker::engine::runtime::TABLE_ELEMENTS;
use longshore_worker::execute::ExecutorConfig;
use longshore_worker::host::backends::HostMetrics;
use longshore_worker::metrics::{CacheMetrics, EgressMetrics, WorkerMetrics};

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
    let (shim, worker, admin) = (Metrics::new("shim"), Metrics::new("worker"), Metrics::new("admin"));
    for metrics in [&shim, &worker, &admin] {
        Tasks::new().register(metrics);
        NatsMetrics::register(metrics);
    }
    DispatchMetrics::register(&shim);
    HttpMetrics::register(&shim);
    GatewayMetrics::register(&shim);
    UiMetrics::register(&shim);
    AccessMetrics::register(&shim);
    RegistryMetrics::register(&shim);
    longshore_admin::register_metrics(&admin);
    ScheduleMetrics::register(&shim);
    WorkerMetrics::register(&worker);
    CacheMetrics::register(&worker);
    HostMetrics::register(&worker);
    EgressMetrics::register(&worker);
    DebugMetrics::register(&worker);
    TraceMetrics::register(&worker);
    let registered: BTreeSet<String> =
        [shim, worker, admin].iter().flat_map(|m| m.documented()).map(|(name, _)| name).collect();
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
        "cli/src/fleet/call.rs",
        "cli/src/fleet/place.rs",
        "cli/src/signing/sign.rs",
        "tests/tests/protocol/main.rs",
        "tests/tests/e2e/replay.rs",
        // What guests find in their environment.
        "worker/src/host/wasi.rs",
        "worker/tests/capabilities/behaviour.rs",
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
const NOT_OURS: [&str; 2] = ["HASH_MISMATCH", "KEY_ID"];

/// `1024` is `1,024`.
fn shown(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
    groups.join(",")
}

fn mib(bytes: impl TryInto<u64>) -> String {
    let bytes = bytes.try_into().unwrap_or(0);
    assert!(bytes > 0 && bytes % (1 << 20) == 0, "{bytes} bytes are no MiB");
    format!("{} MiB", shown(bytes >> 20))
}

#[test]
fn the_limits_in_the_pages_are_those_of_the_code() {
    let run = ExecutorConfig::new(EngineConfig::new("/cache"));
    let (table, machine, archive) =
        (TableConfig::default(), MachineConfig::default(), ArchiveLimits::default());
    let body = mib(limits::MAX_BODY_BYTES);
    assert_eq!(
        run.maxima.response_bytes,
        limits::MAX_BODY_BYTES,
        "the pages name one limit for both directions"
    );
    let (waiting, in_all) = (machine.max_waiting_per_extension, machine.max_waiting as u64);
    let (time, memory) = (limits::DEFAULT_TIMEOUT_MS, limits::DEFAULT_MEMORY_MB);
    let (most_time, most_memory) = (limits::MAX_TIMEOUT_MS, limits::MAX_MEMORY_MB);
    let architecture = [
        format!("| wall time | {} s, at most {} s |", time / 1_000, most_time / 1_000),
        format!("| memory | {memory} MiB, at most {} |", shown(most_memory)),
        format!("| table elements | {} a table |", shown(TABLE_ELEMENTS as u64)),
        format!("| host calls | {} |", shown(run.maxima.host_calls)),
        format!("| outbound requests | {} |", run.maxima.outbound_requests),
        format!(
            "| log, stdout, stderr | {} and {} lines together, {} KiB a line |",
            mib(run.maxima.log_bytes),
            shown(run.maxima.log_lines),
            run.line_bytes >> 10
        ),
        format!("| answer | {body} of body, {} KiB of headers |", limits::MAX_HEADER_BYTES >> 10),
        format!("| component | {} |", mib(run.engine.component_bytes)),
        format!("| Body, decoded | {body} |"),
        format!("of a tenant | {waiting}; {}; a quarter |", shown(in_all)),
        format!(
            "at a worker | {}; {}; ",
            shown(table.max_entries as u64),
            mib(table.max_answer_bytes as u64)
        ),
        format!("archive bytes ({})", mib(archive.archive_bytes)),
        format!("entries ({})", shown(u64::from(archive.entries))),
        format!("compression ratio ({})", archive.ratio),
    ];
    let writing = [
        format!("`limits.timeout_ms` ({} by default, {} at most)", shown(time), shown(most_time)),
        format!("`limits.memory_mb` ({memory}, {})", shown(most_memory)),
        format!("{} host calls", shown(run.maxima.host_calls)),
        format!("and a run sends {}.", run.maxima.outbound_requests),
        format!("At most {} packed", mib(archive.archive_bytes)),
    ];
    for (page, claims) in
        [("docs/architecture.md", &architecture[..]), ("docs/writing-extensions.md", &writing)]
    {
        // Lines end anywhere.
        let text = read(page).split_whitespace().collect::<Vec<_>>().join(" ");
        for claim in claims {
            assert!(text.contains(claim.as_str()), "{page} does not say: {claim}");
        }
    }
}
