//! The strict check of `manifest.json`: every mistake with line and field, all of them at once (interop 9.1, the JSON schema and the check at
//! upload merged). What only the existing platform refuses is a warning; what is accepted and not used is a note.

use jsonc_parser::ast::{Array, Object, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use longshore_proto::Capability;
use longshore_proto::limits::{MAX_MEMORY_MB, MAX_TIMEOUT_MS};
use longshore_proto::manifest::Manifest;

use super::problem::{Problem, Severity, Where, any_error, did_you_mean, shown};

mod endpoints;
#[cfg(test)]
mod tests;

/// The file's name, in a project and in a bundle.
pub const FILE: &str = "manifest.json";
/// The largest manifest that is looked at. Those of existing extensions have 1 to 4 KiB.
pub const MAX_BYTES: usize = 1 << 20;
/// Problems reported of one manifest: more than anybody reads, and a hostile one cannot make gigabytes of words.
const MAX_PROBLEMS: usize = 200;

const TOP: [&str; 14] = [
    "name",
    "publisher",
    "version",
    "runtime",
    "capabilities",
    "ui",
    "api",
    "limits",
    "entry",
    "settings",
    "events",
    "assets",
    "sbom",
    "precompiled",
];
/// Names for readers and editors.
const SILENT: [&str; 5] = ["$schema", "description", "displayName", "license", "homepage"];
const HOOKS: [&str; 2] = ["appMenu", "clientPortalMenu"];
const LIMITS: [(&str, u64, u64); 8] = [
    ("timeout_ms", 1, MAX_TIMEOUT_MS),
    ("memory_mb", 1, MAX_MEMORY_MB),
    ("cpu_ms", 1, u64::MAX),
    ("host_calls", 0, u64::MAX),
    ("outbound_requests", 0, u64::MAX),
    ("log_bytes", 0, u64::MAX),
    ("log_lines", 0, u64::MAX),
    ("response_bytes", 0, u64::MAX),
];

/// What came of a check.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The manifest, its capabilities under today's names, each once. `None` where a problem is an error.
    pub manifest: Option<Manifest>,
    /// What was found, by line.
    pub problems: Vec<Problem>,
    /// Files that the manifest names beside component and pages: assets, SBOM, precompiled artifacts.
    pub files: Vec<String>,
}

impl Checked {
    /// Whether something forbids to go on.
    pub fn has_errors(&self) -> bool {
        any_error(&self.problems)
    }
}

/// Checks a manifest.
pub fn check(json: &[u8]) -> Checked {
    let mut check = Check { text: "", problems: Vec::new(), files: Vec::new() };
    let capabilities = check.run(json);
    let Check { mut problems, files, .. } = check;
    problems.sort_by_key(|problem| (problem.line, std::cmp::Reverse(problem.severity)));
    let mut manifest = None;
    if !any_error(&problems) {
        match Manifest::parse(json) {
            Ok(parsed) => manifest = Some(Manifest { capabilities, ..parsed }),
            Err(error) => problems.push(problem(Severity::Error, None, "", words(&error))),
        }
    }
    Checked { manifest, problems, files }
}

fn words(error: &dyn std::error::Error) -> String {
    crate::chain(error)
}

fn problem(severity: Severity, line: Option<usize>, field: &str, message: impl Into<String>) -> Problem {
    Problem { severity, file: Where(FILE.to_owned()), line, field: field.to_owned(), message: message.into() }
}

struct Check<'a> {
    text: &'a str,
    problems: Vec<Problem>,
    files: Vec<String>,
}

