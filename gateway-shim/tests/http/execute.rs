//! Transport statuses and envelopes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_shim::dispatch::{Answer, AnswerBody, Call};
use gateway_shim::http::MAX_JSON_BYTES;
use longshore_proto::{CallError, ErrorCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Fake, Front, body_of, echo, get, post, request};

#[tokio::test]
async fn an_answer_is_an_envelope_with_the_guests_status_headers_and_body() {
    let front = Front::start(echo(), &[]).await;
    let reply = front.execute(&request()).await;
    let envelope = reply.envelope();
    assert_eq!(envelope["status"], 201);
    assert_eq!(envelope["error"], Value::Null);
    assert_eq!(envelope["headers"]["X-Method"], "POST");
    assert_eq!(envelope["headers"]["X-Url"], "/x?q=1");
    assert_eq!(envelope["headers"]["X-Execution"], reply.execution());
    assert_eq!(body_of(&envelope), "hi");
}

#[tokio::test]
async fn no_body_is_null_and_an_empty_body_is_an_empty_string() {
    let front = Front::start(echo(), &[]).await;
    let mut body = request();
    body["http"]["body_b64"] = Value::Null;
    assert_eq!(front.execute(&body).await.envelope()["body_b64"], Value::Null);
    body["http"]["body_b64"] = json!("");
    assert_eq!(front.execute(&body).await.envelope()["body_b64"], "");
}

#[tokio::test]
async fn a_status_that_allows_no_body_gets_none() {
    for status in [204, 304] {
        let front = Front::start(
            Fake::new(move |_| async move {
                Ok(Answer {
                    status,
                    headers: vec![],
                    body: AnswerBody::Full(Some("x".into())),
                    trailers: vec![],
                })
            }),
            &[],
        )
        .await;
        let envelope = front.execute(&request()).await.envelope();
        assert_eq!((envelope["status"].as_u64(), &envelope["body_b64"]), (Some(status.into()), &Value::Null));
    }
}

#[tokio::test]
async fn a_status_that_callers_cannot_construct_is_an_error() {
    let answer = |_| async {
        Ok(Answer { status: 99, headers: vec![], body: AnswerBody::Full(None), trailers: vec![] })
    };
    let front = Front::start(Fake::new(answer), &[]).await;
    let envelope = front.execute(&request()).await.envelope();
    assert_eq!(envelope["status"], 500);
    assert!(envelope["error"].as_str().unwrap().starts_with("execute_failed: invalid_response"));
}

#[tokio::test]
async fn every_error_code_is_an_envelope_and_says_twice_when_to_come_back() {
    for code in ErrorCode::ALL {
        let code = *code;
        let fake = Fake::new(move |_| async move { Err(CallError::new(code, "why")) });
        let front = Front::start(fake, &[]).await;
        let reply = front.execute(&request()).await;
        let envelope = reply.envelope();
        assert_eq!(envelope["status"], code.status(), "{code}");
        assert_eq!(envelope["error"], format!("{code}: why"));
        assert_eq!(envelope["body_b64"], Value::Null);
        let again = CallError::new(code, "").retry_after_s.is_some();
        assert_eq!(reply.header("retry-after"), again.then_some("1"), "{code}");
        assert_eq!(envelope["headers"].get("retry-after"), again.then_some(&json!("1")), "{code}");
    }
}

