//! `longshore pack`: a project's folder becomes a bundle, the same bytes wherever it is packed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use longshore_bundle::BundleKey;
use longshore_bundle::archive::PACK_LEVEL;
use longshore_bundle::author::{PackOptions, Packed, Problem, ProjectError, Severity, pack_project};
use longshore_proto::TenantId;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output::{Output, bytes, printable};

/// Arguments of `longshore pack`.
#[derive(clap::Args, Clone, Debug)]
pub struct PackArgs {
    /// The project's folder: where its manifest.json is
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Where the bundle goes; its hash goes beside it, as FILE.sha256. Unset: DIR/dist/bundle.tar.zst
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// zstd's level. Another level makes another hash
    #[arg(long, value_name = "N", default_value_t = PACK_LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub level: i32,
    /// Also prints the key under which this tenant's bundle store has the bundle
    #[arg(long, env = "LONGSHORE_TENANT", value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// Also writes manifest.json beside the bundle, as the platform's store has it
    #[arg(long)]
    pub manifest: bool,
}

/// Runs `longshore pack`.
///
/// # Errors
/// The project has mistakes (all of them are in the failure), or a file cannot be read or written.
pub fn run(args: &PackArgs, output: &Output) -> Result<ExitCode, Failure> {
    let packed = project(&args.dir, args.level, output)?;
    let out = args.out.clone().unwrap_or_else(|| args.dir.join("dist/bundle.tar.zst"));
    write(&out, &packed.archive)?;
    let sidecar = beside(&out, ".sha256");
    write(&sidecar, format!("{}\n", packed.hash.hex()).as_bytes())?;
    if args.manifest {
        write(&out.with_file_name("manifest.json"), &packed.manifest_json)?;
    }
    let key = args.tenant.as_ref().map(|tenant| key(tenant, &packed)).transpose()?;
    let document = document(&packed, &out, key.as_deref());
    output.result(&document, || {
        let mut text = format!(
            "{} {} by {}\n  bundle       {} ({})\n  hash         sha256:{}\n  registry id  {}\n  version id   {}\n",
            printable(&packed.manifest.name),
            printable(&packed.manifest.version),
            printable(packed.ids.publisher()),
            out.display(),
            bytes(packed.archive.len() as u64),
            packed.hash.hex(),
            packed.ids.extension,
            packed.ids.version,
        );
        match &key {
            Some(key) => text.push_str(&format!("  object key   {key}\n")),
            None => text.push_str(&format!(
                "  object key   tenants/<tenant>/extensions/{}/sha256/{}/bundle.tar.zst\n",
                packed.ids.extension,
                packed.hash.hex()
            )),
        }
        text
    });
    Ok(Exit::Ok.into())
}

/// Packs a project; what was found and left out goes to stderr. For every command that takes a project's folder.
///
/// # Errors
/// The project has mistakes, or a file cannot be read.
pub fn project(dir: &Path, level: i32, output: &Output) -> Result<Packed, Failure> {
    let options = PackOptions { level, ..PackOptions::default() };
    let packed = pack_project(dir, &options).map_err(|error| failure(dir, error, output))?;
    say(&packed.problems, output);
    for left in &packed.left_out {
        output.note(format!("left out: {} ({})", printable(&left.path), left.why.as_str()));
    }
    if packed.more_left_out > 0 {
        output.note(format!("left out: {} more", packed.more_left_out));
    }
    Ok(packed)
}

/// Prints problems for people, each a line.
pub(super) fn say(problems: &[Problem], output: &Output) {
    for problem in problems.iter().filter(|p| p.severity != Severity::Error) {
        output.note(printable(problem.to_string()));
    }
}

/// A failure with all the problems, errors in its words and everything in its details.
pub(super) fn invalid(code: &'static str, what: &str, problems: &[Problem], output: &Output) -> Failure {
    say(problems, output);
    let errors: Vec<String> = problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .map(|p| format!("  {}", printable(p.to_string())))
        .collect();
    let count = errors.len();
    let message =
        format!("{what} has {count} mistake{}:\n{}", if count == 1 { "" } else { "s" }, errors.join("\n"));
    Failure::invalid(code, message).details(json!(problems))
}

