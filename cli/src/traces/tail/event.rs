//! A line of the service's events.

use serde_json::Value;

/// A line, taken apart. Whatever is in it was chosen by guests and callers.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// Something happened in a run, or was published without one.
    Event(Box<Event>),
    /// So many events did not come.
    Lost(u64),
    /// The service is still there.
    Heartbeat,
}

/// An event of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    /// RFC 3339.
    pub ts: String,
    /// Unix milliseconds, where the time is one.
    pub at_ms: u64,
    /// `info`.
    pub level: String,
    /// `host_call`.
    pub kind: String,
    /// Registry id.
    pub extension: String,
    /// The caller's id.
    pub request: Option<String>,
    /// The run; empty: of no run.
    pub execution: String,
    /// Its attempt.
    pub attempt: String,
    /// For people.
    pub message: String,
    /// It was cut.
    pub truncated: bool,
    /// By kind.
    pub data: Value,
}

/// Reads a line; none: it is no JSON object.
pub fn parse(line: &str) -> Option<Line> {
    if line.trim().is_empty() {
        return Some(Line::Heartbeat);
    }
    let value: Value = serde_json::from_str(line).ok()?;
    let object = value.as_object()?;
    if let Some(lost) = object.get("lost").and_then(Value::as_u64) {
        return Some(Line::Lost(lost));
    }
    let text = |name: &str| match object.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let kind = text("kind");
    if kind.is_empty() && !object.contains_key("message") {
        return Some(Line::Heartbeat);
    }
    // In Redis everything is text, the data too.
    let data = match object.get("data") {
        Some(Value::String(json)) => {
            serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.clone()))
        }
        Some(data) => data.clone(),
        None => Value::Null,
    };
    let ts = text("ts");
    Some(Line::Event(Box::new(Event {
        at_ms: super::super::values::millis(&ts).unwrap_or(0),
        ts,
        level: text("level"),
        kind,
        extension: text("extension"),
        request: Some(text("request")).filter(|id| !id.is_empty()),
        execution: text("execution"),
        attempt: text("attempt"),
        message: text("message"),
        truncated: matches!(object.get("truncated"), Some(Value::Bool(true))) || text("truncated") == "1",
        data,
    })))
}

/// How serious a level is; an unknown one is taken for usual.
pub fn rank(level: &str) -> u8 {
    match level {
        "trace" => 0,
        "debug" => 1,
        "warn" => 3,
        "error" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_events_losses_or_signs_of_life() {
        assert_eq!(parse(""), Some(Line::Heartbeat));
        assert_eq!(parse("{\"heartbeat\":1}"), Some(Line::Heartbeat));
        assert_eq!(parse("{\"lost\":7}"), Some(Line::Lost(7)));
        for bad in ["x", "[]", "{", "1", "\"a\""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let text = r#"{"ts":"1970-01-01T00:00:01.500Z","kind":"log","message":"m","truncated":"1","attempt":2,"data":"{\"a\":1}"}"#;
        let Some(Line::Event(event)) = parse(text) else { panic!("an event") };
        assert_eq!((event.at_ms, event.truncated, event.attempt.as_str()), (1_500, true, "2"));
        assert_eq!(event.data["a"], 1);
    }
}
