//! What a run leaves in the stream.

use longshore_proto::ErrorCode;
use longshore_proto::event::{Kind, Level, Stream};
use serde_json::json;

use crate::support::{call, fixture, fixture_with};

#[tokio::test]
async fn a_run_tells_its_story_in_order_and_every_event_names_tenant_and_request() {
    let fixture = fixture();
    fixture.run(call("count", "/path?id=a&token=secret")).await.result.unwrap();
    let events = fixture.events();
    let kinds: Vec<_> = events.iter().map(|e| e.kind).collect();
    assert_eq!(
        kinds,
        [Kind::Context, Kind::HandlerStart, Kind::Log, Kind::Log, Kind::Response, Kind::Usage,]
    );
    for event in &events {
        let origin = event.origin.as_ref().unwrap();
        assert_eq!((origin.tenant.as_str(), origin.request.as_deref()), ("tenant-1", Some("r-1")));
        assert!(!format!("{event:?}").contains("secret"), "queries stay out of events: {event:?}");
    }
    assert_eq!(fixture.messages(Kind::Log), ["ran a", "done a"]);
    let response = fixture.of_kind(Kind::Response).pop().unwrap().data.unwrap().value();
    assert_eq!((&response["status"], &response["response_bytes"]), (&json!(200), &json!(1)));
}

#[tokio::test]
async fn a_run_that_fails_keeps_what_it_logged_before() {
    let fixture = fixture();
    assert_eq!(fixture.code(call("trap", "/?after=2&kind=panic")).await, ErrorCode::Trap);
    assert_eq!(fixture.messages(Kind::Log), ["line 0", "line 1"]);
    assert!(fixture.messages(Kind::Stderr).concat().contains("this guest panics when asked to"));
    let kinds: Vec<_> = fixture.events().iter().map(|e| e.kind).collect();
    assert_eq!(kinds[kinds.len() - 2..], [Kind::Error, Kind::Usage]);
}

#[tokio::test]
async fn standard_output_and_standard_error_come_line_by_line() {
    let fixture = fixture();
    fixture.run(call("stdio", "/?long=20000")).await.result.unwrap();
    let out = fixture.of_kind(Kind::Stdout);
    let texts: Vec<_> = out.iter().map(|e| e.message.as_str()).collect();
    let long = "l".repeat(16 << 10);
    assert_eq!(
        texts,
        [
            "out first",
            "out partial",
            "out two",
            "out three",
            "",
            "out after empty",
            "out cut \u{20ac}",
            "out bad \u{fffd}\u{fffd} bytes",
            "out nul \0 byte",
            &long,
            "out last without end",
        ]
    );
    let cut: Vec<_> = out.iter().filter(|e| e.truncated).map(|e| e.message.len()).collect();
    assert_eq!(cut, [16 << 10]);
    assert!(out.iter().all(|e| (e.level, e.stream) == (Level::Info, Stream::Stdout)));
    let err = fixture.of_kind(Kind::Stderr);
    let texts: Vec<_> = err.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(texts, ["err first", "err between", "err gr\u{fc}n \u{1f980}", "err last without end"]);
    assert!(err.iter().all(|e| (e.level, e.stream) == (Level::Error, Stream::Stderr)));
}

#[tokio::test]
async fn a_flood_of_lines_is_cut_off_and_one_event_says_how_much_is_missing() {
    let fixture = fixture_with(|c| c.maxima.log_bytes = 10_000);
    fixture.run(call("log-flood", "/?n=1000&bytes=100&to=log,stdout,stderr")).await.result.unwrap();
    let kept: usize = [Kind::Log, Kind::Stdout, Kind::Stderr]
        .into_iter()
        .flat_map(|kind| fixture.messages(kind))
        .map(|line| line.len())
        .sum();
    assert!((5_000..10_000).contains(&kept), "{kept}");
    let dropped = fixture.of_kind(Kind::Dropped);
    assert_eq!(dropped.len(), 1);
    let data = dropped[0].data.as_ref().unwrap().value();
    assert!(data["lines"].as_u64().unwrap() > 2_900, "{data}");
    assert!(fixture.events().len() < 300, "the flood's host calls are not published either");
}

#[tokio::test]
async fn a_long_log_line_is_cut_at_a_character() {
    let fixture = fixture_with(|c| c.line_bytes = 100);
    fixture.run(call("log-flood", "/?n=3&bytes=300&wide&to=log,stdout")).await.result.unwrap();
    for kind in [Kind::Log, Kind::Stdout] {
        let lines = fixture.of_kind(kind);
        assert!(!lines.is_empty());
        for line in lines {
            assert!(line.truncated && line.message.len() <= 100 && line.message.len() > 96, "{line:?}");
            assert!(!line.message.contains('\u{fffd}'), "{line:?}");
        }
    }
}

#[tokio::test]
async fn a_logged_json_object_becomes_fields_and_anything_else_stays_a_text() {
    let fixture = fixture();
    let lines = [
        (r#"{"order": 7, "state": "paid"}"#, Some(json!({"fields": {"order": 7, "state": "paid"}}))),
        (r#"[1, 2]"#, None),
        (r#"{"order": }"#, None),
        ("plain", None),
    ];
    let calls: Vec<_> =
        lines.iter().map(|(line, _)| json!({"fn": "logging.log-info", "args": {"message": line}})).collect();
    let body = json!({ "calls": calls }).to_string();
    fixture.run(call("driver", "/").post("application/json", body)).await.result.unwrap();
    let events: Vec<_> = fixture
        .of_kind(Kind::Log)
        .into_iter()
        .map(|e| (e.message, e.data.map(|data| data.value())))
        .collect();
    let expected: Vec<_> = lines.into_iter().map(|(line, data)| (line.to_owned(), data)).collect();
    assert_eq!(events, expected);
}
