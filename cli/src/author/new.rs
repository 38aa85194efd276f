//! `longshore new`: the smallest project that builds, packs and answers, in one of three kinds. The files are those of the examples, so that what
//! a new author gets is what the tests run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Arguments of `longshore new`.
#[derive(clap::Args, Clone, Debug)]
pub struct NewArgs {
    /// The extension's name: `com.example.reports`, or `reports` for short
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it is written in; `ui` is pages alone
    #[arg(long, value_enum)]
    pub lang: Lang,
    /// Where; unset: a folder called as the last part of NAME
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Who makes it; part of the extension's ids
    #[arg(long, value_name = "NAME", default_value = "Example")]
    pub publisher: String,
}

/// Kinds of projects.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    /// TypeScript, with tests and pages
    Ts,
    /// Rust, with pages
    Rust,
    /// Pages without a component
    Ui,
}

macro_rules! example {
    ($path:literal) => {
        include_str!(concat!("../../../examples/", $path))
    };
}

/// The interface that components are made against.
const WIT: &str = include_str!("../../../proto/wit/extension-runner.wit");

/// Path in the project, and content.
type File = (&'static str, &'static str);

const TS: &[File] = &[
    ("manifest.json", example!("hello-js/manifest.json")),
    ("package.json", example!("hello-js/package.json")),
    ("package-lock.json", example!("hello-js/package-lock.json")),
    ("tsconfig.json", example!("hello-js/tsconfig.json")),
    ("src/index.ts", example!("hello-js/src/index.ts")),
    ("src/handler.ts", example!("hello-js/src/handler.ts")),
    ("src/handler.test.ts", example!("hello-js/src/handler.test.ts")),
    ("ui/index.html", example!("hello-js/ui/index.html")),
    (".gitignore", example!("hello-js/.gitignore")),
    ("wit/extension-runner.wit", WIT),
    ("README.md", include_str!("templates/ts.md")),
];
const RUST: &[File] = &[
    ("manifest.json", example!("hello-rust/manifest.json")),
    ("Cargo.toml", example!("hello-rust/Cargo.toml")),
    ("src/lib.rs", example!("hello-rust/src/lib.rs")),
    ("ui/index.html", example!("hello-rust/ui/index.html")),
    (".gitignore", "/dist\n/target\n"),
    ("wit/extension-runner.wit", WIT),
    ("README.md", include_str!("templates/rust.md")),
];
const UI: &[File] = &[
    ("manifest.json", example!("hello-ui/manifest.json")),
    ("ui/index.html", example!("hello-ui/ui/index.html")),
    ("ui/app.js", example!("hello-ui/ui/app.js")),
    ("ui/style.css", example!("hello-ui/ui/style.css")),
    (".gitignore", example!("hello-ui/.gitignore")),
    ("README.md", include_str!("templates/ui.md")),
];

impl Lang {
    /// Its files, and the words in them that are the example's own.
    fn template(self) -> (&'static [File], &'static str) {
        match self {
            Self::Ts => (TS, "hello-js"),
            Self::Rust => (RUST, "hello-rust"),
            Self::Ui => (UI, "hello-ui"),
        }
    }

    fn next(self) -> &'static str {
        match self {
            Self::Ts => "npm ci && longshore build && longshore call --bundle . --path /hello",
            Self::Rust => {
                "rustup target add wasm32-unknown-unknown && longshore build && longshore call --bundle . --path /hello"
            }
            Self::Ui => "longshore pack",
        }
    }
}

/// Runs `longshore new`.
///
/// # Errors
/// The name is none, or the folder has files already.
pub fn run(args: &NewArgs, output: &Output) -> Result<ExitCode, Failure> {
    let (name, short) = names(&args.name)?;
    let publisher = args.publisher.trim();
    let plain = |c: char| c.is_alphanumeric() || " ._-".contains(c);
    if publisher.is_empty() || publisher.len() > 100 || !publisher.chars().all(plain) {
        return Err(Failure::usage("--publisher expects up to 100 letters, digits, blanks and . _ -"));
    }
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(&short));
    let told = || format!("cannot make {}", dir.display());
    if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) || dir.is_file() {
        let message = format!("{} is there already, and not empty", dir.display());
        return Err(Failure::new(Exit::Failed, "exists", message).hint("name another folder: --dir DIR"));
    }
    let (files, own) = args.lang.template();
    for (path, content) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&dir)).with_context(told)?;
        std::fs::write(&path, filled(content, own, &name, &short, publisher)).with_context(told)?;
    }
    let next = args.lang.next();
    let document = json!({ "dir": dir.display().to_string(), "name": name, "publisher": publisher, "files": files.iter().map(|(path, _)| *path).collect::<Vec<_>>() });
    output.result(&document, || {
        format!("{name} is in {}. Next:\n\n  cd {} && {next}", dir.display(), shell(&dir))
    });
    Ok(Exit::Ok.into())
}

