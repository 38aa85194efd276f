//! `api.endpoints`: what the gateway lets through.

use std::collections::HashMap;

use jsonc_parser::ast::{Object, Value};

use super::super::problem::{did_you_mean, shown};
use super::{Check, kind};

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"];
const FIELDS: [&str; 4] = ["method", "path", "handler", "idempotent"];
/// Endpoints of one manifest: matching them is work for every call.
const MAX_ENDPOINTS: usize = 1_000;

impl<'a> Check<'a> {
    pub(super) fn api(&mut self, value: &Value<'a>) {
        let Some(api) = self.object(value, "api") else { return };
        for property in &api.properties {
            if property.name.as_str() != "endpoints" {
                let meant = did_you_mean(property.name.as_str(), ["endpoints"]);
                let field = format!("api.{}", shown(property.name.as_str()));
                self.error(property, &field, format!("is no field of `api`{meant}"));
                continue;
            }
            let Some(list) = self.array(&property.value, "api.endpoints") else { continue };
            if list.elements.len() > MAX_ENDPOINTS {
                let message = format!("has {} entries; {MAX_ENDPOINTS} are allowed", list.elements.len());
                self.error(&property.value, "api.endpoints", message);
            }
            // Method and shape of the path -> where it was first.
            let mut seen = HashMap::new();
            for (i, element) in list.elements.iter().enumerate().take(MAX_ENDPOINTS) {
                let field = format!("api.endpoints[{i}]");
                let Some(endpoint) = self.object(element, &field) else { continue };
                let Some(shape) = self.endpoint(endpoint, &field) else { continue };
                if let Some(first) = seen.insert(shape, i) {
                    let message = format!("matches the same calls as api.endpoints[{first}]");
                    self.error(element, &field, message);
                }
            }
        }
    }

    /// Its method, and its path with the parameters' names taken out.
    fn endpoint(&mut self, endpoint: &Object<'a>, field: &str) -> Option<(String, String)> {
        for required in ["method", "path", "handler"] {
            if endpoint.get(required).is_none() {
                self.error(endpoint, &format!("{field}.{required}"), "is missing");
            }
        }
        let (mut method, mut path) = (None, None);
        for property in &endpoint.properties {
            let name = property.name.as_str();
            let field = format!("{field}.{}", shown(name));
            match name {
                "method" => method = self.method(&property.value, &field),
                "path" => path = self.route(&property.value, &field),
                "handler" => self.handler(&property.value, &field),
                "idempotent" if property.value.as_boolean_lit().is_none() => {
                    let message = format!("must be true or false, not {}", kind(&property.value));
                    self.error(&property.value, &field, message);
                }
                "idempotent" => {}
                name => {
                    let meant = did_you_mean(name, FIELDS);
                    self.error(property, &field, format!("is no field of an endpoint{meant}"));
                }
            }
        }
        Some((method?, path?))
    }

    fn method(&mut self, value: &Value<'a>, field: &str) -> Option<String> {
        let method = self.string(value, field)?;
        if METHODS.contains(&method) {
            return Some(method.to_owned());
        }
        let upper = method.trim().to_ascii_uppercase();
        let hint = if METHODS.contains(&upper.as_str()) {
            format!("write `{upper}`")
        } else {
            format!("methods are {}", METHODS.join(", "))
        };
        self.error(value, field, format!("`{}` is no method; {hint}", shown(method)));
        None
    }

    fn route(&mut self, value: &Value<'a>, field: &str) -> Option<String> {
        let path = self.string(value, field)?;
        let mut bad = |said: &str| self.error(value, field, format!("`{}` {said}", shown(path)));
        if !path.starts_with('/') {
            bad("must begin with `/`");
        } else if path
            .contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '\\' | '?' | '#'))
        {
            bad("must be a path alone, without blanks, query or `\\`");
        } else if path.len() > 1_024 {
            bad("is longer than 1024 bytes");
        } else if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            bad("must not contain `.` or `..`");
        } else if path.split('/').any(|segment| segment == ":") {
            bad("has a parameter without a name");
        } else {
            let mut names = std::collections::HashSet::new();
            if path.split('/').filter(|s| s.starts_with(':')).any(|name| !names.insert(name)) {
                bad("has two parameters of one name");
                return None;
            }
            let shape = path.split('/').map(|s| if s.starts_with(':') { ":" } else { s });
            return Some(shape.collect::<Vec<_>>().join("/"));
        }
        None
    }

    fn handler(&mut self, value: &Value<'a>, field: &str) {
        let Some(handler) = self.string(value, field) else { return };
        if handler.contains("..") {
            self.error(value, field, format!("`{}` must not contain `..`", shown(handler)));
        }
    }
}
