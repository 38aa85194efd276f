//! What a schedule must be before it is kept (interop 6.3), each complaint under the name of its field.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use longshore_proto::manifest::Endpoint;
use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::model::EndpointInfo;
use crate::timetable::{self, Timetable};

/// The longest name.
pub const MAX_NAME_CHARS: usize = 128;
/// The longest payload.
pub const MAX_PAYLOAD_CHARS: usize = 100_000;

/// The namespace of endpoint ids: any constant would do, but it must never change.
const ENDPOINTS: Uuid = Uuid::from_u128(0x6c6f_6e67_7368_6f72_652d_7363_6865_6475);

/// Complaints by field.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) BTreeMap<String, String>);

impl Faults {
    /// The value, or a complaint about it.
    pub(crate) fn take<T, E: ToString>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|why| self.0.insert(field.to_owned(), why.to_string())).ok()
    }
}

/// The endpoint that a selector means: `path` or `METHOD path`.
pub(crate) fn endpoint<'e>(selector: &str, declared: &'e [Endpoint]) -> Result<&'e Endpoint, String> {
    let selector = selector.trim();
    let (method, path) = match selector.split_once(char::is_whitespace) {
        Some((method, path)) => (Some(method), path.trim()),
        None => (None, selector),
    };
    if !path.starts_with('/') {
        return Err("expected a path such as /sync, or a method and a path such as POST /sync".to_owned());
    }
    if path.contains("/:") {
        return Err("an endpoint with parameters cannot be scheduled".to_owned());
    }
    if let Some(method) = method.filter(|method| !may_be_scheduled(method)) {
        return Err(format!("only GET and POST can be scheduled, not {}", shown(method)));
    }
    let same_path = || declared.iter().filter(|endpoint| endpoint.path == path);
    // Without a method the first of the manifest that can be scheduled.
    let wanted = |endpoint: &&Endpoint| match method {
        Some(method) => endpoint.method.eq_ignore_ascii_case(method),
        None => may_be_scheduled(&endpoint.method),
    };
    same_path().find(wanted).ok_or_else(|| match same_path().next() {
        Some(other) if method.is_none() => {
            format!("only GET and POST can be scheduled, not {}", shown(&other.method))
        }
        _ => format!("the extension's manifest declares no endpoint {}", shown(selector)),
    })
}

/// What guests see of the declared endpoints.
pub(crate) fn endpoint_infos(install: &str, declared: &[Endpoint]) -> Vec<EndpointInfo> {
    let info = |endpoint: &Endpoint| {
        let method = endpoint.method.to_ascii_uppercase();
        let name = format!("{install}\0{method}\0{}", endpoint.path);
        EndpointInfo {
            id: Uuid::new_v5(&ENDPOINTS, name.as_bytes()).to_string(),
            schedulable: may_be_scheduled(&method) && !endpoint.path.contains("/:"),
            method,
            path: endpoint.path.clone(),
            handler: endpoint.handler.clone(),
        }
    };
    declared.iter().map(info).collect()
}

fn may_be_scheduled(method: &str) -> bool {
    method.eq_ignore_ascii_case("GET") || method.eq_ignore_ascii_case("POST")
}

/// What a guest wrote, short enough for a message.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// A name to keep; blank is none.
pub(crate) fn name(name: &str) -> Result<Option<String>, String> {
    let name = name.trim();
    match name.chars().count() {
        0 => Ok(None),
        1..=MAX_NAME_CHARS => Ok(Some(name.to_owned())),
        n => Err(format!("it has {n} characters; {MAX_NAME_CHARS} are allowed")),
    }
}

/// A payload to keep; empty is none.
pub(crate) fn payload(text: &str) -> Result<Option<String>, String> {
    let chars = text.chars().count();
    if chars > MAX_PAYLOAD_CHARS {
        return Err(format!("it has {chars} characters; {MAX_PAYLOAD_CHARS} are allowed"));
    }
    let json = text.trim();
    if json.is_empty() {
        return Ok(None);
    }
    serde_json::from_str::<IgnoredAny>(json).map_err(|error| format!("it is no JSON: {error}"))?;
    if json.starts_with(['{', '[']) {
        Ok(Some(json.to_owned()))
    } else {
        Err("it must be a JSON object or array".to_owned())
    }
}

