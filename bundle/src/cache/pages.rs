//! Which folder of an unpacked bundle is served to browsers.

use std::path::{Component, Path, PathBuf};

use longshore_proto::manifest::Manifest;

/// The page that makes a folder a UI root.
pub(super) const INDEX: &str = "index.html";

/// The pages of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// The folder whose files may be served. Never one that holds the component: its code is nobody's page.
    pub root: PathBuf,
    /// The first page, relative to the root: the manifest's `ui.entry`, else `index.html`.
    pub entry: String,
}

/// The folder of the manifest's `ui.entry`, else `ui/`, else `ui/dist/`, whichever has `index.html`. `ui` is where `ui/**` was
/// unpacked, `bundle` where all else is.
pub(super) fn find(
    manifest: Option<&Manifest>,
    bundle: &Path,
    ui: &Path,
    component: Option<&Path>,
) -> Option<Pages> {
    let named = manifest.and_then(|manifest| manifest.ui.as_ref()).and_then(|named| split(&named.entry));
    if let Some((folder, file)) = named {
        let root = match folder.strip_prefix("ui") {
            Ok(rest) => join(ui, rest),
            // At the archive's root `manifest.json`, component and all would be pages.
            Err(_) if folder.as_os_str().is_empty() => None,
            Err(_) => join(bundle, &folder),
        };
        let root = root.filter(|root| root.join(INDEX).is_file());
        if let Some(root) = root.filter(|root| component.is_none_or(|component| !component.starts_with(root)))
        {
            let entry = if root.join(&file).is_file() { file } else { INDEX.to_owned() };
            return Some(Pages { root, entry });
        }
    }
    [ui.to_owned(), ui.join("dist")]
        .into_iter()
        .filter(|root| component.is_none_or(|component| !component.starts_with(root)))
        .find(|root| root.join(INDEX).is_file())
        .map(|root| Pages { root, entry: INDEX.to_owned() })
}

/// Folder and file of a relative path inside the bundle.
fn split(entry: &str) -> Option<(PathBuf, String)> {
    let entry = entry.strip_prefix("./").unwrap_or(entry);
    let (folder, file) = entry.rsplit_once('/').unwrap_or(("", entry));
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']);
    (plain(file) && (folder.is_empty() || folder.split('/').all(plain)))
        .then(|| (PathBuf::from(folder), file.to_owned()))
}

fn join(root: &Path, rest: &Path) -> Option<PathBuf> {
    rest.components()
        .all(|part| matches!(part, Component::Normal(_)))
        .then(|| if rest.as_os_str().is_empty() { root.to_owned() } else { root.join(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unpacks names as the cache does, and says what is served: root relative to the entry's folder, and entry.
    fn served(entry: Option<&str>, component: Option<&str>, files: &[&str]) -> Option<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let (bundle, ui) = (dir.path().join("bundle"), dir.path().join("ui"));
        let place = |name: &str| match name.strip_prefix("ui/") {
            Some(rest) => ui.join(rest),
            None => bundle.join(name),
        };
        for name in files {
            std::fs::create_dir_all(place(name).parent().unwrap()).unwrap();
            std::fs::write(place(name), name).unwrap();
        }
        let manifest = entry.map(|entry| {
            let json = serde_json::json!({"name": "a.b", "version": "1.0.0", "ui": {"type": "iframe", "entry": entry}});
            Manifest::parse(json.to_string().as_bytes()).unwrap()
        });
        let component = component.map(place);
        let pages = find(manifest.as_ref(), &bundle, &ui, component.as_deref())?;
        let root = pages.root.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
        Some((root, pages.entry))
    }

    fn some(root: &str, entry: &str) -> Option<(String, String)> {
        Some((root.to_owned(), entry.to_owned()))
    }

    #[test]
    fn the_entrys_folder_goes_before_ui_and_ui_before_its_dist() {
        let all = ["ui/index.html", "ui/dist/index.html", "ui/dist/app.html", "web/index.html"];
        assert_eq!(served(None, None, &all), some("ui", "index.html"));
        assert_eq!(served(Some("ui/index.html"), None, &all), some("ui", "index.html"));
        assert_eq!(served(Some("./ui/dist/index.html"), None, &all), some("ui/dist", "index.html"));
        assert_eq!(served(Some("ui/dist/app.html"), None, &all), some("ui/dist", "app.html"));
        assert_eq!(served(Some("web/index.html"), None, &all), some("bundle/web", "index.html"));
        assert_eq!(served(None, None, &["ui/dist/index.html", "ui/x.js"]), some("ui/dist", "index.html"));
    }

    #[test]
    fn an_entry_whose_folder_has_no_index_is_passed_over() {
        assert_eq!(served(Some("web/index.html"), None, &["ui/index.html"]), some("ui", "index.html"));
        assert_eq!(served(Some("web/index.html"), None, &["dist/main.wasm"]), None);
        assert_eq!(served(None, None, &["ui/app.js"]), None);
    }

    #[test]
    fn neither_the_whole_bundle_nor_the_components_folder_is_ever_served() {
        let files = ["index.html", "dist/index.html", "dist/main.wasm"];
        assert_eq!(served(Some("index.html"), Some("dist/main.wasm"), &files), None);
        assert_eq!(served(Some("dist/index.html"), Some("dist/main.wasm"), &files), None);
        assert_eq!(served(None, Some("ui/main.wasm"), &["ui/index.html", "ui/main.wasm"]), None);
    }

    #[test]
    fn an_entry_that_leaves_the_bundle_names_no_folder() {
        for entry in
            ["../x/index.html", "ui/../../index.html", "/etc/index.html", "ui//index.html", ".git/index.html"]
        {
            assert_eq!(served(Some(entry), None, &["ui/index.html"]), some("ui", "index.html"), "{entry}");
        }
    }
}