fn failure(dir: &Path, error: ProjectError, output: &Output) -> Failure {
    match error {
        ProjectError::Problems { problems } => {
            invalid("project_invalid", &format!("the project {}", dir.display()), &problems, output)
        }
        ProjectError::NoManifest(_) => Failure::not_found("no_manifest", error.to_string()).hint(
            "name the folder with its manifest.json, or begin one: longshore new NAME --lang ts|rust|ui",
        ),
        error @ (ProjectError::Refused(_) | ProjectError::Stage(_)) => {
            Failure::invalid("project_invalid", longshore_bundle::chain(&error))
        }
        error @ ProjectError::Pack(_) => {
            Failure::new(Exit::Failed, "failed", longshore_bundle::chain(&error))
        }
    }
}

fn key(tenant: &TenantId, packed: &Packed) -> Result<String, Failure> {
    let extension = packed.ids.extension.to_string().parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let key = BundleKey { tenant: tenant.clone(), extension, hash: packed.hash };
    Ok(key.object_key().to_string())
}

fn document(packed: &Packed, out: &Path, key: Option<&str>) -> serde_json::Value {
    json!({
        "name": packed.manifest.name,
        "publisher": packed.ids.publisher(),
        "version": packed.manifest.version,
        "bundle": out.display().to_string(),
        "bytes": packed.archive.len(),
        "content_hash": format!("sha256:{}", packed.hash.hex()),
        "extension_id": packed.ids.extension.to_string(),
        "version_id": packed.ids.version.to_string(),
        "object_key": key,
        "capabilities": packed.manifest.capabilities,
        "component": packed.component,
        "entries": packed.entries,
        "problems": packed.problems,
        "left_out": packed.left_out,
    })
}

/// `dist/bundle.tar.zst` -> `dist/bundle.tar.zst.sha256`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whole or not at all: who watches the file never sees half of it.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let told = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(folder).with_context(told)?;
    let mut file = tempfile::Builder::new().prefix(".longshore-").tempfile_in(folder).with_context(told)?;
    file.write_all(content).with_context(told)?;
    // `tempfile` makes it readable by its owner alone; a bundle is for whoever may read the folder.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).with_context(told)?;
    file.persist(path).with_context(told)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PackArgs,
    }

    fn args(line: &[&str]) -> PackArgs {
        Line::parse_from([&["pack"], line].concat()).args
    }

    fn example(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
    }

    #[test]
    fn a_bundle_its_hash_and_its_manifest_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("new/b.tar.zst");
        let line = [example("hello-ui").display().to_string(), "--out".into(), out.display().to_string()];
        let mut args = args(&line.each_ref().map(String::as_str));
        args.manifest = true;
        args.tenant = Some("t-1".parse().unwrap());
        run(&args, &Output::new(true)).unwrap();
        let archive = std::fs::read(&out).unwrap();
        let hash = longshore_bundle::archive::content_hash(&archive);
        let sidecar = std::fs::read_to_string(dir.path().join("new/b.tar.zst.sha256")).unwrap();
        assert_eq!(sidecar, format!("{}\n", hash.hex()));
        assert!(dir.path().join("new/manifest.json").is_file());
        assert_eq!(
            std::fs::read_dir(dir.path().join("new")).unwrap().count(),
            3,
            "nothing else is left there"
        );
    }

    #[test]
    fn a_project_with_mistakes_is_refused_with_all_of_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("manifest.json"),
            "{\n\"name\": \"a.b\",\n\"version\": \"1\"\n, \"colour\": 1}",
        )
        .unwrap();
        let failure = project(dir.path(), 3, &Output::new(false)).unwrap_err();
        assert_eq!(failure.exit, Exit::Invalid);
        assert!(
            failure.message.contains("manifest.json:3: version: ")
                && failure.message.contains(":4: colour: ")
        );
        assert_eq!(failure.details.unwrap()[0]["file"], "manifest.json");
    }

    #[test]
    fn a_folder_without_a_manifest_is_told_how_to_begin() {
        let dir = tempfile::tempdir().unwrap();
        let failure = project(dir.path(), 3, &Output::new(false)).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.hint.unwrap().contains("longshore new"));
    }

    #[test]
    fn levels_that_zstd_does_not_have_are_a_usage_error() {
        assert!(Line::try_parse_from(["pack", "--level", "23"]).is_err());
        assert_eq!(args(&["--level", "3"]).level, 3);
        assert_eq!(args(&[]).level, 19);
    }
}
