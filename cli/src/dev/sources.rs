//! The files of a project that somebody edits: watched, without what is built or installed beside them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// An editor writes a file in several steps, and a formatter after it: this long nothing more has come.
const QUIET: Duration = Duration::from_millis(100);
/// A stream of writes is not waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// Folders that are made by tools. Hidden ones are left out too.
const MADE: [&str; 4] = ["dist", "target", "node_modules", "build"];
/// More folders than this is not a project.
const MAX_DIRS: usize = 4_096;
/// More files than this is not one either.
const MAX_FILES: usize = 50_000;

/// Files that were saved, relative to the project.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeSet<PathBuf>);

impl Changes {
    /// One of them.
    pub(super) fn first(&self) -> Option<&Path> {
        self.0.first().map(PathBuf::as_path)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// When a file was written, and how long it is.
type Stamp = (Option<SystemTime>, u64);

/// A watched project.
pub(super) struct Sources {
    dir: PathBuf,
    watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<notify::Result<notify::Event>>,
    /// As of the last look.
    known: BTreeMap<PathBuf, Stamp>,
    /// Written by the build each time, although nobody edits them.
    outputs: HashSet<PathBuf>,
    /// What changed during the build before.
    during_last: HashSet<PathBuf>,
}

impl Sources {
    /// Begins to watch.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.canonicalize().with_context(|| format!("cannot watch {}", dir.display()))?;
        anyhow::ensure!(
            dir.join("manifest.json").is_file(),
            "{} has no manifest.json: it is no extension's project",
            dir.display()
        );
        let (sender, events) = mpsc::unbounded_channel();
        // The sender fails only once nobody listens any more.
        let watcher = notify::recommended_watcher(move |event| drop(sender.send(event)));
        let mut watcher = watcher.context("files cannot be watched here")?;
        watch_below(&mut watcher, &dir, &dir)?;
        let known = look(&dir)?;
        let (outputs, during_last) = (HashSet::new(), HashSet::new());
        Ok(Self { dir, watcher, events, known, outputs, during_last })
    }

    /// Where.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What has been saved up to now is built now.
    pub(super) fn build_begins(&mut self) {
        while self.events.try_recv().is_ok() {}
        if let Ok(now) = look(&self.dir) {
            self.known = now;
        }
    }

    /// What a build writes twice in a row is its own: it would start itself for ever. What somebody saves meanwhile counts.
    pub(super) fn build_ends(&mut self) {
        let Ok(now) = look(&self.dir) else { return };
        let during: HashSet<PathBuf> = changed(&self.known, &now).into_iter().collect();
        for path in during.intersection(&self.during_last) {
            self.outputs.insert(path.clone());
        }
        for path in &self.outputs {
            match now.get(path) {
                Some(stamp) => drop(self.known.insert(path.clone(), *stamp)),
                None => drop(self.known.remove(path)),
            }
        }
        self.during_last = during;
    }

    /// Waits until something was saved, and then until that is over.
    pub(super) async fn next(&mut self) -> anyhow::Result<Changes> {
        loop {
            // Also what was saved during the build, whose events may be gone.
            let now = look(&self.dir)?;
            let new: BTreeSet<PathBuf> =
                changed(&self.known, &now).into_iter().filter(|path| !self.outputs.contains(path)).collect();
            self.known = now;
            if !new.is_empty() {
                return Ok(Changes(new));
            }
            self.wait().await?;
        }
    }

    /// Waits for an event and the quiet after it.
    async fn wait(&mut self) -> anyhow::Result<()> {
        loop {
            let event = self.events.recv().await.context("files are not watched any more")?;
            if self.counts(event)? {
                break;
            }
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let quiet = (tokio::time::Instant::now() + QUIET).min(deadline);
            match tokio::time::timeout_at(quiet, self.events.recv()).await {
                Ok(Some(event)) if tokio::time::Instant::now() < deadline => drop(self.counts(event)?),
                _ => return Ok(()),
            }
        }
    }

    fn counts(&mut self, event: notify::Result<notify::Event>) -> anyhow::Result<bool> {
        let event = event.context("files are not watched any more")?;
        // Reading is no change; builds and editors read all the time.
        if matches!(event.kind, EventKind::Access(_)) {
            return Ok(false);
        }
        let mut counts = event.need_rescan();
        for path in &event.paths {
            let Ok(inside) = path.strip_prefix(&self.dir) else { continue };
            if inside.components().all(|part| is_source(&part.as_os_str().to_string_lossy())) {
                counts = true;
                if path.is_dir() {
                    watch_below(&mut self.watcher, &self.dir, path)?;
                }
            }
        }
        Ok(counts)
    }
}

/// Whether a file or folder of this name is edited by people.
fn is_source(name: &str) -> bool {
    // Editors' own: `x~`, `4913` of vim is gone before it is looked at.
    !name.starts_with('.') && !name.ends_with('~') && !MADE.contains(&name)
}

/// Watches a folder and those below it, one by one: a watch of everything would also hold the tens of thousands of folders that packages bring.
fn watch_below(watcher: &mut RecommendedWatcher, root: &Path, dir: &Path) -> anyhow::Result<()> {
    let mut left = vec![dir.to_owned()];
    let mut seen = 0;
    while let Some(dir) = left.pop() {
        seen += 1;
        anyhow::ensure!(seen <= MAX_DIRS, "{} has more than {MAX_DIRS} folders", root.display());
        match watcher.watch(&dir, RecursiveMode::NonRecursive) {
            Ok(()) => {}
            // Gone meanwhile.
            Err(_) if dir != root && !dir.exists() => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot watch {}", dir.display())),
        }
        for (path, kind) in entries(&dir) {
            if kind.is_dir() {
                left.push(path);
            }
        }
    }
    Ok(())
}

/// The sources in a folder. One that is gone meanwhile has none.
fn entries(dir: &Path) -> Vec<(PathBuf, std::fs::FileType)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| is_source(&entry.file_name().to_string_lossy()))
        .filter_map(|entry| Some((entry.path(), entry.file_type().ok()?)))
        .collect()
}

