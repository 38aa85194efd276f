//! Which files of a project go into its bundle, and under which names.
//!
//! | in the bundle | from the project |
//! | --- | --- |
//! | `manifest.json` | the same |
//! | `dist/main.wasm`, or the manifest's `entry` | the same; where there is none, `dist/component.wasm`, as the existing SDK's projects build it |
//! | `dist/component.json`, `SIGNATURE`, `sbom.spdx.json` | the same |
//! | `ui/` | `ui/dist/` or `dist/ui/`, whichever has an `index.html`, else `ui/` |
//! | `artifacts/`, `precompiled/`, `wit/` | the same |
//! | what the manifest lists as `assets`, `sbom`, `precompiled` | the same |
//!
//! Nothing else: no sources, no `node_modules`, no `target`. Hidden files and links are left out, and it is said which.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use longshore_proto::manifest::{DEFAULT_ENTRY, Manifest};
use serde::Serialize;

use crate::archive::{ArchiveError, ArchiveLimits, check_name};

/// Files at the top that are packed if they are there.
const FILES: [&str; 3] = ["dist/component.json", "SIGNATURE", "sbom.spdx.json"];
/// Folders that are packed if they are there.
const FOLDERS: [&str; 3] = ["artifacts", "precompiled", "wit"];
/// Where pages are built, the nearest to the finished ones first.
const PAGES: [&str; 3] = ["ui/dist", "dist/ui", "ui"];
/// Folders of tools, never meant to be in a bundle, wherever they are.
const TOOLS: [&str; 2] = ["node_modules", "target"];
/// As the existing SDK's projects call their component.
const SDK_COMPONENT: &str = "dist/component.wasm";
/// Left out entries that are named; more are counted.
const MAX_NAMED: usize = 200;

/// Something of the project's packed folders that is not packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its path in the project.
    pub path: String,
    /// Why.
    pub why: Why,
}

/// Why something is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its name starts with a dot.
    Hidden,
    /// A symbolic link: what it leads to may be anywhere.
    Link,
    /// A device, fifo or socket.
    Special,
    /// A tool's folder: `node_modules`, `target`.
    Tool,
}

impl Why {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Link => "a link",
            Self::Special => "neither file nor folder",
            Self::Tool => "a tool's folder",
        }
    }
}

/// Why a project's files cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A file or folder could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A name that is not UTF-8.
    #[error("the name {} is not UTF-8, as names in a bundle must be", .0.display())]
    Utf8(PathBuf),
    /// A name or number that no archive may have.
    #[error(transparent)]
    Refused(#[from] ArchiveError),
}

/// What goes into the bundle.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// Name in the bundle -> file in the project; sorted, which is the archive's order.
    pub files: BTreeMap<String, PathBuf>,
    pub left_out: Vec<LeftOut>,
    /// How many more were left out than are named.
    pub more_left_out: usize,
    /// Paths that the manifest lists and that are not there.
    pub missing: Vec<String>,
}

/// The name that a file of the pages has in the bundle.
pub(super) fn as_staged(path: &str) -> String {
    match ["ui/dist/", "dist/ui/"].iter().find_map(|built| path.strip_prefix(built)) {
        Some(rest) => format!("ui/{rest}"),
        None => path.to_owned(),
    }
}

/// Finds them. `listed` are the files that the manifest names.
pub(super) fn stage(
    project: &Path,
    manifest: &Manifest,
    listed: &[String],
    limits: &ArchiveLimits,
) -> Result<Staged, StageError> {
    let mut stage = Stage { project, limits, staged: Staged::default(), entries: 0 };
    stage.file("manifest.json", "manifest.json")?;
    let entry = manifest.entry();
    if !stage.file(entry, entry)? && entry == DEFAULT_ENTRY {
        stage.file(SDK_COMPONENT, entry)?;
    }
    for file in FILES {
        stage.file(file, file)?;
    }
    for folder in FOLDERS {
        stage.folder(folder, folder)?;
    }
    if let Some(pages) = PAGES.iter().find(|folder| is_file(&project.join(folder).join("index.html"))) {
        stage.folder(pages, "ui")?;
    } else if let Some(ui) = &manifest.ui {
        // Pages with an entry of another name, where that is.
        let entry = ui.entry.strip_prefix("./").unwrap_or(&ui.entry);
        let folder = PAGES.iter().find(|folder| entry.starts_with(&format!("{folder}/"))).unwrap_or(&"ui");
        stage.folder(folder, "ui")?;
    }
    for path in listed {
        let within = path.split('/').any(|segment| TOOLS.contains(&segment));
        if (within || !stage.file(path, path)?) && !stage.staged.files.contains_key(path) {
            stage.staged.missing.push(path.clone());
        }
    }
    Ok(stage.staged)
}