#[tokio::test]
async fn what_is_wrong_before_the_json_is_a_transport_status_with_words() {
    let front = Front::start(echo(), &[]).await;
    let good = request().to_string();
    let mut null_config = request();
    null_config["context"]["config"] = Value::Null;
    let cases: [(&str, Vec<u8>, u16, &str); 9] = [
        ("syntax", post(&[], "{"), 400, "EOF"),
        ("empty", post(&[], ""), 400, "EOF"),
        ("no utf-8", post(&[], b"{\"context\":\"\xff\"}"), 400, "unicode"),
        ("nesting", post(&[], format!("{{\"x\":{}", "[".repeat(1_000))), 400, "EOF"),
        ("no content type", post(&[("content-type", "")], &good), 415, "application/json"),
        ("content type", post(&[("content-type", "text/json")], &good), 415, "application/json"),
        ("missing field", post(&[], "{\"http\":{\"method\":\"GET\",\"path\":\"/\"}}"), 422, "context"),
        ("null", post(&[], null_config.to_string()), 422, "null"),
        (
            "length",
            post(&[("content-length", &(MAX_JSON_BYTES + 1).to_string()), ("expect", "100-continue")], ""),
            413,
            "16777216",
        ),
    ];
    for (name, bytes, status, words) in cases {
        let reply = front.send(bytes).await;
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"), "{name}");
        assert!(reply.text().contains(words), "{name}: {}", reply.text());
        reply.execution();
    }
}

