//! Schedules: an extension that has itself called at given times.
//!
//!     POST   /schedules {"cron": "0 6 * * *", "timezone": "Europe/Berlin"}  ->  201 {"id": ..}, or 422 {"error": .., "fields": {..}}
//!     GET    /schedules       ->  {"schedules": [{"id", "cron", "timezone", "endpoint", "enabled", "lastRun"}]}
//!     DELETE /schedules?id=I  ->  204, or 404 {"error": ..}
//!     POST   /tick            ->  {"ticked": true}: what the schedules call; logs a line

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::types::{CreateScheduleInput, HttpHeader, ScheduleInfo};
use alga::extension::{logging, scheduler};
use serde_json::{Value, json};

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        let url = &request.http.url;
        let body = request.http.body.unwrap_or_default();
        match (request.http.method.as_str(), url.split('?').next().unwrap_or_default()) {
            ("POST", "/schedules") => create(&serde_json::from_slice(&body).unwrap_or_default()),
            ("GET", "/schedules") => list(),
            ("DELETE", "/schedules") => delete(&parameter(url, "id").unwrap_or_default()),
            ("POST", "/tick") => {
                logging::log_info(&format!("tick: {}", String::from_utf8_lossy(&body)));
                answer(200, &json!({ "ticked": true }))
            }
            _ => answer(404, &json!({ "error": "no such endpoint", "try": "GET /schedules" })),
        }
    }
}

/// The functions that write say `success: false`, with the words of whoever refused.
fn create(wanted: &Value) -> ExecuteResponse {
    let field = |name: &str| wanted[name].as_str().map(str::to_owned);
    // The endpoint is one of the manifest's. Five fields of cron; without a time zone it is UTC.
    let result = scheduler::create_schedule(&CreateScheduleInput {
        endpoint: "POST /tick".to_owned(),
        cron: field("cron").unwrap_or_default(),
        timezone: field("timezone"),
        enabled: Some(true),
        name: Some("tick".to_owned()),
        payload: Some(r#"{"from":"schedule"}"#.to_owned()),
    });
    if result.success {
        return answer(201, &json!({ "id": result.schedule_id }));
    }
    let fields = result.field_errors.and_then(|errors| serde_json::from_str::<Value>(&errors).ok());
    answer(422, &json!({ "error": result.error, "fields": fields.unwrap_or_else(|| json!({})) }))
}

/// The functions that read answer a `result`.
fn list() -> ExecuteResponse {
    let shown = |schedule: ScheduleInfo| {
        json!({
            "id": schedule.id,
            "cron": schedule.cron,
            "timezone": schedule.timezone,
            "endpoint": format!("{} {}", schedule.endpoint_method, schedule.endpoint_path),
            "enabled": schedule.enabled,
            "lastRun": schedule.last_run_at,
        })
    };
    match scheduler::list_schedules() {
        Ok(all) => answer(200, &json!({ "schedules": all.into_iter().map(shown).collect::<Vec<_>>() })),
        Err(error) => answer(502, &json!({ "error": error.name() })),
    }
}

fn delete(id: &str) -> ExecuteResponse {
    let result = scheduler::delete_schedule(id);
    if result.success {
        ExecuteResponse { status: 204, headers: Vec::new(), body: None }
    } else {
        answer(404, &json!({ "error": result.error }))
    }
}

/// The first value of a parameter in the url's query, decoded.
fn parameter(url: &str, wanted: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value.into_owned())
}

fn answer(status: u16, body: &Value) -> ExecuteResponse {
    ExecuteResponse {
        status,
        headers: vec![HttpHeader { name: "content-type".to_owned(), value: "application/json".to_owned() }],
        body: Some(body.to_string().into_bytes()),
    }
}

struct Extension;

export!(Extension);
