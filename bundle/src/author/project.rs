//! From a project's folder to a bundle: staged, checked, packed, and read back as a worker would.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use longshore_proto::ContentHash;
use longshore_proto::extension_ids::ExtensionIds;
use longshore_proto::manifest::Manifest;

use super::component::{self, Component};
use super::contents::{Entry, check_parts, list};
use super::manifest::{self, FILE};
use super::problem::{Problem, Severity, any_error};
use super::stage::{LeftOut, StageError, Staged, stage};
use crate::archive::{ArchiveLimits, PACK_LEVEL, PackError, UnpackError, content_hash, pack_each};

/// How to pack.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    /// zstd's level, 1 to 22. Default [`PACK_LEVEL`].
    pub level: i32,
    /// What workers take. Default: their defaults.
    pub limits: ArchiveLimits,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { level: PACK_LEVEL, limits: ArchiveLimits::default() }
    }
}

/// A bundle, fit to be installed.
#[derive(Debug)]
pub struct Packed {
    /// The archive.
    pub archive: Vec<u8>,
    /// Its hash, by which it is called.
    pub hash: ContentHash,
    /// The manifest, its capabilities under today's names.
    pub manifest: Manifest,
    /// `manifest.json` as it is packed.
    pub manifest_json: Vec<u8>,
    /// The extension's ids.
    pub ids: ExtensionIds,
    /// The component, if there is one.
    pub component: Option<Component>,
    /// Entries of the archive.
    pub entries: Vec<Entry>,
    /// Warnings and notes.
    pub problems: Vec<Problem>,
    /// What of the packed folders is not in it.
    pub left_out: Vec<LeftOut>,
    /// How many more were left out than `left_out` names.
    pub more_left_out: usize,
}

/// Why a project was not packed.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// It has mistakes: all of them, warnings and notes too.
    #[error("{}", summary(problems))]
    Problems {
        /// What was found.
        problems: Vec<Problem>,
    },
    /// There is no `manifest.json`.
    #[error("{} has no manifest.json: it is no extension's project", .0.display())]
    NoManifest(PathBuf),
    /// Its files cannot be found.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// It cannot be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// It was packed, and workers would not take it.
    #[error("the packed bundle would be refused by workers")]
    Refused(#[source] UnpackError),
}

fn summary(problems: &[Problem]) -> String {
    let errors: Vec<String> =
        problems.iter().filter(|p| p.severity == Severity::Error).map(ToString::to_string).collect();
    errors.join("\n")
}

/// Packs the project in `dir`. The same files give the same bytes, on every machine. Blocking: seconds at level 19 for a large component.
///
/// # Errors
/// The project has mistakes, or a file cannot be read.
pub fn pack_project(dir: &Path, options: &PackOptions) -> Result<Packed, ProjectError> {
    let manifest_path = dir.join(FILE);
    let manifest_json = match content(&manifest_path, manifest::MAX_BYTES as u64) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ProjectError::NoManifest(dir.to_owned()));
        }
        Err(source) => return Err(PackError::Read { path: manifest_path, source }.into()),
    };
    let checked = manifest::check(&manifest_json);
    let mut problems = checked.problems;
    let Some(manifest) = checked.manifest else { return Err(ProjectError::Problems { problems }) };

    let staged = stage(dir, &manifest, &checked.files, &options.limits)?;
    for path in &staged.missing {
        let message = "is listed in the manifest and is not there";
        problems.push(Problem::of_file(Severity::Error, path.clone(), message));
    }
    let component = check_staged(&manifest, &staged, &mut problems)?;
    if any_error(&problems) {
        return Err(ProjectError::Problems { problems });
    }

    let budget = options.limits.unpacked_bytes;
    let files = staged.files.iter().map(|(name, path)| {
        // The manifest that was checked, whatever happens to the file meanwhile.
        if name == FILE {
            return Ok((name.clone(), manifest_json.clone()));
        }
        let bytes = content(path, budget).map_err(|source| PackError::Read { path: path.clone(), source })?;
        Ok((name.clone(), bytes))
    });
    let archive = pack_each(files, options.level)?;
    // As a worker reads it: sizes, names, ratio.
    let (entries, _) = list(archive.as_slice(), &options.limits).map_err(ProjectError::Refused)?;
    Ok(Packed {
        hash: content_hash(&archive),
        archive,
        ids: ExtensionIds::of(&manifest),
        manifest,
        manifest_json,
        component,
        entries,
        problems,
        left_out: staged.left_out,
        more_left_out: staged.more_left_out,
    })
}

fn check_staged(
    manifest: &Manifest,
    staged: &Staged,
    problems: &mut Vec<Problem>,
) -> Result<Option<Component>, ProjectError> {
    let wasm = match staged.files.get(manifest.entry()) {
        Some(path) => {
            let limit = component::MAX_BYTES.saturating_add(1);
            let read = content(path, limit).map_err(|source| PackError::Read { path: path.clone(), source });
            Some(read?)
        }
        None => None,
    };
    Ok(check_parts(manifest, wasm.as_deref(), |path| staged.files.contains_key(path), problems))
}

