//! `longshore build`: the project's own build command, and then the checks of `pack`.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use serde_json::{Value, json};
use wit_component::ComponentEncoder;

use super::pack;
use crate::exit::{Exit, Failure};
use crate::output::{Output, bytes};

/// Only to check: nobody keeps the bundle.
const CHECK_LEVEL: i32 = 1;
/// What Rust extensions are compiled for.
const TARGET: &str = "wasm32-unknown-unknown";
/// Scripts of a project's package.json that make pages and component, in their order.
const SCRIPTS: [&str; 2] = ["build", "build:component"];

/// Arguments of `longshore build`.
#[derive(clap::Args, Clone, Debug)]
pub struct BuildArgs {
    /// The project's folder: where its manifest.json is
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// What builds it. Unset: `alga` where it is installed and there is a package.json, else the scripts `build` and `build:component` of
    /// package.json, else cargo
    #[arg(long, value_enum)]
    pub tool: Option<Tool>,
}

/// What builds projects.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `alga build`
    Alga,
    /// The scripts of package.json
    Npm,
    /// `cargo build`, and a component made of its module
    Cargo,
    /// Nothing: pages that are their own sources
    None,
}

/// Runs `longshore build`.
///
/// # Errors
/// The build fails, or what it made is no extension.
pub fn run(args: &BuildArgs, output: &Output) -> Result<ExitCode, Failure> {
    let tool = build(&args.dir, args.tool, output)?;
    let packed = pack::project(&args.dir, CHECK_LEVEL, output)?;
    let component = packed.component;
    let document = json!({
        "dir": args.dir.display().to_string(),
        "tool": name(tool),
        "component": component,
        "problems": packed.problems,
    });
    output.result(&document, || match component {
        Some(component) => format!(
            "{}: {}, answers by {}",
            packed.manifest.entry(),
            bytes(component.bytes),
            component.handler.as_str()
        ),
        None => "pages without a component".to_owned(),
    });
    Ok(Exit::Ok.into())
}

fn name(tool: Tool) -> &'static str {
    match tool {
        Tool::Alga => "alga",
        Tool::Npm => "npm",
        Tool::Cargo => "cargo",
        Tool::None => "none",
    }
}

/// Builds a project with its own command; what that says goes to stderr. Says what built it.
///
/// # Errors
/// There is no such tool, or it fails.
pub fn build(dir: &Path, tool: Option<Tool>, output: &Output) -> Result<Tool, Failure> {
    if !dir.join("manifest.json").is_file() {
        let message = format!("{} has no manifest.json: it is no extension's project", dir.display());
        return Err(Failure::not_found("no_manifest", message));
    }
    let tool = tool.unwrap_or_else(|| choose(dir, is_installed("alga")));
    match tool {
        Tool::Alga => step(Command::new("alga").arg("build").current_dir(dir), output)?,
        Tool::Npm => npm(dir, &SCRIPTS, output)?,
        Tool::Cargo => cargo(dir, output)?,
        Tool::None => {}
    }
    // Pages with a build of their own beside a component that another tool has built.
    if matches!(tool, Tool::Cargo | Tool::None) && dir.join("ui/package.json").is_file() {
        npm(&dir.join("ui"), &["build"], output)?;
    }
    Ok(tool)
}

