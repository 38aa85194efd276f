//! The check of a component: that it is one, that it answers calls, that this host has what it imports and that its manifest asks for it.

use std::collections::BTreeSet;

use longshore_proto::{Capability, CapabilitySet};
use serde::Serialize;
use wasmparser::component_types::ComponentEntityType;
use wasmparser::{ComponentTypeRef, Parser, Payload, Validator, WasmFeatures};

use super::imports::{self, Known};
use super::problem::{Problem, Severity, did_you_mean, shown};

/// The largest component that workers compile with their defaults.
pub const MAX_BYTES: u64 = 64 << 20;
/// How the host's functions are gated; spelled once.
const UNGRANTED: &str = "calls of it would be refused";

/// What a component answers calls with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandlerKind {
    /// The function `handler` of `alga:extension`.
    Extension,
    /// `wasi:http/incoming-handler` 0.2.
    WasiHttp,
    /// `wasi:http/handler` 0.3.
    WasiHttpAsync,
}

impl HandlerKind {
    /// As it is exported.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Extension => "handler",
            Self::WasiHttp => "wasi:http/incoming-handler@0.2",
            Self::WasiHttpAsync => "wasi:http/handler@0.3",
        }
    }
}

/// What a component is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Component {
    /// What it answers calls with.
    pub handler: HandlerKind,
    /// What it imports, sorted.
    pub imports: BTreeSet<String>,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Looks at a component. `path` is its name in messages; `declared` is what the manifest asks for.
///
/// What a toolchain imports whether it is called or not (componentize-js and componentize-py take their whole world) is no mistake, so it is one
/// note there. Elsewhere an import is a call, and one that the manifest does not ask for is an error.
pub fn inspect(path: &str, wasm: &[u8], declared: CapabilitySet) -> (Option<Component>, Vec<Problem>) {
    let error = |message: String| (None, vec![Problem::of_file(Severity::Error, path, message)]);
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', ..]) if Parser::is_component(wasm) => {}
        Some([0, b'a', b's', b'm', ..]) if Parser::is_core_wasm(wasm) => {
            return error(
                "is a core module, not a component. Make one of it: `wasm-tools component new module.wasm -o dist/main.wasm` for Rust \
                 (`longshore build` does it), `jco componentize` for JavaScript"
                    .to_owned(),
            );
        }
        _ => return error("is no WebAssembly".to_owned()),
    }
    if wasm.len() as u64 > MAX_BYTES {
        return error(format!("has {} bytes; workers compile at most {MAX_BYTES}", wasm.len()));
    }
    let types = match Validator::new_with_features(WasmFeatures::default()).validate_all(wasm) {
        Ok(types) => types,
        Err(why) => return error(format!("is no valid component: {}", shown(why.message()))),
    };
    let outline = match Outline::read(wasm) {
        Ok(outline) => outline,
        Err(why) => return error(format!("is no valid component: {}", shown(why.message()))),
    };
    let mut check = Check { path, problems: Vec::new() };
    let handler = check.handler(&outline, |name| {
        types
            .component_item_for_export(name)
            .is_some_and(|item| matches!(item.ty, ComponentEntityType::Func(_)))
    });
    for import in &outline.imports {
        let functions = types.component_item_for_import(import).and_then(|item| match item.ty {
            ComponentEntityType::Instance(id) => types.as_ref().get(id),
            _ => None,
        });
        let functions = functions.map(|instance| instance.exports.iter()).into_iter().flatten();
        let functions = functions.filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)));
        check.import(import, functions.map(|(name, _)| name.as_str()));
    }
    check.capabilities(&outline, declared);
    let component =
        handler.map(|handler| Component { handler, imports: outline.imports, bytes: wasm.len() as u64 });
    (component, check.problems)
}

/// What a component says of itself at its own level.
#[derive(Default)]
struct Outline {
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
    /// Its toolchain imports what its program never calls.
    imports_whole_world: bool,
}

