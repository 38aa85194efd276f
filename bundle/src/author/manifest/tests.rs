use super::*;

/// One field a line, so that lines in the table below can be counted.
const GOOD: &str = r#"{
  "name": "com.example.reports",
  "publisher": "Example",
  "version": "1.4.2",
  "runtime": "wasm-js@1",
  "capabilities": ["cap:http.fetch", "storage.kv"],
  "ui": {
    "type": "iframe",
    "entry": "ui/index.html",
    "hooks": { "appMenu": { "label": "Reports" } }
  },
  "api": {
    "endpoints": [
      { "method": "GET", "path": "/reports/:id", "handler": "dist/main" },
      { "method": "POST", "path": "/reports", "handler": "dist/main", "idempotent": true }
    ]
  },
  "limits": { "timeout_ms": 5000, "memory_mb": 64, "host_calls": 0 }
}"#;

fn said(json: &str) -> Vec<String> {
    check(json.as_bytes()).problems.iter().map(ToString::to_string).collect()
}

/// The one error in a manifest where `from` was replaced by `to`.
fn error(from: &str, to: &str) -> Problem {
    assert!(GOOD.contains(from), "{from}");
    let checked = check(GOOD.replacen(from, to, 1).as_bytes());
    let mut errors: Vec<_> = checked.problems.into_iter().filter(|p| p.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{to}: {errors:?}");
    assert!(checked.manifest.is_none());
    errors.remove(0)
}

#[test]
fn a_good_manifest_has_no_problems_but_notes_and_its_capabilities_under_todays_names() {
    let checked = check(GOOD.as_bytes());
    let said: Vec<_> = checked.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["manifest.json:6: note: capabilities[1]: `storage.kv` is the older name of `cap:storage.kv`"]
    );
    let manifest = checked.manifest.unwrap();
    assert_eq!(manifest.capabilities, ["cap:http.fetch", "cap:storage.kv"]);
    assert!(manifest.api.unwrap().endpoints[1].idempotent);
}