/// Every source with its stamp, relative to the project.
fn look(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, Stamp>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for (path, kind) in entries(&dir) {
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file()
                && let (Ok(meta), Ok(inside)) = (path.metadata(), path.strip_prefix(root))
            {
                anyhow::ensure!(
                    found.len() < MAX_FILES,
                    "{} has more than {MAX_FILES} files",
                    root.display()
                );
                found.insert(inside.to_owned(), (meta.modified().ok(), meta.len()));
            }
        }
    }
    Ok(found)
}

fn changed(before: &BTreeMap<PathBuf, Stamp>, now: &BTreeMap<PathBuf, Stamp>) -> Vec<PathBuf> {
    let differs = |path: &&PathBuf| before.get(*path) != now.get(*path);
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    now.keys().filter(differs).chain(gone).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events come within milliseconds; this is for a machine that does something else.
    const LIMIT: Duration = Duration::from_secs(30);

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["src", "dist", "node_modules/x", ".git"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("manifest.json"), "{}").unwrap();
        std::fs::write(dir.path().join("src/a.ts"), "1").unwrap();
        dir
    }

    async fn next(sources: &mut Sources) -> Vec<String> {
        let changes = tokio::time::timeout(LIMIT, sources.next()).await.unwrap().unwrap();
        changes.0.iter().map(|path| path.display().to_string()).collect()
    }

    #[tokio::test]
    async fn a_save_is_seen_and_what_tools_write_is_not() {
        let dir = project();
        let mut sources = Sources::open(dir.path()).unwrap();
        for made in ["dist/main.wasm", "node_modules/x/y.js", ".git/index", "src/a.ts~"] {
            std::fs::write(dir.path().join(made), "made").unwrap();
        }
        std::fs::write(dir.path().join("src/a.ts"), "22").unwrap();
        assert_eq!(next(&mut sources).await, ["src/a.ts"]);
    }

    #[tokio::test]
    async fn a_file_in_a_new_folder_is_seen_and_so_is_one_that_goes() {
        let dir = project();
        let mut sources = Sources::open(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("src/new/deep")).unwrap();
        std::fs::write(dir.path().join("src/new/deep/b.ts"), "1").unwrap();
        assert_eq!(next(&mut sources).await, ["src/new/deep/b.ts"]);
        std::fs::remove_file(dir.path().join("src/a.ts")).unwrap();
        assert_eq!(next(&mut sources).await, ["src/a.ts"]);
    }

    #[tokio::test]
    async fn what_is_saved_during_a_build_is_built_next() {
        let dir = project();
        let mut sources = Sources::open(dir.path()).unwrap();
        sources.build_begins();
        std::fs::write(dir.path().join("src/a.ts"), "during").unwrap();
        sources.build_ends();
        assert_eq!(next(&mut sources).await, ["src/a.ts"]);
    }

    #[tokio::test]
    async fn a_build_that_writes_among_the_sources_does_not_start_itself_for_ever() {
        let dir = project();
        let mut sources = Sources::open(dir.path()).unwrap();
        let build = |sources: &mut Sources, content: &str| {
            sources.build_begins();
            std::fs::write(dir.path().join("src/made.ts"), content).unwrap();
            sources.build_ends();
        };
        build(&mut sources, "1");
        // Once it might have been somebody's save.
        assert_eq!(next(&mut sources).await, ["src/made.ts"]);
        build(&mut sources, "22");
        std::fs::write(dir.path().join("src/a.ts"), "saved").unwrap();
        assert_eq!(next(&mut sources).await, ["src/a.ts"]);
    }

    #[test]
    fn a_folder_without_a_manifest_is_no_project() {
        let dir = tempfile::tempdir().unwrap();
        let error = Sources::open(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("no manifest.json"), "{error}");
        assert!(Sources::open(&dir.path().join("none")).is_err());
    }
}
