//! `ext-scheduler`: schedules that are kept and never fired.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::answer::{Answer, Outcome};
use crate::fields::{Fields, iso, new_uuid};
use crate::seed::Endpoint;
use crate::state::State;

const MAX_SCHEDULES: usize = 50;
const MAX_CHANGES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
const MAX_PAYLOAD: usize = 100_000;

/// A schedule.
pub(crate) struct Schedule {
    id: String,
    endpoint: Endpoint,
    name: Option<String>,
    cron: String,
    timezone: String,
    enabled: bool,
    payload: Value,
    created: OffsetDateTime,
}

/// Answers a request.
pub(crate) fn answer(state: &mut State, install: &str, body: &Value) -> Outcome {
    let fields = Fields::of(body)?;
    let operation = fields.get("operation").and_then(Value::as_str).unwrap_or_default();
    if !["list", "get", "create", "update", "delete", "getEndpoints"].contains(&operation) {
        return Err(Answer::shape("operation", "Invalid enum value"));
    }
    if ["create", "update", "delete"].contains(&operation) {
        limit_rate(&mut state.install(install)?.changes)?;
    }
    let endpoints = state.seed.endpoints.clone();
    let schedules = &mut state.install(install)?.schedules;
    match operation {
        "list" => {
            Ok(Answer::ok(json!({ "schedules": schedules.iter().map(Schedule::json).collect::<Vec<_>>() })))
        }
        "get" => {
            let id = fields.uuid("scheduleId")?;
            let schedule = schedules.iter().find(|s| s.id == id).map(Schedule::json);
            Ok(Answer::ok(json!({ "schedule": schedule })))
        }
        "create" => create(schedules, &endpoints, &fields),
        "update" => update(schedules, &endpoints, &fields),
        "delete" => {
            let id = fields.uuid("scheduleId")?;
            let before = schedules.len();
            schedules.retain(|s| s.id != id);
            if schedules.len() == before {
                return Err(Answer::failed("Schedule not found"));
            }
            Ok(Answer::ok(json!({ "success": true })))
        }
        _ => {
            let endpoints: Vec<Value> = endpoints
                .iter()
                .map(|e| {
                    json!({ "id": e.id, "method": e.method, "path": e.path, "handler": e.handler,
                        "schedulable": schedulable(e) })
                })
                .collect();
            Ok(Answer::ok(json!({ "endpoints": endpoints })))
        }
    }
}

fn limit_rate(changes: &mut Option<(Instant, u32)>) -> Result<(), Answer> {
    let now = Instant::now();
    match changes {
        Some((began, count)) if now.duration_since(*began) <= WINDOW => {
            if *count >= MAX_CHANGES {
                return Err(Answer::error(429, "RATE_LIMITED", "Too many requests, please try again later"));
            }
            *count += 1;
        }
        _ => *changes = Some((now, 1)),
    }
    Ok(())
}

fn create(schedules: &mut Vec<Schedule>, endpoints: &[Endpoint], fields: &Fields<'_>) -> Outcome {
    let endpoint = fields.text("endpoint", 256)?;
    let cron = fields.text("cron", 128)?;
    let timezone = fields.optional_text("timezone", 64)?;
    let enabled = fields.flag("enabled")?;
    let name = fields.optional_text("name", 128)?;
    let cron = check_cron(cron)?;
    let timezone = check_timezone(timezone)?;
    let payload = check_payload(fields.get("payload"))?;
    let name = name.map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned);
    let endpoint = find(endpoints, endpoint)?;
    if schedules.len() >= MAX_SCHEDULES {
        return Err(Answer::failed("Too many schedules (max 50 per extension install)"));
    }
    unique(schedules, name.as_deref(), "")?;
    let (id, created) = (new_uuid(), OffsetDateTime::now_utc());
    schedules.push(Schedule {
        id: id.clone(),
        endpoint,
        name,
        cron,
        timezone,
        enabled: enabled.unwrap_or(true),
        payload,
        created,
    });
    Ok(Answer::new(201, json!({ "success": true, "scheduleId": id })))
}

fn update(schedules: &mut [Schedule], endpoints: &[Endpoint], fields: &Fields<'_>) -> Outcome {
    let id = fields.uuid("scheduleId")?;
    let endpoint = fields.optional_text("endpoint", 256)?.filter(|e| !e.is_empty());
    let cron = fields.optional_text("cron", 128)?.filter(|c| !c.is_empty()).map(check_cron).transpose()?;
    let timezone = fields.optional_text("timezone", 64)?.filter(|t| !t.is_empty());
    let timezone = timezone.map(|t| check_timezone(Some(t))).transpose()?;
    let enabled = fields.flag("enabled")?;
    let name = match fields.get("name") {
        Some(Value::Null) => None,
        _ => fields.optional_text("name", 128)?.map(str::trim).filter(|n| !n.is_empty()),
    };
    let payload = check_payload(fields.get("payload"))?;
    if !schedules.iter().any(|s| s.id == id) {
        return Err(Answer::failed("Schedule not found"));
    }
    let endpoint = endpoint.map(|e| find(endpoints, e)).transpose()?;
    unique(schedules, name, id)?;
    for schedule in schedules.iter_mut().filter(|s| s.id == id) {
        if let Some(endpoint) = &endpoint {
            schedule.endpoint = endpoint.clone();
        }
        if let Some(cron) = &cron {
            schedule.cron.clone_from(cron);
        }
        if let Some(timezone) = &timezone {
            schedule.timezone.clone_from(timezone);
        }
        if let Some(enabled) = enabled {
            schedule.enabled = enabled;
        }
        // The real one's mistake: what the request leaves out is cleared.
        schedule.name = name.map(str::to_owned);
        schedule.payload = payload.clone();
    }
    Ok(Answer::ok(json!({ "success": true })))
}