fn choose(dir: &Path, has_alga: bool) -> Tool {
    let has = |file: &str| dir.join(file).is_file();
    if has("package.json") {
        if has_alga { Tool::Alga } else { Tool::Npm }
    } else if has("Cargo.toml") {
        Tool::Cargo
    } else {
        Tool::None
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Runs those of the scripts that the project has.
fn npm(dir: &Path, scripts: &[&str], output: &Output) -> Result<(), Failure> {
    let path = dir.join("package.json");
    let package = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let package: Value = serde_json::from_slice(&package)
        .map_err(|error| Failure::invalid("package_invalid", format!("{}: {error}", path.display())))?;
    let all = package.get("scripts");
    let has = |script: &&str| all.and_then(|all| all.get(script)).is_some_and(Value::is_string);
    let scripts: Vec<&str> = scripts.iter().copied().filter(has).collect();
    if scripts.is_empty() {
        let message = format!("{} has no script `build`", path.display());
        return Err(Failure::invalid("no_build_script", message)
            .hint("add one, or build by hand: `pack` takes what is there"));
    }
    let needs = |kind: &str| package.get(kind).and_then(Value::as_object).is_some_and(|all| !all.is_empty());
    if (needs("dependencies") || needs("devDependencies")) && !dir.join("node_modules").is_dir() {
        let message =
            format!("{} has no node_modules: what it is built with is not installed", dir.display());
        return Err(
            Failure::not_found("not_installed", message).hint("run `npm ci` (or `npm install`) there first")
        );
    }
    for script in scripts {
        step(Command::new("npm").args(["run", script]).current_dir(dir), output)?;
    }
    Ok(())
}

/// `cargo build` for WebAssembly, and the component of its module, as `wasm-tools component new` makes it.
fn cargo(dir: &Path, output: &Output) -> Result<(), Failure> {
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    let messages = captured(command.current_dir(dir), output)
        .map_err(|failure| failure.hint(format!("if the target is missing: rustup target add {TARGET}")))?;
    let module = module(&messages).ok_or_else(|| {
        let message = format!("cargo has made no .wasm in {}", dir.display());
        Failure::invalid("no_module", message).hint("Cargo.toml wants [lib] crate-type = [\"cdylib\"]")
    })?;
    let wasm = std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    let component = component(&wasm).map_err(|error| {
        Failure::invalid(
            "no_component",
            format!("{} cannot be made a component: {error:#}", module.display()),
        )
    })?;
    let to = dir.join("dist/main.wasm");
    std::fs::create_dir_all(dir.join("dist")).with_context(|| format!("cannot write {}", to.display()))?;
    std::fs::write(&to, component).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(())
}

/// The last module among cargo's messages: dependencies come before the project itself.
fn module(messages: &[u8]) -> Option<PathBuf> {
    let files = |line: &[u8]| {
        let message: Value = serde_json::from_slice(line).ok()?;
        let files = message.get("filenames")?.as_array()?.iter();
        files.filter_map(Value::as_str).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
    };
    messages.split(|byte| *byte == b'\n').filter_map(files).next_back()
}

/// A component as it is; a module with the world that wit-bindgen has left in it, encoded.
fn component(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    const COMPONENT: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
    if wasm.starts_with(&COMPONENT) {
        return Ok(wasm.to_vec());
    }
    ComponentEncoder::default().validate(true).module(wasm)?.encode()
}

/// Runs a command whose stdout is no result of ours.
fn step(command: &mut Command, output: &Output) -> Result<(), Failure> {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().context("no standard error")?;
    ended(command.stdout(Stdio::from(stderr)), output).map(|_| ())
}

/// Runs a command and gives its stdout.
fn captured(command: &mut Command, output: &Output) -> Result<Vec<u8>, Failure> {
    ended(command.stdout(Stdio::piped()), output)
}

fn ended(command: &mut Command, output: &Output) -> Result<Vec<u8>, Failure> {
    let line = [command.get_program()].into_iter().chain(command.get_args());
    let line = line.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    output.note(format!("$ {line}"));
    let result = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| {
        let message = format!("`{line}` cannot be started: {error}");
        match error.kind() {
            std::io::ErrorKind::NotFound => Failure::not_found("no_such_tool", message),
            _ => Failure::new(Exit::Failed, "failed", message),
        }
    })?;
    if !result.status.success() {
        return Err(Failure::new(
            Exit::Failed,
            "build_failed",
            format!("`{line}` has failed ({})", result.status),
        ));
    }
    Ok(result.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    #[test]
    fn the_tool_is_chosen_by_what_the_project_is_made_of() {
        let of = |files: &[(&str, &str)], alga| choose(project(files).path(), alga);
        assert_eq!(of(&[("package.json", "{}")], true), Tool::Alga);
        assert_eq!(of(&[("package.json", "{}"), ("Cargo.toml", "")], false), Tool::Npm);
        assert_eq!(of(&[("Cargo.toml", "")], true), Tool::Cargo);
        assert_eq!(of(&[("ui/index.html", "")], true), Tool::None);
    }

    #[test]
    fn a_project_that_cannot_be_built_says_what_to_do() {
        let built = |files: &[(&str, &str)]| {
            build(project(files).path(), Some(Tool::Npm), &Output::new(true)).unwrap_err()
        };
        assert_eq!(built(&[]).code, "no_manifest");
        assert_eq!(built(&[("manifest.json", "{}"), ("package.json", "no")]).code, "package_invalid");
        assert_eq!(built(&[("manifest.json", "{}"), ("package.json", "{}")]).code, "no_build_script");
        let package = r#"{"scripts":{"build":"x"},"devDependencies":{"a":"1"}}"#;
        let failure = built(&[("manifest.json", "{}"), ("package.json", package)]);
        assert_eq!(failure.code, "not_installed");
        assert!(failure.hint.unwrap().contains("npm ci"));
    }

    #[test]
    fn pages_that_are_their_own_sources_need_no_build() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello-ui");
        let args = BuildArgs { dir: example, tool: None };
        assert!(run(&args, &Output::new(true)).is_ok());
    }

    #[test]
    fn the_module_is_the_last_one_that_cargo_names() {
        let messages = br#"{"reason":"compiler-artifact","filenames":["/t/libx.rlib"]}
{"reason":"compiler-artifact","filenames":["/t/dep.wasm"]}
not json
{"reason":"compiler-artifact","filenames":["/t/a.d","/t/my_ext.wasm"]}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(module(messages), Some(PathBuf::from("/t/my_ext.wasm")));
        assert_eq!(module(b""), None);
    }

    #[test]
    fn a_module_that_carries_its_world_becomes_a_component_that_answers() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
        let mut module = wat::parse_file(root.join("behaviours/table-hog.wat")).unwrap();
        let mut resolve = wit_parser::Resolve::default();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/wit");
        let (package, _) = resolve.push_path(wit).unwrap();
        let world = resolve.select_world(&[package], Some("runner")).unwrap();
        let utf8 = wit_component::StringEncoding::UTF8;
        wit_component::embed_component_metadata(&mut module, &resolve, world, utf8).unwrap();
        let component = component(&module).unwrap();
        let (found, problems) =
            longshore_bundle::author::component::inspect("x", &component, Default::default());
        assert_eq!(found.unwrap().handler, longshore_bundle::author::HandlerKind::Extension, "{problems:?}");
    }

    #[test]
    fn a_component_stays_as_it_is_and_what_is_no_webassembly_is_refused() {
        let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/built/echo.wasm");
        let wasm = std::fs::read(guest).unwrap();
        assert_eq!(component(&wasm).unwrap(), wasm);
        assert!(component(b"no wasm").is_err());
    }
}