#[tokio::test]
async fn content_types_of_json_are_taken_with_parameters_and_in_any_case() {
    let front = Front::start(echo(), &[]).await;
    for value in ["application/json; charset=utf-8", "Application/JSON", "application/problem+json"] {
        front.send(post(&[("content-type", value)], request().to_string())).await.envelope();
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_even_when_its_length_is_not_announced() {
    let front = Front::start(echo(), &[]).await;
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 0x10_0000], b"\r\n"].concat();
    let mut client = front.connect().await;
    let head = post(&[("content-length", ""), ("transfer-encoding", "chunked")], "");
    client.write(head).await;
    for _ in 0..25 {
        client.write(&chunk).await;
    }
    client.write("0\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 413);
    reply.execution();
}

#[tokio::test]
async fn a_caller_that_writes_all_before_it_reads_still_gets_the_reason() {
    let front = Front::start(echo(), &[]).await;
    let reply = front.send(post(&[], vec![b' '; MAX_JSON_BYTES + 4096])).await;
    assert_eq!(reply.status, 413);
}

#[tokio::test]
async fn ten_mebibytes_go_both_ways() {
    use base64::Engine as _;
    let front = Front::start(echo(), &[]).await;
    let bytes: Vec<u8> = (0..10 * 1024 * 1024u32).map(|n| (n % 253) as u8).collect();
    let mut body = request();
    body["http"]["body_b64"] = json!(base64::engine::general_purpose::STANDARD.encode(&bytes));
    body["limits"]["timeout_ms"] = json!(60_000);
    assert!(body_of(&front.execute(&body).await.envelope()) == bytes);
}

#[tokio::test]
async fn what_is_wrong_in_the_json_is_an_envelope() {
    let front = Front::start(echo(), &[]).await;
    let with = |pointer: &str, value: Value| {
        let mut body = request();
        *body.pointer_mut(pointer).unwrap() = value;
        body.to_string()
    };
    let cases = [
        (post(&[("x-alga-tenant", "")], request().to_string()), 400, "missing_routing_headers"),
        (post(&[("x-alga-tenant", "u")], request().to_string()), 400, "tenant_mismatch"),
        (post(&[("x-alga-extension", "u")], request().to_string()), 400, "extension_mismatch"),
        (post(&[], with("/context/content_hash", json!("zz"))), 400, "invalid_content_hash"),
        (post(&[], with("/http/body_b64", json!("%"))), 500, "execute_failed: invalid_body"),
        (post(&[], with("/limits/timeout_ms", json!(0))), 400, "invalid_request"),
    ];
    for (bytes, status, code) in cases {
        let envelope = front.send(bytes).await.envelope();
        assert_eq!(envelope["status"], status, "{code}");
        assert!(envelope["error"].as_str().unwrap().starts_with(code), "{envelope}");
    }
}

#[tokio::test]
async fn the_token_is_checked_as_the_setting_says() {
    const TOKEN: (&str, &str) = ("RUNNER_SERVICE_TOKEN", "open-sesame");
    // (mode, token set here, header sent, answered)
    let cases = [
        ("if-sent", true, None, 200),
        ("if-sent", true, Some("open-sesame"), 200),
        ("if-sent", true, Some("wrong"), 401),
        ("if-sent", true, Some("open-sesam"), 401),
        ("if-sent", false, Some("anything"), 200),
        ("require", true, None, 401),
        ("require", true, Some("wrong"), 401),
        ("require", true, Some("open-sesame"), 200),
        ("off", true, None, 200),
        ("off", true, Some("wrong"), 200),
    ];
    for (mode, set, sent, status) in cases {
        let mut settings = vec![("LONGSHORE_EXECUTE_AUTH", mode)];
        settings.extend(set.then_some(TOKEN));
        let front = Front::start(echo(), &settings).await;
        let headers: Vec<_> = sent.map(|value| ("x-runner-service-token", value)).into_iter().collect();
        let reply = front.send(post(&headers, request().to_string())).await;
        assert_eq!(reply.status, status, "{mode} {set} {sent:?}: {}", reply.text());
        reply.execution();
        if status == 401 {
            assert!(reply.text().contains("x-runner-service-token"));
            assert!(reply.text().contains("RUNNER_SERVICE_TOKEN"));
            assert!(!reply.text().contains("sesame"));
        }
    }
}

#[tokio::test]
async fn during_a_rotation_the_former_token_and_the_present_one_are_both_taken() {
    let present = ("RUNNER_SERVICE_TOKEN", "open-sesame");
    let auth = ("LONGSHORE_EXECUTE_AUTH", "require");
    for (settings, former) in [
        (vec![present, auth], 401),
        (vec![present, ("RUNNER_SERVICE_TOKEN_PREVIOUS", "abracadabra"), auth], 200),
    ] {
        let front = Front::start(echo(), &settings).await;
        for (sent, status) in
            [("open-sesame", 200), ("abracadabra", former), ("open-sesameabracadabra", 401), ("", 401)]
        {
            let reply = front.send(post(&[("x-runner-service-token", sent)], request().to_string())).await;
            assert_eq!(reply.status, status, "{sent:?} with {} settings: {}", settings.len(), reply.text());
        }
    }
}

#[tokio::test]
async fn two_tokens_of_which_one_is_wrong_are_refused() {
    let settings = [("RUNNER_SERVICE_TOKEN", "a"), ("LONGSHORE_EXECUTE_AUTH", "require")];
    let front = Front::start(echo(), &settings).await;
    let body = request().to_string();
    let headers = [("x-runner-service-token", "a\r\nx-runner-service-token: b")];
    assert_eq!(front.send(post(&headers, body)).await.status, 401);
}

#[tokio::test]
async fn the_dispatcher_gets_the_call_and_a_deadline_before_the_callers() {
    let seen: Arc<Mutex<Option<(Call, Instant)>>> = Arc::default();
    let fake = {
        let seen = seen.clone();
        Fake::new(move |call| {
            *seen.lock() = Some((call, Instant::now()));
            async { Err(ErrorCode::NoWorkers.into()) }
        })
    };
    let front = Front::start(fake, &[]).await;
    let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let before = Instant::now();
    front.send(post(&[trace], request().to_string())).await.envelope();
    let (call, _) = seen.lock().take().unwrap();
    assert_eq!(call.run.context.tenant.as_str(), "t");
    assert_eq!(call.pool.as_str(), "default");
    assert_eq!(call.trace, [(trace.0.to_owned(), trace.1.to_owned())]);
    let margin = Duration::from_millis(100);
    assert!(call.answer_by >= before + Duration::from_millis(5_000) - margin);
    assert!(call.answer_by <= Instant::now() + Duration::from_millis(5_000) - margin);
}

#[tokio::test]
async fn a_request_that_arrives_after_its_deadline_does_not_run() {
    let front = Front::start(Fake::new(|_| async { panic!("must not run") }), &[]).await;
    let mut body = request();
    body["limits"]["timeout_ms"] = json!(60);
    let bytes = post(&[], body.to_string());
    let (most, last) = bytes.split_at(bytes.len() - 1);
    let mut client = front.connect().await;
    client.write(most).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.write(last).await;
    let envelope = client.reply().await.envelope();
    assert!(envelope["error"].as_str().unwrap().starts_with("overloaded: the request took"), "{envelope}");
}

#[tokio::test]
async fn health_says_what_existing_probes_read_and_more() {
    let front = Front::start(echo(), &[]).await;
    for path in ["/healthz", "/health", "/api/health"] {
        let reply = front.send(get(path)).await;
        assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")));
        let expected = json!({
            "cache_writable": true, "bundle_store": "bundle_store_unreachable", "ext_cache_max_bytes": null,
            "nats": "ok", "workers": 2,
        });
        assert_eq!(reply.json(), expected);
    }
    assert_eq!(front.send(get("/livez")).await.status, 200);
    assert_eq!(front.send(get("/readyz")).await.status, 200);
    front.readiness.condition("nats").set(false, "connecting");
    assert_eq!(front.send(get("/readyz")).await.status, 503);
    let page = front.send(get("/metrics")).await;
    assert!(page.text().contains("longshore_shim_connections"), "{}", page.text());
}

#[tokio::test]
async fn other_routes_are_404_and_empty() {
    let front = Front::start(echo(), &[]).await;
    for path in ["/", "/v1", "/v1/execute/", "/ext-ui/e/h/x.js", "/api/ext/e/x"] {
        let reply = front.send(get(path)).await;
        assert_eq!((reply.status, reply.text(), reply.header("cache-control")), (404, "", Some("no-store")));
    }
    assert_eq!(front.send(get("/v1/execute")).await.status, 405);
}

#[tokio::test]
async fn requests_are_counted_by_how_they_ended() {
    let front = Front::start(echo(), &[]).await;
    front.execute(&request()).await.envelope();
    front.send(post(&[], "{")).await;
    front.send(post(&[("x-alga-tenant", "")], request().to_string())).await.envelope();
    let page = front.metrics.render().unwrap();
    for line in [
        "longshore_shim_requests_total{code=\"ok\"} 1",
        "longshore_shim_requests_total{code=\"http_400\"} 1",
        "longshore_shim_requests_total{code=\"missing_routing_headers\"} 1",
        "longshore_shim_requests_in_flight 0",
        "longshore_shim_request_seconds_count 3",
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
}

#[tokio::test]
async fn secrets_reach_the_dispatcher_sealed_and_malformed_ones_never_do() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let calls = seen.clone();
    let fake = Fake::new(move |call: Call| {
        let calls = calls.clone();
        async move {
            let envelope = call.run.secret_envelope.unwrap();
            calls.lock().push(format!("{} {}", envelope.algorithm.unwrap(), envelope.ciphertext_b64));
            Ok(Answer { status: 200, headers: vec![], trailers: vec![], body: AnswerBody::Full(None) })
        }
    });
    let front = Front::start(fake, &[]).await;
    let mut body = request();
    // Base64 of `{"k":"canary"}`.
    let plain = "eyJrIjoiY2FuYXJ5In0=";
    body["secret_envelope"] = json!({"ciphertext_b64": plain, "algorithm": "inline/base64"});
    assert_eq!(front.execute(&body).await.envelope()["status"], 200);
    {
        let seen = seen.lock();
        assert!(seen[0].starts_with("longshore-sealed:v1 ") && !seen[0].contains(plain), "{seen:?}");
    }
    // Not base64, and base64 of `{"k":1}`.
    for ciphertext in ["%%%", "eyJrIjoxfQ=="] {
        body["secret_envelope"] = json!({ "ciphertext_b64": ciphertext });
        let envelope = front.execute(&body).await.envelope();
        assert_eq!(envelope["status"], 500);
        assert!(envelope["error"].as_str().unwrap().starts_with("secret_decrypt_failed: "), "{envelope}");
    }
    assert_eq!(seen.lock().len(), 1);
}
