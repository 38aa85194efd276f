//! The manifest that a signature's identity is compared with, straight from an archive.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use longshore_proto::manifest::Manifest;

use crate::archive::{ArchiveLimits, Sink, UnpackError, walk};
use crate::cache::MANIFEST_BYTES;

/// Keeps `manifest.json` and throws the rest away.
#[derive(Default)]
struct Wanted(Rc<RefCell<Option<Vec<u8>>>>);

enum Part {
    Manifest(Rc<RefCell<Option<Vec<u8>>>>),
    Other,
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Self::Manifest(text) = self {
            let mut text = text.borrow_mut();
            let text = text.get_or_insert_default();
            // One byte over the limit is kept, to know of it.
            let room = (MANIFEST_BYTES as usize + 1).saturating_sub(text.len());
            text.extend(bytes.iter().take(room));
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Wanted {
    type File = Part;
    fn folder(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn file(&mut self, path: &str) -> io::Result<Part> {
        Ok(if path == "manifest.json" { Part::Manifest(Rc::clone(&self.0)) } else { Part::Other })
    }
}

/// The manifest of an archive as a worker will see it: None where there is none, or one that cannot be read. The whole
/// archive is walked, so that nobody signs what will be refused. Blocking.
///
/// # Errors
/// The archive breaks a rule or a limit, or cannot be read.
pub fn manifest_of(archive: impl Read, limits: &ArchiveLimits) -> Result<Option<Manifest>, UnpackError> {
    let mut wanted = Wanted::default();
    walk(archive, limits, &mut wanted)?;
    let text = wanted.0.take().filter(|text| text.len() as u64 <= MANIFEST_BYTES);
    Ok(text.and_then(|text| Manifest::parse(&text).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::pack_files;

    fn found(manifest: &str) -> Option<String> {
        let files = [("dist/main.wasm", "wasm"), ("manifest.json", manifest), ("ui/manifest.json", "{}")];
        let archive = pack_files(files, 3).unwrap();
        manifest_of(&*archive, &ArchiveLimits::default()).unwrap().map(|manifest| manifest.name)
    }

    #[test]
    fn the_manifest_at_the_root_is_found_and_one_that_cannot_be_read_is_none() {
        assert_eq!(found(r#"{"name":"a.b","version":"1.0.0"}"#).as_deref(), Some("a.b"));
        assert_eq!(found("{"), None);
        let padded = format!(r#"{{"name":"a.b","version":"1.0.0"}}{}"#, " ".repeat(1 << 20));
        assert_eq!(found(&padded), None, "as a worker sees it");
        let without = pack_files([("dist/main.wasm", "wasm")], 3).unwrap();
        assert_eq!(manifest_of(&*without, &ArchiveLimits::default()).unwrap(), None);
    }

    #[test]
    fn an_archive_that_a_worker_would_refuse_is_refused() {
        assert!(manifest_of(&b"garbage"[..], &ArchiveLimits::default()).is_err());
    }
}