impl<'a> Check<'a> {
    fn run(&mut self, json: &'a [u8]) -> Vec<String> {
        if json.len() > MAX_BYTES {
            self.whole(format!("has {} bytes; {MAX_BYTES} are allowed", json.len()));
            return Vec::new();
        }
        let Ok(text) = std::str::from_utf8(json) else {
            self.whole("is not UTF-8");
            return Vec::new();
        };
        self.text = text;
        if text.starts_with('\u{feff}') {
            self.whole("begins with a byte order mark; save it as UTF-8 without one");
            return Vec::new();
        }
        // First the strict parser, whose depth is bounded: what it takes, the other one takes too and says where things are.
        if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
            let line = Some(error.line());
            self.push(problem(Severity::Error, line, "", format!("is no JSON: {error}")));
            return Vec::new();
        }
        let parsed = parse_to_ast(text, &CollectOptions::default(), &ParseOptions::default());
        let value = match parsed {
            Ok(result) => result.value,
            Err(error) => {
                self.whole(format!("cannot be read: {error}"));
                return Vec::new();
            }
        };
        let Some(Value::Object(top)) = value else {
            self.whole("is not a JSON object");
            return Vec::new();
        };
        self.top(&top)
    }

    fn push(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn whole(&mut self, message: impl Into<String>) {
        self.push(problem(Severity::Error, None, "", message));
    }

    fn say(&mut self, severity: Severity, at: &impl Ranged, field: &str, message: impl Into<String>) {
        let before = self.text.get(..at.start()).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count().saturating_add(1);
        self.push(problem(severity, Some(line), field, message));
    }

    fn error(&mut self, at: &impl Ranged, field: &str, message: impl Into<String>) {
        self.say(Severity::Error, at, field, message);
    }

    fn warn(&mut self, at: &impl Ranged, field: &str, message: impl Into<String>) {
        self.say(Severity::Warning, at, field, message);
    }

    fn note(&mut self, at: &impl Ranged, field: &str, message: impl Into<String>) {
        self.say(Severity::Note, at, field, message);
    }

    fn top(&mut self, top: &Object<'a>) -> Vec<String> {
        self.no_field_twice(top, "");
        let mut capabilities = Vec::new();
        for required in ["name", "version"] {
            if top.get(required).is_none() {
                self.error(top, required, "is missing");
            }
        }
        for property in &top.properties {
            let (name, value) = (property.name.as_str(), &property.value);
            match name {
                "name" => self.name(value),
                "publisher" => self.publisher(value),
                "version" => self.version(value),
                "runtime" => self.runtime(value),
                "capabilities" => capabilities = self.capabilities(value),
                "ui" => self.ui(value),
                "api" => self.api(value),
                "limits" => self.limits(value),
                "entry" => self.entry(value),
                "assets" => self.assets(value),
                "sbom" => {
                    if let Some(path) = self.path(value, "sbom") {
                        self.files.push(path);
                    }
                }
                "precompiled" => self.precompiled(value),
                "settings" | "events" => {
                    self.note(value, name, "is accepted and not used by this platform");
                }
                name if SILENT.contains(&name) => {}
                name => {
                    let meant = did_you_mean(name, TOP);
                    self.error(property, &shown(name), format!("is no field of a manifest{meant}"));
                }
            }
        }
        for (absent, message) in [
            (
                "publisher",
                "is missing: the extension's ids are then those of the publisher `local-dev`, and the existing platform refuses it",
            ),
            ("runtime", "is missing; the existing platform wants `wasm-js@1`"),
        ] {
            if top.get(absent).is_none() {
                self.warn(top, absent, message);
            }
        }
        capabilities
    }

    /// Two values for one name: which one holds depends on who reads.
    fn no_field_twice(&mut self, object: &Object<'a>, prefix: &str) {
        let mut seen = std::collections::HashSet::new();
        for property in &object.properties {
            if !seen.insert(property.name.as_str()) {
                let field = format!("{prefix}{}", shown(property.name.as_str()));
                self.error(property, &field, "is there twice");
            }
        }
    }

    fn string<'v>(&mut self, value: &'v Value<'a>, field: &str) -> Option<&'v str> {
        let Some(text) = value.as_string_lit() else {
            self.error(value, field, format!("must be a text, not {}", kind(value)));
            return None;
        };
        if text.value.trim().is_empty() {
            self.error(value, field, "is empty");
            return None;
        }
        Some(&text.value)
    }

    fn array<'v>(&mut self, value: &'v Value<'a>, field: &str) -> Option<&'v Array<'a>> {
        let array = value.as_array();
        if array.is_none() {
            self.error(value, field, format!("must be a list, not {}", kind(value)));
        }
        array
    }

    fn object<'v>(&mut self, value: &'v Value<'a>, field: &str) -> Option<&'v Object<'a>> {
        let Some(object) = value.as_object() else {
            self.error(value, field, format!("must be an object, not {}", kind(value)));
            return None;
        };
        self.no_field_twice(object, &format!("{field}."));
        Some(object)
    }

    /// A file inside the bundle, as an archive spells it.
    fn path(&mut self, value: &Value<'a>, field: &str) -> Option<String> {
        let text = self.string(value, field)?;
        let plain = text.strip_prefix("./").unwrap_or(text);
        let bad = |segment: &str| segment.is_empty() || segment.starts_with('.');
        if plain.split('/').any(bad) || plain.contains(|c: char| c == '\\' || c.is_control()) {
            let said = "must be a relative path inside the bundle, without hidden files, `..` or `\\`";
            self.error(value, field, format!("`{}` {said}", shown(text)));
            return None;
        }
        Some(plain.to_owned())
    }

    fn name(&mut self, value: &Value<'a>) {
        let Some(name) = self.string(value, "name") else { return };
        if name.len() > 200
            || name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '\\'))
        {
            let said = "must have at most 200 bytes, and neither blanks nor slashes";
            self.error(
                value,
                "name",
                format!("`{}` {said}: the extension's ids are made from it", shown(name)),
            );
            return;
        }
        let segment = |s: &str| {
            s.starts_with(|c: char| c.is_ascii_lowercase())
                && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if !name.contains('.') || !name.split('.').all(segment) {
            let said = "is no reverse-domain name in lower case, like `com.example.reports`";
            self.warn(value, "name", format!("`{}` {said}; the existing platform refuses it", shown(name)));
        }
    }

    fn publisher(&mut self, value: &Value<'a>) {
        let Some(publisher) = self.string(value, "publisher") else { return };
        if publisher.len() > 200 || publisher.contains(|c: char| c.is_control() || matches!(c, '/' | '\\')) {
            let said = "must have at most 200 bytes and no slashes: the extension's ids are made from it";
            self.error(value, "publisher", format!("`{}` {said}", shown(publisher)));
        }
    }

    fn version(&mut self, value: &Value<'a>) {
        let Some(version) = self.string(value, "version") else { return };
        if let Err(error) = semver::Version::parse(version) {
            let message = if version.ends_with(".*") {
                format!(
                    "`{}` leaves a number open: nobody counts here, what is packed is what runs; give all three, like `1.4.2`",
                    shown(version)
                )
            } else {
                format!("`{}` is no semantic version like `1.4.2` ({error})", shown(version))
            };
            self.error(value, "version", message);
        }
    }

    fn runtime(&mut self, value: &Value<'a>) {
        let Some(runtime) = self.string(value, "runtime") else { return };
        if !runtime.contains(['@', '-']) {
            self.error(value, "runtime", format!("`{}` names no runtime; write `wasm-js@1`", shown(runtime)));
        } else if runtime != "wasm-js@1" {
            let said = "is not `wasm-js@1`, the only one that the existing platform takes; components of any language run here";
            self.warn(value, "runtime", format!("`{}` {said}", shown(runtime)));
        }
    }

    fn capabilities(&mut self, value: &Value<'a>) -> Vec<String> {
        let mut known: Vec<String> = Vec::new();
        let Some(list) = self.array(value, "capabilities") else { return known };
        for (i, element) in list.elements.iter().enumerate() {
            let field = format!("capabilities[{i}]");
            let Some(text) = self.string(element, &field) else { continue };
            let Some(capability) = Capability::from_manifest(text) else {
                if matches!(text, "events.emit" | "events.subscribe" | "metrics") {
                    let said = "was planned and never built; there is nothing to grant";
                    self.warn(element, &field, format!("`{text}` {said}"));
                } else {
                    let meant = did_you_mean(text, Capability::ALL.iter().map(|c| c.as_str()));
                    self.error(element, &field, format!("`{}` is no capability{meant}", shown(text)));
                }
                continue;
            };
            if !text.trim().to_ascii_lowercase().starts_with("cap:") {
                self.note(element, &field, format!("`{text}` is the older name of `{capability}`"));
            }
            if known.iter().any(|other| other == capability.as_str()) {
                self.warn(element, &field, format!("`{capability}` is listed twice"));
            } else {
                known.push(capability.as_str().to_owned());
            }
        }
        known
    }

    fn ui(&mut self, value: &Value<'a>) {
        let Some(ui) = self.object(value, "ui") else { return };
        for required in ["type", "entry"] {
            if ui.get(required).is_none() {
                self.error(ui, &format!("ui.{required}"), "is missing");
            }
        }
        for property in &ui.properties {
            match property.name.as_str() {
                "type" => match self.string(&property.value, "ui.type") {
                    None | Some("iframe") => {}
                    Some(other) => {
                        let message = format!("`{}` is not `iframe`, the only type there is", shown(other));
                        self.error(&property.value, "ui.type", message);
                    }
                },
                "entry" => {
                    self.path(&property.value, "ui.entry");
                }
                "hooks" => self.hooks(&property.value),
                "routes" => {
                    self.note(&property.value, "ui.routes", "is accepted and not used by this platform")
                }
                other => {
                    let meant = did_you_mean(other, ["type", "entry", "hooks", "routes"]);
                    let field = format!("ui.{}", shown(other));
                    self.error(property, &field, format!("is no field of `ui`{meant}"));
                }
            }
        }
    }

    fn hooks(&mut self, value: &Value<'a>) {
        let Some(hooks) = self.object(value, "ui.hooks") else { return };
        for property in &hooks.properties {
            let name = property.name.as_str();
            let field = format!("ui.hooks.{}", shown(name));
            if !HOOKS.contains(&name) {
                let meant = did_you_mean(name, HOOKS);
                self.warn(property, &field, format!("is no hook that this platform shows{meant}"));
                continue;
            }
            let Some(hook) = self.object(&property.value, &field) else { continue };
            match hook.get("label") {
                Some(label) => {
                    self.string(&label.value, &format!("{field}.label"));
                }
                None => self.error(hook, &format!("{field}.label"), "is missing"),
            }
        }
    }

    fn limits(&mut self, value: &Value<'a>) {
        let Some(limits) = self.object(value, "limits") else { return };
        for property in &limits.properties {
            let name = property.name.as_str();
            let field = format!("limits.{}", shown(name));
            let Some((_, least, most)) = LIMITS.iter().find(|(known, ..)| *known == name) else {
                let meant = did_you_mean(name, LIMITS.map(|(known, ..)| known));
                self.error(property, &field, format!("is no limit{meant}"));
                continue;
            };
            let number = property.value.as_number_lit().and_then(|number| number.value.parse::<u64>().ok());
            match number {
                Some(number) if (*least..=*most).contains(&number) => {}
                Some(number) if *most < u64::MAX => {
                    self.error(&property.value, &field, format!("is {number}; it must be {least} to {most}"));
                }
                _ => self.error(&property.value, &field, format!("must be a whole number, at least {least}")),
            }
        }
    }

    fn entry(&mut self, value: &Value<'a>) {
        let Some(entry) = self.path(value, "entry") else { return };
        if entry != longshore_proto::manifest::DEFAULT_ENTRY {
            let said = "is where the component is looked for here; the existing platform always takes `dist/main.wasm`";
            self.note(value, "entry", format!("`{}` {said}", shown(&entry)));
        }
    }

    fn assets(&mut self, value: &Value<'a>) {
        let Some(list) = self.array(value, "assets") else { return };
        for (i, element) in list.elements.iter().enumerate() {
            if let Some(path) = self.path(element, &format!("assets[{i}]")) {
                self.files.push(path);
            }
        }
    }

    fn precompiled(&mut self, value: &Value<'a>) {
        let Some(targets) = self.object(value, "precompiled") else { return };
        for property in &targets.properties {
            let field = format!("precompiled.{}", shown(property.name.as_str()));
            if let Some(path) = self.path(&property.value, &field) {
                self.files.push(path);
            }
        }
        let said = "is packed and not used: workers compile components themselves, whose machine code they could not trust otherwise";
        self.note(value, "precompiled", said);
    }
}

fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::StringLit(_) => "a text",
        Value::NumberLit(_) => "a number",
        Value::BooleanLit(_) => "true or false",
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::NullKeyword(_) => "null",
    }
}
