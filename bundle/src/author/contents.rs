//! What an archive holds: a list of it, and the checks of a packed bundle.

use std::io;

use longshore_proto::CapabilitySet;
use longshore_proto::manifest::{DEFAULT_ENTRY, Manifest};
use serde::Serialize;

use super::component::{self, Component};
use super::manifest::{self, FILE};
use super::problem::{Problem, Severity, any_error};
use crate::archive::{ArchiveLimits, Report, Sink, Skipped, UnpackError, walk};

/// Why an archive could not be looked at.
pub type ContentsError = UnpackError;

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its path, with `/` at the end for a folder.
    pub path: String,
    /// Bytes of a file.
    pub bytes: u64,
    /// Why it is not unpacked, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skipped>,
}

/// A bundle that was looked at.
#[derive(Debug, Clone)]
pub struct Reviewed {
    /// Its manifest; `None` where a problem is an error.
    pub manifest: Option<Manifest>,
    /// Its `manifest.json`, byte for byte; empty where it has none.
    pub manifest_json: Vec<u8>,
    /// Its component, if it has one that can be called.
    pub component: Option<Component>,
    /// What was found.
    pub problems: Vec<Problem>,
    /// Its entries, in the archive's order.
    pub entries: Vec<Entry>,
    /// Counts of them.
    pub report: Report,
}

impl Reviewed {
    /// Whether something forbids to install it.
    pub fn has_errors(&self) -> bool {
        any_error(&self.problems)
    }
}

/// Lists an archive, whatever is in it. Blocking.
///
/// # Errors
/// The archive breaks a rule, or cannot be read.
pub fn list(reader: impl io::Read, limits: &ArchiveLimits) -> Result<(Vec<Entry>, Report), ContentsError> {
    let (entries, [], report) = read(reader, limits, [])?;
    Ok((entries, report))
}

/// One file of an archive, if it is there and has at most `most` bytes. Blocking.
///
/// # Errors
/// The archive breaks a rule, or cannot be read.
pub fn file(
    archive: &[u8],
    limits: &ArchiveLimits,
    path: &str,
    most: u64,
) -> Result<Option<Vec<u8>>, ContentsError> {
    let (_, [content], _) = read(archive, limits, [(path, most)])?;
    Ok(content.filter(|content| content.len() as u64 <= most))
}

/// Looks at a whole bundle as [`super::pack_project`] does at a project: manifest, component, pages. Blocking; up to some hundred milliseconds for
/// a large component.
///
/// # Errors
/// The archive breaks a rule. A bad manifest or component is no error but a problem in the result.
pub fn review(archive: &[u8], limits: &ArchiveLimits) -> Result<Reviewed, ContentsError> {
    // The component is nearly always where it is by default: then one pass over the archive is enough.
    let wanted = [(FILE, manifest::MAX_BYTES as u64), (DEFAULT_ENTRY, component::MAX_BYTES)];
    let (entries, [manifest_json, default_wasm], report) = read(archive, limits, wanted)?;
    let mut problems = Vec::new();
    let mut component = None;
    let mut checked = None;
    match &manifest_json {
        None => problems.push(Problem::of_file(Severity::Error, FILE, "is missing at the top of the bundle")),
        Some(json) => {
            let found = manifest::check(json);
            problems.extend(found.problems);
            checked = found.manifest;
        }
    }
    if let Some(manifest) = &checked {
        let entry = manifest.entry();
        let wasm = if entry == DEFAULT_ENTRY {
            default_wasm
        } else if entries.iter().any(|e| e.path == entry && e.skipped.is_none()) {
            let (_, [wasm], _) = read(archive, limits, [(entry, component::MAX_BYTES)])?;
            wasm
        } else {
            None
        };
        let has_file = |path: &str| entries.iter().any(|e| e.path == path && e.skipped.is_none());
        component = check_parts(manifest, wasm.as_deref(), has_file, &mut problems);
    }
    Ok(Reviewed {
        manifest: checked.filter(|_| !any_error(&problems)),
        manifest_json: manifest_json.unwrap_or_default(),
        component,
        problems,
        entries,
        report,
    })
}