impl Outline {
    fn read(wasm: &[u8]) -> wasmparser::Result<Self> {
        let mut outline = Self::default();
        let mut depth = 0u32;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                    depth = depth.saturating_add(1)
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import?;
                        // A world's `use` of a type: nothing that a host gives.
                        if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                            outline.imports.insert(import.name.name.to_owned());
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        outline.exports.insert(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        let gated = outline.imports.iter().filter(|name| imports::functions(name).is_some()).count();
        outline.imports_whole_world = gated == imports::COUNT || has_interpreter(wasm);
        Ok(outline)
    }
}

/// Whether a language's engine is in it, from the texts that are in every build of these engines: StarlingMonkey (componentize-js) and the
/// runtime of componentize-py. Whoever has such a text by accident is told less.
fn has_interpreter(wasm: &[u8]) -> bool {
    const MARKS: [&str; 2] = ["StarlingMonkey", "componentize_py"];
    aho_corasick::AhoCorasick::new(MARKS).is_ok_and(|marks| marks.is_match(wasm))
}

struct Check<'a> {
    path: &'a str,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn say(&mut self, severity: Severity, message: String) {
        self.problems.push(Problem::of_file(severity, self.path, message));
    }

    /// The kind that a worker would choose (`worker/src/engine/handler.rs`).
    fn handler(&mut self, outline: &Outline, is_function: impl Fn(&str) -> bool) -> Option<HandlerKind> {
        let exports = |prefix: &str| outline.exports.iter().any(|name| name.starts_with(prefix));
        if is_function("handler") {
            return Some(HandlerKind::Extension);
        }
        if exports("wasi:http/incoming-handler@0.2.") {
            return Some(HandlerKind::WasiHttp);
        }
        if exports("wasi:http/handler@0.3.") {
            self.say(
                Severity::Warning,
                "is a WASI 0.3 component: it runs only on workers with WORKER_WASI_P3=true".to_owned(),
            );
            return Some(HandlerKind::WasiHttpAsync);
        }
        let exported: Vec<String> =
            outline.exports.iter().take(10).map(|name| format!("`{}`", shown(name))).collect();
        let exported = if exported.is_empty() { "nothing".to_owned() } else { exported.join(", ") };
        self.say(
            Severity::Error,
            format!(
                "exports neither the function `handler` of the world `alga:extension/runner` nor `wasi:http/incoming-handler@0.2`, so no call \
                 can reach it; it exports {exported}"
            ),
        );
        None
    }

    fn import<'n>(&mut self, import: &str, functions: impl Iterator<Item = &'n str>) {
        match imports::known(import) {
            Known::No => {
                let names: Vec<String> = imports::names().collect();
                let meant = did_you_mean(import, names.iter().map(String::as_str));
                let why = match import.strip_prefix("wasi:") {
                    Some(_) => {
                        "WASI 0.2 without files is here, `wasi:http` 0.2 and `wasi:config/store@0.2.0-rc.1`"
                    }
                    None => "see the world `runner` in extension-runner.wit",
                };
                self.say(
                    Severity::Error,
                    format!("imports `{}`, which this host does not have ({why}){meant}", shown(import)),
                );
            }
            Known::Gated(_) | Known::Free | Known::Wasi3(_) => {
                let Some(known) = imports::functions(import) else { return };
                let known: Vec<&str> = known.collect();
                for function in functions.filter(|function| !known.contains(function)) {
                    let meant = did_you_mean(function, known.iter().copied());
                    let message = format!(
                        "imports `{}` of `{import}`, which this host does not have{meant}",
                        shown(function)
                    );
                    self.say(Severity::Error, message);
                }
            }
        }
    }

    fn capabilities(&mut self, outline: &Outline, declared: CapabilitySet) {
        let mut needed: Vec<(Capability, &str)> = Vec::new();
        for import in &outline.imports {
            match imports::known(import) {
                Known::Gated(capability) | Known::Wasi3(Some(capability)) => {
                    needed.push((capability, import))
                }
                _ => {}
            }
        }
        let missing: Vec<_> = needed.iter().filter(|(capability, _)| !declared.has(*capability)).collect();
        if outline.imports_whole_world && !missing.is_empty() {
            let names: BTreeSet<&str> = missing.iter().map(|(capability, _)| capability.as_str()).collect();
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!(
                "imports the whole world, as its toolchain does; the manifest does not ask for {names}, so {UNGRANTED}"
            );
            self.say(Severity::Note, message);
        } else {
            for (capability, import) in missing {
                // Always there in a `wasi:http/proxy`, whichever language.
                let (severity, hint) = if import.starts_with("wasi:") {
                    (Severity::Warning, "if it is called")
                } else {
                    (Severity::Error, "at every call")
                };
                let message = format!(
                    "imports `{import}`, and the manifest does not ask for `{capability}`: {UNGRANTED}; add it to `capabilities` {hint}"
                );
                self.say(severity, message);
            }
        }
        for capability in declared.iter().filter(|capability| !CapabilitySet::default().has(*capability)) {
            if !needed.iter().any(|(needed, _)| *needed == capability) {
                let message = format!("does not use `{capability}`, which the manifest asks for");
                self.say(Severity::Note, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(name: &str) -> Vec<u8> {
        let path = format!("{}/../tests/guests/built/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    fn everything() -> CapabilitySet {
        CapabilitySet::parse(Capability::ALL.iter().map(|c| c.as_str())).unwrap()
    }

    fn said(wasm: &[u8], declared: CapabilitySet) -> Vec<(Severity, String)> {
        let (_, problems) = inspect("dist/main.wasm", wasm, declared);
        problems.into_iter().map(|p| (p.severity, p.message)).collect()
    }

    #[test]
    fn a_component_of_each_kind_is_recognised() {
        for (name, kind) in [
            ("echo", HandlerKind::Extension),
            ("http-echo", HandlerKind::WasiHttp),
            ("http-async", HandlerKind::WasiHttpAsync),
        ] {
            let (component, problems) = inspect("dist/main.wasm", &guest(name), everything());
            assert_eq!(component.unwrap().handler, kind);
            assert!(!super::super::problem::any_error(&problems), "{name}: {problems:?}");
        }
    }

    #[test]
    fn every_guest_that_links_passes() {
        let folder = format!("{}/../tests/guests/built", env!("CARGO_MANIFEST_DIR"));
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if path.extension().is_none_or(|e| e != "wasm") || name == "no-handler" {
                continue;
            }
            let (component, problems) = inspect(&name, &std::fs::read(&path).unwrap(), everything());
            let errors: Vec<_> = problems.iter().filter(|p| p.severity == Severity::Error).collect();
            assert!(component.is_some() && errors.is_empty(), "{name}: {errors:?}");
            seen += 1;
        }
        assert!(seen > 25);
    }

    #[test]
    fn a_core_module_is_told_how_to_become_a_component() {
        let module = wat::parse_str("(module)").unwrap();
        let said = said(&module, everything());
        assert!(
            said[0].1.contains("core module") && said[0].1.contains("wasm-tools component new"),
            "{said:?}"
        );
    }

    #[test]
    fn what_is_no_or_broken_webassembly_is_said() {
        assert!(said(b"#!/bin/sh", everything())[0].1.contains("no WebAssembly"));
        assert!(said(b"", everything())[0].1.contains("no WebAssembly"));
        let echo = guest("echo");
        assert!(said(&echo[..echo.len() / 2], everything())[0].1.contains("no valid component"));
    }

    #[test]
    fn a_component_without_a_handler_is_told_what_it_exports() {
        let said = said(&guest("no-handler"), everything());
        assert!(
            said.iter().any(|(s, m)| *s == Severity::Error && m.contains("it exports `ready`")),
            "{said:?}"
        );
        let empty = wat::parse_str("(component)").unwrap();
        assert!(self::said(&empty, everything())[0].1.contains("it exports nothing"));
    }

    #[test]
    fn an_import_that_the_manifest_does_not_ask_for_names_import_and_capability() {
        let said = said(&guest("canary"), CapabilitySet::default());
        let wanted = |capability: &str, import: &str| {
            said.iter().any(|(s, m)| *s == Severity::Error && m.contains(capability) && m.contains(import))
        };
        assert!(wanted("cap:secrets.get", "alga:extension/secrets"), "{said:?}");
        assert!(wanted("cap:http.fetch", "alga:extension/http"), "{said:?}");
        // The three that everybody has need not be asked for.
        assert!(!said.iter().any(|(_, m)| m.contains("cap:log.emit")), "{said:?}");
    }

    #[test]
    fn a_component_that_imports_the_whole_world_gets_one_note() {
        let said = said(&guest("hostcalls"), CapabilitySet::default());
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].0, Severity::Note);
        assert!(said[0].1.contains("cap:storage.kv") && said[0].1.contains("whole world"));
    }

    #[test]
    fn a_part_of_the_world_around_an_interpreter_is_imported_whole_too() {
        let component = |data: &str| {
            wat::parse_str(format!(
                r#"(component (import "alga:extension/storage" (instance))
                    (core module (memory 1) (data (i32.const 0) "{data}")))"#
            ))
            .unwrap()
        };
        let of = |data: &str| {
            let said = said(&component(data), CapabilitySet::default());
            said.into_iter().find(|(_, m)| m.contains("cap:storage.kv")).unwrap().0
        };
        assert_eq!(of("--StarlingMonkeyFormBoundary"), Severity::Note);
        assert_eq!(of("anything else"), Severity::Error);
    }

    #[test]
    fn outgoing_requests_of_wasi_need_the_capability_of_fetch() {
        let said = said(&guest("http-echo"), CapabilitySet::default());
        let (severity, message) = said.iter().find(|(_, m)| m.contains("outgoing-handler")).unwrap();
        assert_eq!(*severity, Severity::Warning);
        assert!(message.contains("cap:http.fetch"));
    }

    #[test]
    fn what_is_asked_for_and_not_used_is_a_note() {
        let said = said(&guest("echo"), everything());
        assert!(said.contains(&(
            Severity::Note,
            "does not use `cap:storage.kv`, which the manifest asks for".to_owned()
        )));
        assert!(said.iter().all(|(s, _)| *s == Severity::Note), "{said:?}");
    }

    #[test]
    fn an_import_that_no_host_has_is_an_error_with_a_suggestion() {
        for (import, words) in [
            (r#"(import "alga:extension/storge" (instance))"#, "did you mean `alga:extension/storage`?"),
            (r#"(import "wasi:keyvalue/store@0.2.0" (instance))"#, "WASI 0.2"),
            (r#"(import "custom" (func))"#, "`custom`"),
            (
                r#"(import "alga:extension/logging" (instance (export "log-inf" (func (param "message" string)))))"#,
                "imports `log-inf` of `alga:extension/logging`, which this host does not have; did you mean `log-info`?",
            ),
        ] {
            let wasm = wat::parse_str(format!("(component {import})")).unwrap();
            let said = said(&wasm, everything());
            assert!(
                said.iter().any(|(s, m)| *s == Severity::Error && m.contains(words)),
                "{import}: {said:?}"
            );
        }
    }
}
