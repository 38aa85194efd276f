//! What can be seen over HTTP: the gateway's readiness, the clock, pages.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{Request, Response};
use longshore_service::errors::chain;
use longshore_service::upstream::{Upstream, UpstreamError};

use super::finding::Finding;

/// Health pages answer at once, pages after an unpacking.
const LIMIT: Duration = Duration::from_secs(20);
/// More than any page of ours says about itself.
const MAX_BYTES: usize = 16 << 20;
/// Signed requests and tokens work with this.
const SKEW_OK: TimeDelta = TimeDelta::seconds(5);
/// S3 and JWTs refuse more than this or less.
const SKEW_WRONG: TimeDelta = TimeDelta::seconds(120);

/// Asks for a page.
///
/// # Errors
/// No answer.
pub async fn get(http: &Upstream, url: &str) -> Result<Response<Bytes>, UpstreamError> {
    let request = Request::get(url).body(Bytes::new()).unwrap_or_default();
    http.send(request, LIMIT, MAX_BYTES).await
}

/// The gateway: whether it answers, and is ready.
pub fn gateway(url: &str, answer: &Result<Response<Bytes>, UpstreamError>) -> Finding {
    match answer {
        Err(error) => Finding::wrong(
            "gateway",
            "gateway_unreachable",
            format!("nobody answers on {url}: {}", chain(error)),
            "start it (`longshore dev`, `docker compose up`; `docker logs` of a container that ended says why), or correct LONGSHORE_GATEWAY_URL",
        ),
        Ok(answer) if answer.status() == 200 => Finding::ok("gateway", format!("ready on {url}")),
        Ok(answer) => {
            let missing = String::from_utf8_lossy(answer.body()).replace('\n', " ");
            let missing: String = missing.chars().take(400).collect();
            Finding::wrong(
                "gateway",
                "gateway_not_ready",
                format!("{url}/readyz says {}: {}", answer.status().as_u16(), missing.trim()),
                "what is missing is named there; see its line here",
            )
        }
    }
}

/// The clock here against that of a server.
pub fn clock(now: DateTime<Utc>, answer: &Response<Bytes>) -> Finding {
    let theirs = answer.headers().get("date").and_then(|date| date.to_str().ok());
    let Some(theirs) = theirs.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) else {
        return Finding::skipped("clock", "the gateway says no time");
    };
    let skew = (now - theirs.to_utc()).abs();
    let message = format!("{} s apart from the gateway's", skew.num_seconds());
    let hint = "set both by NTP: signed requests to the store and expiring tokens depend on it";
    if skew <= SKEW_OK {
        Finding::ok("clock", "as the gateway's")
    } else if skew <= SKEW_WRONG {
        Finding::warning("clock", "clock", message, hint)
    } else {
        Finding::wrong("clock", "clock", message, hint)
    }
}

/// An install's first page, as a frame asks for it.
pub fn pages(url: &str, answer: &Result<Response<Bytes>, UpstreamError>) -> Finding {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return Finding::wrong(
                "pages",
                "ui_not_loading",
                chain(error).to_string(),
                "see the gateway's line",
            );
        }
    };
    let status = answer.status().as_u16();
    if status == 200 {
        return Finding::ok("pages", url);
    }
    let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let code = body.get("code").and_then(|code| code.as_str()).unwrap_or_default();
    let (code, hint) = match code {
        "extract_failed" => (
            "extract_failed",
            "the gateway cannot fetch or unpack the bundle: see the lines of store and bundle",
        ),
        "archive_hash_mismatch" => {
            ("archive_hash_mismatch", "install the bundle again: `longshore install BUNDLE`")
        }
        _ if status == 404 => (
            "ui_not_loading",
            "the bundle has no such page: `longshore show --files BUNDLE` lists it; build the pages and install again",
        ),
        _ => ("ui_not_loading", "the gateway's log has the request"),
    };
    let words: String = String::from_utf8_lossy(answer.body()).chars().take(200).collect();
    Finding::wrong("pages", code, format!("{url} answers {status}: {words}"), hint)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn answer(status: u16, body: &str) -> Response<Bytes> {
        Response::builder().status(status).body(Bytes::from(body.to_owned())).unwrap()
    }

    #[tokio::test]
    async fn a_gateway_that_nobody_runs_is_wrong() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{free}");
        let asked = get(&Upstream::new().unwrap(), &format!("{url}/readyz")).await;
        assert_eq!(gateway(&url, &asked).code, "gateway_unreachable");
        assert_eq!(pages(&url, &asked).code, "ui_not_loading");
    }

    #[test]
    fn a_gateway_that_is_not_ready_says_what_is_missing() {
        let finding = gateway("http://g", &Ok(answer(503, "nats: disconnected\n")));
        assert!(
            finding.code == "gateway_not_ready" && finding.message.contains("nats: disconnected"),
            "{finding:?}"
        );
        assert_eq!(gateway("http://g", &Ok(answer(200, ""))).state, State::Ok);
    }

    #[test]
    fn clocks_may_differ_by_seconds_and_not_by_minutes() {
        let with = |date: &str| Response::builder().header("date", date).body(Bytes::new()).unwrap();
        let now = DateTime::parse_from_rfc3339("2026-01-31T12:00:00Z").unwrap().to_utc();
        let state = |date: &str| clock(now, &with(date)).state;
        assert_eq!(state("Sat, 31 Jan 2026 12:00:02 GMT"), State::Ok);
        assert_eq!(state("Sat, 31 Jan 2026 11:59:00 GMT"), State::Warning);
        assert_eq!(state("Sat, 31 Jan 2026 12:10:00 GMT"), State::Wrong);
        assert_eq!(state("noon"), State::Skipped);
    }

    #[test]
    fn each_reason_for_a_blank_frame_has_its_own_advice() {
        let code = |status, body| pages("u", &Ok(answer(status, body))).code;
        assert_eq!(code(502, r#"{"code":"extract_failed"}"#), "extract_failed");
        assert_eq!(code(502, r#"{"code":"archive_hash_mismatch"}"#), "archive_hash_mismatch");
        assert_eq!(code(404, "not found"), "ui_not_loading");
        assert_eq!(code(500, ""), "ui_not_loading");
        assert_eq!(code(200, ""), "ok");
    }
}