/// What manifest, component and pages must say to each other, in a project and in a bundle.
pub(super) fn check_parts(
    manifest: &Manifest,
    wasm: Option<&[u8]>,
    has_file: impl Fn(&str) -> bool,
    problems: &mut Vec<Problem>,
) -> Option<Component> {
    let endpoints = manifest.api.as_ref().map_or(0, |api| api.endpoints.len());
    let component = match wasm {
        Some(wasm) => {
            // Checked before: every one is known.
            let declared = CapabilitySet::parse(&manifest.capabilities).unwrap_or_default();
            let (component, found) = component::inspect(manifest.entry(), wasm, declared);
            problems.extend(found);
            component
        }
        None if endpoints > 0 => {
            let message = format!(
                "is missing, and the manifest has {endpoints} endpoint{}: build the component first (`longshore build`)",
                if endpoints == 1 { "" } else { "s" }
            );
            problems.push(Problem::of_file(Severity::Error, manifest.entry(), message));
            None
        }
        None => None,
    };
    if let Some(ui) = &manifest.ui {
        let entry = ui.entry.strip_prefix("./").unwrap_or(&ui.entry);
        let served = super::stage::as_staged(entry);
        if !has_file(entry) && !has_file(&served) {
            let message = "is the manifest's `ui.entry`, and is not there: build the pages first";
            problems.push(Problem::of_file(Severity::Error, entry, message));
        } else {
            let folder = served.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            let roots =
                [format!("{folder}index.html"), "ui/index.html".to_owned(), "ui/dist/index.html".to_owned()];
            if !roots.iter().any(|index| has_file(index)) {
                let message =
                    "has no `index.html` beside it, nor has `ui/`: pages are served from a folder with one";
                problems.push(Problem::of_file(Severity::Error, entry, message));
            }
        }
    } else if wasm.is_none() && endpoints == 0 {
        let message = "describes neither pages (`ui`) nor endpoints (`api.endpoints`), and there is no component: nothing could be called";
        problems.push(Problem::of_file(Severity::Error, FILE, message));
    }
    component
}

/// Entries, the wanted files' contents, counts.
type Read<const N: usize> = (Vec<Entry>, [Option<Vec<u8>>; N], Report);

/// One pass: the list, and the contents of wanted files that are there, each to one byte more than is wanted of it.
fn read<const N: usize>(
    reader: impl io::Read,
    limits: &ArchiveLimits,
    wanted: [(&str, u64); N],
) -> Result<Read<N>, ContentsError> {
    let wanted = wanted.map(|(path, limit)| Wanted { path, limit, content: Shared::default() });
    let mut listing = Listing { entries: Vec::new(), wanted: &wanted };
    let report = walk(io::BufReader::with_capacity(128 << 10, reader), limits, &mut listing)?;
    let content = wanted.each_ref().map(|wanted| wanted.content.borrow_mut().take());
    let mut entries = listing.entries;
    for entry in &mut entries {
        entry.bytes = entry.counted.get();
    }
    Ok((entries.into_iter().map(Counted::into_entry).collect(), content, report))
}

type Shared<T> = std::rc::Rc<std::cell::RefCell<T>>;

struct Counted {
    path: String,
    bytes: u64,
    counted: std::rc::Rc<std::cell::Cell<u64>>,
    skipped: Option<Skipped>,
}

impl Counted {
    fn new(path: String, skipped: Option<Skipped>) -> Self {
        Self { path, bytes: 0, counted: std::rc::Rc::default(), skipped }
    }

    fn into_entry(self) -> Entry {
        Entry { path: self.path, bytes: self.bytes, skipped: self.skipped }
    }
}

struct Listing<'a> {
    entries: Vec<Counted>,
    wanted: &'a [Wanted<'a>],
}

struct Wanted<'a> {
    path: &'a str,
    limit: u64,
    content: Shared<Option<Vec<u8>>>,
}

/// Counts, and keeps what is wanted. What is larger than wanted is kept to one byte more, so that its check sees that.
struct Writer {
    counted: std::rc::Rc<std::cell::Cell<u64>>,
    keep: Option<(Shared<Option<Vec<u8>>>, u64)>,
}