/// The full name and its last part.
fn names(given: &str) -> Result<(String, String), Failure> {
    let segment = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_lowercase())
            && !s.ends_with('-')
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if given.len() > 100 || !given.split('.').all(segment) {
        return Err(Failure::usage(format!("{given:?} is no name of an extension"))
            .hint("small letters, digits and `-`, in parts joined by dots: com.example.reports"));
    }
    let short = given.rsplit('.').next().unwrap_or(given).to_owned();
    let name = if given.contains('.') { given.to_owned() } else { format!("com.example.{given}") };
    Ok((name, short))
}

fn filled(content: &str, own: &str, name: &str, short: &str, publisher: &str) -> String {
    content
        .replace(&format!("com.longshore.{own}"), name)
        .replace("\"Longshore\"", &format!("\"{publisher}\""))
        .replace("../../proto/wit", "wit")
        .replace("`proto/wit`", "`wit`")
        // The type of the guest in Rust is its crate's name in another case; it may stay.
        .replace(own, short)
}

/// As one word for a shell.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use longshore_bundle::author::{PackOptions, Severity, manifest, pack_project};

    use super::*;

    fn new(name: &str, lang: Lang) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("project");
        let args =
            NewArgs { name: name.into(), lang, dir: Some(project.clone()), publisher: "Acme Inc.".into() };
        run(&args, &Output::new(true)).unwrap();
        (dir, project)
    }

    fn text(project: &Path, file: &str) -> String {
        std::fs::read_to_string(project.join(file)).unwrap()
    }

    #[test]
    fn a_new_project_of_pages_packs_as_it_is() {
        let (_dir, project) = new("com.acme.notes", Lang::Ui);
        let packed = pack_project(&project, &PackOptions::default()).unwrap();
        assert_eq!(packed.problems, []);
        assert_eq!((packed.manifest.name.as_str(), packed.ids.publisher()), ("com.acme.notes", "Acme Inc."));
    }

    #[test]
    fn every_kind_has_a_manifest_without_problems_and_no_word_of_its_example() {
        for lang in [Lang::Ts, Lang::Rust, Lang::Ui] {
            let (_dir, project) = new("notes", lang);
            let checked = manifest::check(text(&project, "manifest.json").as_bytes());
            assert!(checked.problems.is_empty(), "{:?}", checked.problems);
            assert_eq!(checked.manifest.unwrap().name, "com.example.notes");
            let (files, own) = lang.template();
            for (file, _) in files {
                let text = text(&project, file);
                for word in [own, "Longshore\"", "../../", "proto/wit", "make guests", "make run"] {
                    assert!(!text.contains(word), "{lang:?}: {file} has {word}");
                }
            }
        }
    }

    #[test]
    fn a_new_rust_project_packs_with_the_component_that_its_sources_make() {
        let (_dir, project) = new("com.acme.notes", Lang::Rust);
        assert!(text(&project, "Cargo.toml").contains("name = \"notes\""));
        assert!(text(&project, "src/lib.rs").contains("path: \"wit\""));
        let error = pack_project(&project, &PackOptions::default()).unwrap_err().to_string();
        assert!(error.contains("longshore build"), "{error}");
        // The example's, which the same sources have made.
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello-rust/dist/main.wasm");
        std::fs::create_dir(project.join("dist")).unwrap();
        std::fs::copy(built, project.join("dist/main.wasm")).unwrap();
        let packed = pack_project(&project, &PackOptions { level: 1, ..PackOptions::default() }).unwrap();
        assert!(packed.problems.iter().all(|p| p.severity == Severity::Note));
    }

    #[test]
    fn the_typescript_project_is_one_that_npm_installs_and_builds() {
        let (_dir, project) = new("com.acme.notes", Lang::Ts);
        let package: serde_json::Value = serde_json::from_str(&text(&project, "package.json")).unwrap();
        let lock: serde_json::Value = serde_json::from_str(&text(&project, "package-lock.json")).unwrap();
        assert_eq!((&package["name"], &lock["name"]), (&json!("notes"), &json!("notes")));
        assert_eq!(package["devDependencies"], lock["packages"][""]["devDependencies"]);
        for script in ["build", "component", "types"] {
            assert!(!package["scripts"][script].as_str().unwrap().contains(".."), "{script}");
        }
    }

    #[test]
    fn a_name_that_is_none_and_a_folder_with_files_are_refused() {
        for name in ["", "Reports", "a..b", "a/b", "-a", "a-", "1a", "../x", "a b"] {
            assert_eq!(names(name).unwrap_err().exit, Exit::Usage, "{name}");
        }
        let (_dir, project) = new("notes", Lang::Ui);
        let args =
            NewArgs { name: "notes".into(), lang: Lang::Ts, dir: Some(project), publisher: "A".into() };
        assert_eq!(run(&args, &Output::new(true)).unwrap_err().code, "exists");
        let args = NewArgs { publisher: "A\"b".into(), dir: None, ..args };
        assert_eq!(run(&args, &Output::new(true)).unwrap_err().exit, Exit::Usage);
    }
}
