//! `longshore show --files`: what is in a bundle, which `tar` without zstd cannot list.

use std::path::Path;
use std::process::ExitCode;

use longshore_bundle::ArchiveLimits;
use longshore_bundle::archive::{Skipped, content_hash};
use longshore_bundle::author::{Entry, list};
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Table, bytes, printable};

/// Runs `longshore show --files BUNDLE`.
///
/// # Errors
/// The file cannot be read, or is no bundle.
pub fn run(bundle: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let limits = ArchiveLimits::default();
    let archive = read(bundle, &limits)?;
    let (entries, report) = list(archive.as_slice(), &limits).map_err(|error| {
        let message = format!("{} is no bundle: {}", bundle.display(), longshore_bundle::chain(&error));
        Failure::invalid("bundle_invalid", message)
    })?;
    let hash = content_hash(&archive);
    let document = json!({
        "bundle": bundle.display().to_string(),
        "content_hash": format!("sha256:{}", hash.hex()),
        "bytes": archive.len(),
        "entries": entries,
        "skipped": { "hidden": report.hidden, "links": report.links },
    });
    output.result(&document, || {
        let mut table = Table::new(["bytes", "path", ""]);
        for entry in &entries {
            table.row([size(entry), printable(&entry.path), skipped(entry).to_owned()]);
        }
        let skipped = report.hidden.saturating_add(report.links);
        format!(
            "{table}\n{} files, {} packed, sha256:{}{}",
            report.files,
            bytes(archive.len() as u64),
            hash.hex(),
            if skipped > 0 { format!("\n{skipped} entries are never unpacked") } else { String::new() },
        )
    });
    Ok(Exit::Ok.into())
}

/// A bundle's bytes; one above the limit is not read to its end.
pub(crate) fn read(bundle: &Path, limits: &ArchiveLimits) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let told = |error: std::io::Error| {
        let message = format!("{} cannot be read: {error}", bundle.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => Failure::not_found("no_such_file", message),
            _ => Failure::new(Exit::Failed, "failed", message),
        }
    };
    let mut archive = Vec::new();
    let file = std::fs::File::open(bundle).map_err(told)?;
    file.take(limits.archive_bytes.saturating_add(1)).read_to_end(&mut archive).map_err(told)?;
    Ok(archive)
}

fn size(entry: &Entry) -> String {
    if entry.path.ends_with('/') { String::new() } else { entry.bytes.to_string() }
}

fn skipped(entry: &Entry) -> &'static str {
    match entry.skipped {
        None => "",
        Some(Skipped::Hidden) => "skipped: hidden",
        Some(Skipped::Link) => "skipped: a link",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_listed_and_what_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.tar.zst");
        std::fs::write(&path, longshore_bundle::archive::pack_files([("ui/a", b"x".to_vec())], 1).unwrap())
            .unwrap();
        assert!(run(&path, &Output::new(true)).is_ok());
        std::fs::write(&path, "text").unwrap();
        assert_eq!(run(&path, &Output::new(true)).unwrap_err().exit, Exit::Invalid);
        assert_eq!(run(&dir.path().join("none"), &Output::new(true)).unwrap_err().exit, Exit::NotFound);
    }
}