/// Cron and time zone together; complaints go to `faults`.
pub(crate) fn timetable(
    cron: &str,
    zone: &str,
    min_interval: Duration,
    now_ms: i64,
    faults: &mut Faults,
) -> Option<Timetable> {
    let zone = faults.take("timezone", timetable::zone(zone));
    // A broken expression is worth a complaint even where the zone is broken too.
    let table = faults.take("cron", Timetable::new(cron, zone.unwrap_or(Tz::UTC)))?;
    faults.take("cron", table.check(min_interval, now_ms))?;
    zone.map(|_| table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Vec<Endpoint> {
        let endpoint = |method: &str, path: &str| Endpoint {
            idempotent: false,
            method: method.into(),
            path: path.into(),
            handler: "h".into(),
        };
        vec![
            endpoint("POST", "/sync"),
            endpoint("GET", "/sync"),
            endpoint("DELETE", "/sync"),
            endpoint("PUT", "/put"),
            endpoint("GET", "/items/:id"),
            endpoint("get", "/lower"),
        ]
    }

    fn chosen(selector: &str) -> Result<String, String> {
        endpoint(selector, &declared()).map(|e| format!("{} {}", e.method, e.path))
    }

    #[test]
    fn a_selector_is_a_path_or_a_method_and_a_path() {
        assert_eq!(chosen("/sync").unwrap(), "POST /sync", "the first in the manifest");
        assert_eq!(chosen("GET /sync").unwrap(), "GET /sync");
        assert_eq!(chosen(" get   /sync ").unwrap(), "GET /sync");
        assert_eq!(chosen("GET /lower").unwrap(), "get /lower");
    }

    #[test]
    fn what_cannot_be_scheduled_is_refused_with_its_reason() {
        for (selector, why) in [
            ("DELETE /sync", "only GET and POST"),
            ("/put", "only GET and POST can be scheduled, not PUT"),
            ("GET /items/:id", "parameters"),
            ("/items/:id", "parameters"),
            ("/nowhere", "declares no endpoint /nowhere"),
            ("POST /lower", "declares no endpoint POST /lower"),
            ("sync", "expected a path"),
            ("", "expected a path"),
            ("GET  ", "expected a path"),
            ("GET /sync /other", "declares no endpoint"),
        ] {
            let error = chosen(selector).unwrap_err();
            assert!(error.contains(why), "{selector}: {error}");
        }
        assert!(endpoint("/sync", &[]).unwrap_err().contains("declares no endpoint /sync"));
        let long = endpoint(&format!("/{}", "x".repeat(10_000)), &[]).unwrap_err();
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn the_id_of_an_endpoint_depends_on_install_method_and_path_alone() {
        let ids = |install: &str| {
            endpoint_infos(install, &declared()).into_iter().map(|e| e.id).collect::<Vec<_>>()
        };
        assert_eq!(ids("a"), ids("a"));
        let mut all = [ids("a"), ids("b")].concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 12);
        assert!(all.iter().all(|id| Uuid::parse_str(id).is_ok()));
    }

    #[test]
    fn endpoints_say_whether_they_can_be_scheduled() {
        let schedulable: Vec<_> =
            endpoint_infos("i", &declared()).into_iter().map(|e| (e.method, e.schedulable)).collect();
        let expected =
            [("POST", true), ("GET", true), ("DELETE", false), ("PUT", false), ("GET", false), ("GET", true)];
        assert_eq!(schedulable, expected.map(|(method, is)| (method.to_owned(), is)));
    }

    #[test]
    fn a_payload_is_an_object_or_an_array_of_bounded_length() {
        assert_eq!(payload(r#" {"a":1} "#).unwrap().unwrap(), r#"{"a":1}"#);
        assert_eq!(payload("[]").unwrap().unwrap(), "[]");
        assert_eq!(payload("").unwrap(), None);
        for bad in ["1", "\"x\"", "null", "{", "{}{}", "[1,]", "{\"a\":1}x"] {
            assert!(payload(bad).is_err(), "{bad}");
        }
        assert!(payload(&"[".repeat(90_000)).is_err(), "depth is bounded by the parser");
        let at_the_limit = format!("[\"{}\"]", "ü".repeat(MAX_PAYLOAD_CHARS - 4));
        assert!(payload(&at_the_limit).is_ok());
        assert!(payload(&format!("{at_the_limit} ")).unwrap_err().contains("100001"));
    }

    #[test]
    fn a_name_is_bounded_in_characters() {
        assert_eq!(name("  nightly ").unwrap().unwrap(), "nightly");
        assert_eq!(name(" ").unwrap(), None);
        assert!(name(&"ü".repeat(128)).unwrap().is_some());
        assert!(name(&"x".repeat(129)).unwrap_err().contains("129"));
    }

    #[test]
    fn a_bad_zone_and_a_bad_expression_are_both_named() {
        let mut faults = Faults::default();
        assert!(timetable("* * *", "Nowhere", Duration::from_secs(300), 0, &mut faults).is_none());
        assert_eq!(faults.0.keys().collect::<Vec<_>>(), ["cron", "timezone"]);
    }
}