/// A regular file, to one byte above the limit, so that whoever checks sees that it is over.
fn content(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::stage::Why;
    use super::*;

    const UI: &str = r#"{"name":"a.b","publisher":"P","version":"1.0.0","runtime":"wasm-js@1","ui":{"type":"iframe","entry":"ui/index.html"}}"#;
    const API: &str = r#"{"name":"a.b","publisher":"P","version":"1.0.0","runtime":"wasm-js@1",
        "api":{"endpoints":[{"method":"GET","path":"/x","handler":"dist/main"}]}}"#;

    fn guest(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../tests/guests/built/{name}.wasm", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn project(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    fn pack(dir: &Path) -> Result<Packed, ProjectError> {
        pack_project(dir, &PackOptions { level: 3, ..PackOptions::default() })
    }

    fn names(packed: &Packed) -> Vec<&str> {
        packed.entries.iter().map(|e| e.path.as_str()).filter(|path| !path.ends_with('/')).collect()
    }

    #[test]
    fn the_bytes_of_a_bundle_are_pinned() {
        let dir = project(&[
            ("manifest.json", UI.as_bytes()),
            ("ui/index.html", b"<!doctype html>"),
            ("ui/app.js", b"console.log(1)\n"),
        ]);
        let golden = [
            (3, "8ec1b9bacf8d04734287a89cd4ae1ebf26f12d198bce9fa3de9248dc0884ec26"),
            (19, "40fa75ba9e93f757fd854e62c88e1330c91a180edc3b5a783bd027e458b75002"),
        ];
        for (level, expected) in golden {
            let packed = pack_project(dir.path(), &PackOptions { level, ..PackOptions::default() }).unwrap();
            // If this changes, every bundle that somebody packs again has another hash: say so in the release notes.
            assert_eq!(packed.hash.hex(), expected, "level {level}");
        }
    }

    #[test]
    fn a_project_gives_the_same_bytes_whatever_lies_beside_it_and_whoever_owns_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let files: [(&str, &[u8]); 3] = [
            ("manifest.json", API.as_bytes()),
            ("dist/main.wasm", &guest("echo")),
            ("wit/world.wit", b"package a:b;"),
        ];
        let (one, two) = (project(&files), project(&files));
        for name in
            ["src/index.ts", "node_modules/x/y.js", "target/x", "dist/other.js", "README.md", "ui/readme.txt"]
        {
            let path = two.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let component = two.path().join("dist/main.wasm");
        std::fs::set_permissions(&component, std::fs::Permissions::from_mode(0o755)).unwrap();
        let touched = File::options().append(true).open(&component).unwrap();
        touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let (one, two) = (pack(one.path()).unwrap(), pack(two.path()).unwrap());
        assert_eq!(one.archive, two.archive);
        assert_eq!(names(&one), ["dist/main.wasm", "manifest.json", "wit/world.wit"]);
    }

    #[test]
    fn built_pages_are_staged_as_the_pages() {
        let sources: (&str, &[u8]) = ("ui/src/app.ts", b"source");
        for built in ["ui/dist", "dist/ui"] {
            let index = format!("{built}/index.html");
            let dir = project(&[
                ("manifest.json", UI.as_bytes()),
                (&index, b"built"),
                ("ui/index.html", b"raw"),
                sources,
            ]);
            let packed = pack(dir.path()).unwrap();
            assert_eq!(names(&packed), ["manifest.json", "ui/index.html"], "{built}");
            assert_eq!(packed.entries.last().unwrap().bytes, 5, "{built}: the built one");
        }
        for entry in ["ui/dist/index.html", "dist/ui/index.html"] {
            let json = UI.replace("ui/index.html", entry);
            let dir = project(&[("manifest.json", json.as_bytes()), (entry, b"built")]);
            assert_eq!(names(&pack(dir.path()).unwrap()), ["manifest.json", "ui/index.html"]);
        }
    }

    #[test]
    fn a_component_named_as_the_existing_sdk_names_it_is_taken() {
        let dir = project(&[("manifest.json", API.as_bytes()), ("dist/component.wasm", &guest("echo"))]);
        assert_eq!(names(&pack(dir.path()).unwrap()), ["dist/main.wasm", "manifest.json"]);
    }

    #[test]
    fn hidden_files_links_and_tools_are_left_out_and_named() {
        let dir = project(&[
            ("manifest.json", UI.as_bytes()),
            ("ui/index.html", b"x"),
            ("ui/.DS_Store", b"x"),
            ("ui/node_modules/y/z.js", b"x"),
        ]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("ui/passwd.txt")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("wit")).unwrap();
        let packed = pack(dir.path()).unwrap();
        assert_eq!(names(&packed), ["manifest.json", "ui/index.html"]);
        let mut left: Vec<_> = packed.left_out.iter().map(|l| (l.path.as_str(), l.why)).collect();
        left.sort_by_key(|(path, _)| *path);
        let expected = [
            ("ui/.DS_Store", Why::Hidden),
            ("ui/node_modules", Why::Tool),
            ("ui/passwd.txt", Why::Link),
            ("wit", Why::Link),
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn a_component_or_manifest_behind_a_link_is_not_packed() {
        let elsewhere = project(&[("main.wasm", &guest("echo")), ("manifest.json", API.as_bytes())]);
        let dir = project(&[("manifest.json", API.as_bytes())]);
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("dist")).unwrap();
        let error = pack(dir.path()).unwrap_err().to_string();
        assert!(error.contains("dist/main.wasm: is missing"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("manifest.json"), dir.path().join("manifest.json"))
            .unwrap();
        assert!(matches!(pack(dir.path()), Err(ProjectError::Pack(PackError::Read { .. }))));
    }

    #[test]
    fn names_and_depths_that_no_worker_takes_are_refused_before_packing() {
        for name in ["ui/a\\b.js", "ui/a\nb.js"] {
            let dir = project(&[("manifest.json", UI.as_bytes()), ("ui/index.html", b"x"), (name, b"x")]);
            assert!(matches!(pack(dir.path()), Err(ProjectError::Stage(StageError::Refused(_)))), "{name:?}");
        }
        let deep = format!("ui/{}x.js", "d/".repeat(40));
        let dir = project(&[("manifest.json", UI.as_bytes()), ("ui/index.html", b"x"), (&deep, b"x")]);
        assert!(pack(dir.path()).unwrap_err().to_string().contains("deeper than"));
        let dir = project(&[("manifest.json", UI.as_bytes()), ("ui/index.html", b"x")]);
        let name = std::os::unix::ffi::OsStringExt::from_vec(b"ui/\xff".to_vec());
        std::fs::write(dir.path().join::<std::ffi::OsString>(name), b"x").unwrap();
        assert!(matches!(pack(dir.path()), Err(ProjectError::Stage(StageError::Utf8(_)))));
    }

    #[test]
    fn sizes_and_counts_that_no_worker_takes_are_refused() {
        let big = vec![7u8; 100_000];
        let dir = project(&[("manifest.json", UI.as_bytes()), ("ui/index.html", b"x"), ("ui/big", &big)]);
        let with = |limits| pack_project(dir.path(), &PackOptions { level: 3, limits });
        let bytes = ArchiveLimits { unpacked_bytes: 50_000, ..ArchiveLimits::default() };
        assert!(matches!(with(bytes), Err(ProjectError::Refused(_))));
        let entries = ArchiveLimits { entries: 1, ..ArchiveLimits::default() };
        assert!(matches!(with(entries), Err(ProjectError::Stage(StageError::Refused(_)))));
        let ratio = ArchiveLimits { ratio: 2, ratio_from: 1_000, ..ArchiveLimits::default() };
        assert!(matches!(with(ratio), Err(ProjectError::Refused(_))));
    }

    #[test]
    fn a_component_is_needed_only_where_there_are_endpoints() {
        let dir = project(&[("manifest.json", API.as_bytes())]);
        assert!(pack(dir.path()).unwrap_err().to_string().contains("longshore build"));
        let dir = project(&[("manifest.json", UI.as_bytes()), ("ui/index.html", b"x")]);
        assert!(pack(dir.path()).unwrap().component.is_none());
    }

    #[test]
    fn what_a_manifest_lists_is_packed_or_missed() {
        let json =
            UI.replace(r#""version""#, r#""assets":["media/logo.png"],"sbom":"docs/sbom.json","version""#);
        let files: [(&str, &[u8]); 4] = [
            ("manifest.json", json.as_bytes()),
            ("ui/index.html", b"x"),
            ("media/logo.png", b"x"),
            ("docs/sbom.json", b"{}"),
        ];
        let packed = pack(project(&files).path()).unwrap();
        assert_eq!(names(&packed), ["docs/sbom.json", "manifest.json", "media/logo.png", "ui/index.html"]);
        let error = pack(project(&files[..3]).path()).unwrap_err().to_string();
        assert_eq!(error, "docs/sbom.json: is listed in the manifest and is not there");
    }

    #[test]
    fn a_folder_that_is_no_project_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(pack(dir.path()), Err(ProjectError::NoManifest(_))));
        assert!(matches!(pack(&dir.path().join("nowhere")), Err(ProjectError::NoManifest(_))));
    }

    #[test]
    fn the_examples_that_are_built_pack_and_are_reviewed_alike() {
        for name in ["hello-rust", "http-rust", "config-rust", "billing-ts", "wasi-http-python"] {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
            if !dir.join("dist/main.wasm").is_file() {
                continue;
            }
            let packed = pack_project(&dir, &PackOptions { level: 1, ..PackOptions::default() }).unwrap();
            let warned = packed.problems.iter().filter(|p| p.severity != Severity::Note).count();
            assert_eq!(warned, 0, "{name}: {:?}", packed.problems);
            let reviewed = super::super::review(&packed.archive, &ArchiveLimits::default()).unwrap();
            assert_eq!((reviewed.manifest, reviewed.component), (Some(packed.manifest), packed.component));
        }
    }
}