impl io::Write for Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.counted.set(self.counted.get().saturating_add(buf.len() as u64));
        if let Some((content, limit)) = &self.keep {
            let mut content = content.borrow_mut();
            let content = content.get_or_insert_default();
            let room = limit.saturating_add(1).saturating_sub(content.len() as u64);
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(buf.len());
            content.extend_from_slice(buf.get(..take).unwrap_or_default());
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Listing<'_> {
    type File = Writer;

    fn folder(&mut self, path: &str) -> io::Result<()> {
        self.entries.push(Counted::new(format!("{path}/"), None));
        Ok(())
    }

    fn file(&mut self, path: &str) -> io::Result<Self::File> {
        let entry = Counted::new(path.to_owned(), None);
        let counted = std::rc::Rc::clone(&entry.counted);
        self.entries.push(entry);
        let keep = self.wanted.iter().find(|wanted| wanted.path == path).map(|wanted| {
            *wanted.content.borrow_mut() = Some(Vec::new());
            (std::rc::Rc::clone(&wanted.content), wanted.limit)
        });
        Ok(Writer { counted, keep })
    }

    fn skipped(&mut self, path: &str, why: Skipped) {
        self.entries.push(Counted::new(path.to_owned(), Some(why)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::pack_files;

    const UI: &str = r#"{"name":"a.b","publisher":"P","version":"1.0.0","runtime":"wasm-js@1","ui":{"type":"iframe","entry":"ui/index.html"}}"#;

    fn guest(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../tests/guests/built/{name}.wasm", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn reviewed(files: Vec<(&str, Vec<u8>)>) -> Reviewed {
        review(&pack_files(files, 3).unwrap(), &ArchiveLimits::default()).unwrap()
    }

    fn errors(files: Vec<(&str, Vec<u8>)>) -> String {
        let reviewed = reviewed(files);
        assert!(reviewed.manifest.is_none() && reviewed.has_errors());
        let errors = reviewed.problems.iter().filter(|p| p.severity == Severity::Error);
        errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_bundle_of_pages_alone_is_a_bundle() {
        let reviewed =
            reviewed(vec![("manifest.json", UI.into()), ("ui/index.html", b"<!doctype html>".into())]);
        assert_eq!(reviewed.manifest.unwrap().name, "a.b");
        assert_eq!(reviewed.manifest_json, UI.as_bytes());
        assert!(reviewed.component.is_none());
        let listed: Vec<_> = reviewed.entries.iter().map(|e| (e.path.as_str(), e.bytes)).collect();
        assert_eq!(listed, [("manifest.json", UI.len() as u64), ("ui/", 0), ("ui/index.html", 15)]);
    }

    #[test]
    fn what_the_parts_of_a_bundle_do_not_say_to_each_other_is_an_error() {
        assert!(errors(vec![("ui/index.html", b"x".into())]).contains("manifest.json: is missing"));
        assert!(
            errors(vec![("manifest.json", UI.into())])
                .contains("ui/index.html: is the manifest's `ui.entry`")
        );
        let other = UI.replace("ui/index.html", "ui/app.html");
        let files = vec![("manifest.json", other.into_bytes()), ("ui/app.html", b"x".into())];
        assert!(errors(files).contains("no `index.html`"));
        let api = r#"{"name":"a.b","version":"1.0.0","api":{"endpoints":[{"method":"GET","path":"/x","handler":"h"}]}}"#;
        assert!(
            errors(vec![("manifest.json", api.into())])
                .contains("dist/main.wasm: is missing, and the manifest has 1 endpoint:")
        );
        let files = vec![("manifest.json", api.into()), ("dist/main.wasm", guest("no-handler"))];
        assert!(errors(files).contains("exports neither"));
        let nothing = r#"{"name":"a.b","version":"1.0.0"}"#;
        assert!(errors(vec![("manifest.json", nothing.into())]).contains("neither pages"));
    }

    #[test]
    fn the_component_is_found_where_the_manifest_says_and_before_the_manifest() {
        let json = r#"{"name":"a.b","version":"1.0.0","entry":"a/x.wasm"}"#;
        let echo = guest("echo");
        let reviewed = reviewed(vec![("manifest.json", json.into()), ("a/x.wasm", echo.clone())]);
        assert_eq!(reviewed.component.unwrap().bytes, echo.len() as u64);
    }

    #[test]
    fn a_huge_manifest_is_not_read_into_memory() {
        let huge = vec![b' '; manifest::MAX_BYTES * 3];
        assert!(errors(vec![("manifest.json", huge)]).contains("are allowed"));
        let archive = pack_files([("a", b"12345".to_vec())], 1).unwrap();
        let of = |path, most| file(&archive, &ArchiveLimits::default(), path, most).unwrap();
        assert_eq!(of("a", 5).as_deref(), Some(&b"12345"[..]));
        assert_eq!((of("a", 4), of("b", 5)), (None, None));
    }

    #[test]
    fn skipped_entries_are_listed_with_the_reason() {
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        tar.append_data(&mut header.clone(), "ui/.DS_Store", &b"x"[..]).unwrap();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut header, "ui/link", "/etc/passwd").unwrap();
        let archive = tar.into_inner().unwrap().finish().unwrap();
        let (entries, report) = list(archive.as_slice(), &ArchiveLimits::default()).unwrap();
        let listed: Vec<_> = entries.iter().map(|e| (e.path.as_str(), e.skipped)).collect();
        assert_eq!(listed, [("ui/.DS_Store", Some(Skipped::Hidden)), ("ui/link", Some(Skipped::Link))]);
        assert_eq!((report.hidden, report.links), (1, 1));
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        assert!(review(b"no archive", &ArchiveLimits::default()).is_err());
        let limits = ArchiveLimits { entries: 1, ..ArchiveLimits::default() };
        let archive = pack_files([("a", b"1".to_vec()), ("b", b"2".to_vec())], 1).unwrap();
        assert!(list(archive.as_slice(), &limits).is_err());
    }
}