fn is_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

struct Stage<'a> {
    project: &'a Path,
    limits: &'a ArchiveLimits,
    staged: Staged,
    entries: u32,
}

impl Stage<'_> {
    /// One file, if it is there. No part of its path may be a link.
    fn file(&mut self, from: &str, to: &str) -> Result<bool, StageError> {
        let mut path = self.project.to_owned();
        let last = from.split('/').count().saturating_sub(1);
        for (i, segment) in from.split('/').enumerate() {
            path.push(segment);
            let Some(metadata) = metadata(&path)? else { return Ok(false) };
            if metadata.is_symlink() {
                let part: Vec<&str> = from.split('/').take(i.saturating_add(1)).collect();
                self.leave_out(part.join("/"), Why::Link);
                return Ok(false);
            }
            if i < last && !metadata.is_dir() || i == last && !metadata.is_file() {
                return Ok(false);
            }
        }
        self.add(to.to_owned(), path)?;
        Ok(true)
    }

    /// A folder with all that is in it, if it is there.
    fn folder(&mut self, from: &str, to: &str) -> Result<(), StageError> {
        let mut path = self.project.to_owned();
        for segment in from.split('/') {
            path.push(segment);
            let Some(metadata) = metadata(&path)? else { return Ok(()) };
            if metadata.is_symlink() {
                self.leave_out(from.to_owned(), Why::Link);
                return Ok(());
            }
            if !metadata.is_dir() {
                return Ok(());
            }
        }
        // Not recursive: a project's depth must not be this program's stack. A name below the limit on depth ends it.
        let mut open = vec![(path, from.to_owned(), to.to_owned())];
        while let Some((path, from, to)) = open.pop() {
            for entry in std::fs::read_dir(&path).map_err(|source| read(&path, source))? {
                let entry = entry.map_err(|source| read(&path, source))?;
                let path = entry.path();
                let Ok(name) = entry.file_name().into_string() else { return Err(StageError::Utf8(path)) };
                let kind = entry.file_type().map_err(|source| read(&path, source))?;
                let (from, to) = (format!("{from}/{name}"), format!("{to}/{name}"));
                self.count()?;
                let why = if name.starts_with('.') {
                    Some(Why::Hidden)
                } else if kind.is_symlink() {
                    Some(Why::Link)
                } else if kind.is_dir() {
                    TOOLS.contains(&name.as_str()).then_some(Why::Tool)
                } else {
                    (!kind.is_file()).then_some(Why::Special)
                };
                if let Some(why) = why {
                    self.leave_out(from, why);
                } else if kind.is_dir() {
                    check_name(to.as_bytes(), self.limits)?;
                    open.push((path, from, to));
                } else {
                    self.add(to, path)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, path: PathBuf) -> Result<(), StageError> {
        check_name(name.as_bytes(), self.limits)?;
        self.staged.files.insert(name, path);
        Ok(())
    }

    fn count(&mut self) -> Result<(), StageError> {
        self.entries = self.entries.saturating_add(1);
        if self.entries > self.limits.entries {
            return Err(ArchiveError::TooManyEntries { limit: self.limits.entries }.into());
        }
        Ok(())
    }

    fn leave_out(&mut self, path: String, why: Why) {
        if self.staged.left_out.len() < MAX_NAMED {
            self.staged.left_out.push(LeftOut { path, why });
        } else {
            self.staged.more_left_out = self.staged.more_left_out.saturating_add(1);
        }
    }
}

fn read(path: &Path, source: io::Error) -> StageError {
    StageError::Read { path: path.to_owned(), source }
}

/// Of the path itself, not of what it leads to; `None` where nothing is.
fn metadata(path: &Path) -> Result<Option<std::fs::Metadata>, StageError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(read(path, source)),
    }
}