#[test]
fn every_mistake_is_shown_with_its_line_and_field() {
    let table = [
        (r#""name": "com.example.reports""#, r#""name": 7"#, 2, "name", "must be a text, not a number"),
        (r#""com.example.reports""#, r#"" ""#, 2, "name", "is empty"),
        (r#""com.example.reports""#, r#""a/b.c""#, 2, "name", "neither blanks nor slashes"),
        (r#""name": "com.example.reports","#, "", 1, "name", "is missing"),
        (r#""Example""#, r#""""#, 3, "publisher", "is empty"),
        (r#""Example""#, r#""a/b""#, 3, "publisher", "no slashes"),
        (r#""1.4.2""#, r#""1.4.*""#, 4, "version", "leaves a number open"),
        (r#""1.4.2""#, r#""1.4""#, 4, "version", "no semantic version"),
        (r#""1.4.2""#, r#""v1.4.2""#, 4, "version", "no semantic version"),
        (r#""1.4.2""#, "null", 4, "version", "must be a text, not null"),
        (r#""wasm-js@1""#, r#""wasm""#, 5, "runtime", "write `wasm-js@1`"),
        (r#"["cap:http.fetch", "storage.kv"]"#, r#""cap:http.fetch""#, 6, "capabilities", "must be a list"),
        (
            r#""cap:http.fetch""#,
            r#""cap:http.fetsh""#,
            6,
            "capabilities[0]",
            "did you mean `cap:http.fetch`?",
        ),
        (r#""storage.kv""#, "true", 6, "capabilities[1]", "must be a text, not true or false"),
        (r#""iframe""#, r#""popup""#, 8, "ui.type", "is not `iframe`"),
        (r#""type": "iframe","#, "", 7, "ui.type", "is missing"),
        (r#""ui/index.html""#, r#""/ui/index.html""#, 9, "ui.entry", "relative path"),
        (r#""ui/index.html""#, r#""ui/../../x.html""#, 9, "ui.entry", "relative path"),
        (r#""ui/index.html""#, r#""ui\\index.html""#, 9, "ui.entry", "relative path"),
        (r#""hooks""#, r#""hook""#, 10, "ui.hook", "did you mean `hooks`?"),
        (r#"{ "label": "Reports" }"#, "{}", 10, "ui.hooks.appMenu.label", "is missing"),
        (r#""endpoints""#, r#""endpoint""#, 13, "api.endpoint", "did you mean `endpoints`?"),
        (r#""GET""#, r#""get""#, 14, "api.endpoints[0].method", "write `GET`"),
        (r#""GET""#, r#""FETCH""#, 14, "api.endpoints[0].method", "methods are GET"),
        (r#""/reports/:id""#, r#""reports""#, 14, "api.endpoints[0].path", "begin with `/`"),
        (r#""/reports/:id""#, r#""/a b""#, 14, "api.endpoints[0].path", "without blanks"),
        (r#""/reports/:id""#, r#""/a?x=1""#, 14, "api.endpoints[0].path", "query"),
        (r#""/reports/:id""#, r#""/a/../b""#, 14, "api.endpoints[0].path", "`..`"),
        (r#""/reports/:id""#, r#""/a/:""#, 14, "api.endpoints[0].path", "without a name"),
        (r#""/reports/:id""#, r#""/:a/:a""#, 14, "api.endpoints[0].path", "two parameters of one name"),
        (r#", "handler": "dist/main" }"#, " }", 14, "api.endpoints[0].handler", "is missing"),
        (r#""dist/main" }"#, r#""../main" }"#, 14, "api.endpoints[0].handler", "`..`"),
        (
            r#""idempotent": true"#,
            r#""idempotent": "yes""#,
            15,
            "api.endpoints[1].idempotent",
            "true or false",
        ),
        (
            r#""idempotent": true"#,
            r#""idempotant": true"#,
            15,
            "api.endpoints[1].idempotant",
            "did you mean `idempotent`?",
        ),
        ("5000", "0", 18, "limits.timeout_ms", "is 0; it must be 1 to 300000"),
        ("5000", "300001", 18, "limits.timeout_ms", "must be 1 to 300000"),
        ("5000", "1.5", 18, "limits.timeout_ms", "whole number"),
        (r#""memory_mb": 64"#, r#""memory": 64"#, 18, "limits.memory", "did you mean `memory_mb`?"),
        (r#""memory_mb": 64"#, r#""memory_mb": 1025"#, 18, "limits.memory_mb", "1 to 1024"),
        (r#""limits": {"#, r#""limit": {"#, 18, "limit", "did you mean `limits`?"),
        (
            r#""runtime": "wasm-js@1","#,
            r#""runtime": "wasm-js@1", "version": "2.0.0","#,
            5,
            "version",
            "is there twice",
        ),
        (
            r#""runtime": "wasm-js@1","#,
            r#""runtime": "wasm-js@1", "entry": "../x.wasm","#,
            5,
            "entry",
            "relative path",
        ),
        (
            r#""runtime": "wasm-js@1","#,
            r#""runtime": "wasm-js@1", "assets": ["/etc/passwd"],"#,
            5,
            "assets[0]",
            "relative path",
        ),
    ];
    for (from, to, line, field, words) in table {
        let error = error(from, to);
        assert_eq!((error.line, error.field.as_str()), (Some(line), field), "{error}");
        assert!(error.message.contains(words), "{error}");
    }
}

#[test]
fn all_mistakes_are_shown_at_once_in_the_order_of_their_lines() {
    let json = "{\n\"version\": \"1\",\n\"colour\": 1,\n\"api\": {\"endpoints\": [\n{}\n]}}";
    let fields: Vec<_> = check(json.as_bytes())
        .problems
        .into_iter()
        .filter(|p| p.severity == Severity::Error)
        .map(|p| (p.line.unwrap(), p.field))
        .collect();
    let expected = [
        (1, "name"),
        (2, "version"),
        (3, "colour"),
        (5, "api.endpoints[0].method"),
        (5, "api.endpoints[0].path"),
        (5, "api.endpoints[0].handler"),
    ];
    assert_eq!(fields, expected.map(|(line, field)| (line, field.to_owned())));
}

#[test]
fn what_only_the_existing_platform_refuses_is_a_warning() {
    for (from, to, words) in [
        (r#""com.example.reports""#, r#""Com.Example.Reports""#, "reverse-domain"),
        (r#""com.example.reports""#, r#""reports""#, "reverse-domain"),
        (r#""publisher": "Example","#, "", "local-dev"),
        (r#""wasm-js@1""#, r#""wasm-component@2""#, "components of any language run here"),
        (r#""storage.kv""#, r#""events.emit""#, "never built"),
        (r#""storage.kv""#, r#""CAP:HTTP.FETCH""#, "listed twice"),
        (r#""appMenu""#, r#""sideMenu""#, "no hook that this platform shows"),
    ] {
        let checked = check(GOOD.replacen(from, to, 1).as_bytes());
        assert!(checked.manifest.is_some(), "{to}");
        let warned = |p: &Problem| p.severity == Severity::Warning && p.message.contains(words);
        assert!(checked.problems.iter().any(warned), "{to}: {:?}", checked.problems);
    }
}

#[test]
fn what_is_accepted_and_not_used_is_said() {
    for field in [r#""settings": [1]"#, r#""events": []"#, r#""precompiled": {"x86": "precompiled/x.cwasm"}"#]
    {
        let said = said(&GOOD.replacen("\"limits\"", &format!("{field}, \"limits\""), 1));
        assert!(
            said.iter().any(|s| s.starts_with("manifest.json:18: note: ") && s.contains("not used")),
            "{said:?}"
        );
    }
}

#[test]
fn the_files_that_a_manifest_names_are_known() {
    let json = r#"{"name":"a.b","publisher":"P","version":"1.0.0","runtime":"wasm-js@1","assets":["assets/a.png"],"sbom":"./sbom.spdx.json",
        "precompiled":{"x":"precompiled/x.cwasm"},"$schema":"https://x.test/s.json"}"#;
    let checked = check(json.as_bytes());
    assert!(!checked.has_errors(), "{:?}", checked.problems);
    assert_eq!(checked.files, ["assets/a.png", "sbom.spdx.json", "precompiled/x.cwasm"]);
}

#[test]
fn what_is_no_manifest_at_all_is_said_in_one_line() {
    for (json, words) in [
        ("", "is no JSON"),
        ("[]", "is not a JSON object"),
        ("\u{feff}{}", "byte order mark"),
        ("{\"name\": \"a.b\",\n}", "manifest.json:2: is no JSON"),
        ("// comment\n{}", "is no JSON"),
        ("{'name': 1}", "is no JSON"),
    ] {
        let said = said(json);
        assert!(said.len() == 1 && said[0].contains(words), "{json}: {said:?}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(said(&deep)[0].contains("recursion limit"), "a deep one is no stack overflow");
    assert!(check(b"\xff{}").problems[0].message.contains("UTF-8"));
    assert!(check(&vec![b' '; MAX_BYTES + 1]).problems[0].message.contains("are allowed"));
}

#[test]
fn a_hostile_manifest_makes_neither_endless_nor_harmful_words() {
    let fields: Vec<String> = (0..5_000).map(|i| format!("\"{}{i}\u{7f}\": 1", "x".repeat(100))).collect();
    let checked = check(format!("{{{}}}", fields.join(",")).as_bytes());
    assert_eq!(checked.problems.len(), MAX_PROBLEMS);
    assert!(checked.problems.iter().all(|p| p.to_string().len() < 500 && !p.to_string().contains('\u{7f}')));
}

#[test]
fn the_manifests_of_all_examples_pass() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let Ok(json) = std::fs::read(entry.unwrap().path().join("manifest.json")) else { continue };
        let checked = check(&json);
        assert!(checked.problems.is_empty(), "{:?}", checked.problems);
        seen += 1;
    }
    assert!(seen > 20);
}