fn unique(schedules: &[Schedule], name: Option<&str>, own: &str) -> Result<(), Answer> {
    if name.is_some() && schedules.iter().any(|s| s.name.as_deref() == name && s.id != own) {
        return Err(Answer::failed_field("name", "Schedule name already in use for this extension"));
    }
    Ok(())
}

/// Five fields, at least five minutes apart as far as the real one looks, and not both days set.
fn check_cron(cron: &str) -> Result<String, Answer> {
    let refuse = |message: &str| Err(Answer::failed_field("cron", message));
    let parts: Vec<&str> = cron.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts.as_slice() else {
        return refuse("Invalid cron expression (expected 5 fields: m h dom mon dow)");
    };
    let allowed = |c: char| c.is_ascii_digit() || "*/,-".contains(c);
    if !parts.iter().all(|part| part.chars().all(allowed)) {
        return refuse("Invalid cron expression (unsupported characters)");
    }
    if *day != "*" && *weekday != "*" {
        return refuse("Cron cannot set both day-of-month and day-of-week");
    }
    let every_hour = [hour, day, month, weekday].iter().all(|part| **part == "*");
    if every_hour && ["*", "*/1", "*/2", "*/3", "*/4"].contains(minute) {
        return refuse("Cron too frequent (minimum interval is 5 minutes)");
    }
    Ok(cron.trim().to_owned())
}

fn check_timezone(timezone: Option<&str>) -> Result<String, Answer> {
    let timezone = timezone.map(str::trim).filter(|t| !t.is_empty()).unwrap_or("UTC");
    match timezone.parse::<chrono_tz::Tz>() {
        Ok(_) => Ok(timezone.to_owned()),
        Err(_) => Err(Answer::failed_field("timezone", "Invalid timezone")),
    }
}

fn check_payload(payload: Option<&Value>) -> Result<Value, Answer> {
    let Some(payload) = payload.filter(|p| !p.is_null()) else { return Ok(Value::Null) };
    if !(payload.is_object() || payload.is_array()) {
        return Err(Answer::failed_field("payload", "Payload must be a JSON object or array"));
    }
    if payload.to_string().encode_utf16().count() > MAX_PAYLOAD {
        return Err(Answer::failed_field("payload", "Payload too large"));
    }
    Ok(payload.clone())
}

fn schedulable(endpoint: &Endpoint) -> bool {
    ["GET", "POST"].contains(&endpoint.method.as_str()) && !endpoint.path.contains([':', '{', '}'])
}

/// The endpoint of `path` or `METHOD path`.
fn find(endpoints: &[Endpoint], selector: &str) -> Result<Endpoint, Answer> {
    let selector = selector.trim();
    let (method, path) = match selector.split_once(char::is_whitespace) {
        Some((method, path)) if method.chars().all(|c| c.is_ascii_alphabetic()) => {
            (Some(method.to_ascii_uppercase()), path.trim())
        }
        _ => (None, selector),
    };
    let path = format!("/{}", path.trim_start_matches('/'));
    let fits =
        |e: &&Endpoint| e.path == path && method.as_ref().is_none_or(|m| *m == e.method) && schedulable(e);
    let message = "Endpoint not found or not schedulable";
    endpoints.iter().find(fits).cloned().ok_or_else(|| Answer::failed_field("endpoint", message))
}

impl Schedule {
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "endpointPath": self.endpoint.path,
            "endpointMethod": self.endpoint.method,
            "name": self.name,
            "cron": self.cron,
            "timezone": self.timezone,
            "enabled": self.enabled,
            "payload": self.payload,
            "lastRunAt": null,
            "lastRunStatus": null,
            "lastError": null,
            "createdAt": iso(self.created),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_expressions_are_checked_as_far_as_the_real_platform_does() {
        for good in ["*/5 * * * *", "0 6 * * *", "0 6 1 * *", "0 6 * * 1-5", "* 6 * * *", " 0  6 * * * "] {
            assert!(check_cron(good).is_ok(), "{good}");
        }
        for bad in
            ["", "* * * * *", "*/4 * * * *", "0 6 * *", "0 6 * * * *", "0 6 1 * 1", "@daily", "0 6 * * MON"]
        {
            assert_eq!(check_cron(bad).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_named_by_its_path_or_with_its_method() {
        let endpoint = |method: &str, path: &str| Endpoint {
            id: new_uuid(),
            method: method.to_owned(),
            path: path.to_owned(),
            handler: String::new(),
        };
        let all = [
            endpoint("GET", "/run"),
            endpoint("POST", "/run"),
            endpoint("PUT", "/put"),
            endpoint("GET", "/x/:id"),
        ];
        assert_eq!(find(&all, "/run").unwrap().method, "GET");
        assert_eq!(find(&all, "post run").unwrap().method, "POST");
        for bad in ["/put", "PUT /put", "/x/:id", "/nowhere", "DELETE /run", ""] {
            assert!(find(&all, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_eleventh_change_within_a_minute_is_refused() {
        let mut changes = None;
        for _ in 0..10 {
            limit_rate(&mut changes).unwrap();
        }
        assert_eq!(limit_rate(&mut changes).unwrap_err().status, 429);
        changes = changes.and_then(|(began, count)| Some((began.checked_sub(WINDOW * 2)?, count)));
        assert!(limit_rate(&mut changes).is_ok());
    }
}
