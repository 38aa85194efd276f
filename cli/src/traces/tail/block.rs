//! One run, one block: a head line, then its host calls and its output, indented.

use serde_json::Value;

use super::event::{Event, rank};
use crate::output::{bytes, printable};
use crate::traces::values::{cut, show_micros};

/// Events kept of one run; the rest is counted.
const MAX_EVENTS: usize = 2_000;
/// The longest value on a line.
const MAX_CHARS: usize = 160;
/// The longest line of output.
const MAX_LINE_CHARS: usize = 1_000;

/// How blocks look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// With colours.
    pub color: bool,
    /// Lines below this are left out, and runs that have none.
    pub least: u8,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// The events of a run so far.
#[derive(Debug, Default)]
pub struct Block {
    events: Vec<Event>,
    left_out: u64,
    /// The first part was shown already.
    continued: bool,
}

impl Block {
    /// The rest of a run whose beginning was shown.
    pub fn going_on() -> Self {
        Self { continued: true, ..Self::default() }
    }

    /// Takes one. True: it was the run's last.
    pub fn push(&mut self, event: Event) -> bool {
        let last = event.kind == "usage";
        if self.events.len() < MAX_EVENTS || matches!(event.kind.as_str(), "response" | "error" | "usage") {
            self.events.push(event);
        } else {
            self.left_out += 1;
        }
        last
    }

    /// Whether the run has answered or failed.
    pub fn is_over(&self) -> bool {
        self.find("response").or_else(|| self.find("error")).is_some()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn find(&self, kind: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.kind == kind)
    }

    /// The text; none: nothing in it is serious enough.
    pub fn render(&self, style: Style) -> Option<String> {
        let shown = |event: &&Event| rank(&event.level) >= style.least;
        if !self.events.iter().any(|event| shown(&event)) {
            return None;
        }
        let mut text = self.head(style);
        let began = self.events.first().map_or(0, |event| event.at_ms);
        for event in self.events.iter().filter(shown) {
            if let Some(line) = line(event, style) {
                let after = event.at_ms.saturating_sub(began);
                text.push_str(&format!("  {:>8}  {line}\n", format!("+{after} ms")));
            }
        }
        if self.left_out > 0 {
            text.push_str(
                &style.paint("33", &format!("  {} more events of this run are not shown\n", self.left_out)),
            );
        }
        Some(text)
    }

    fn head(&self, style: Style) -> String {
        let first = self.events.first();
        let time = first.map(|event| event.ts.as_str()).unwrap_or_default();
        let time = time.split_once('T').map_or(time, |(_, time)| time.trim_end_matches('Z'));
        let request = match (self.find("context"), self.continued) {
            (Some(context), _) => context.message.as_str(),
            (None, true) => "(goes on)",
            (None, false) => "(its beginning is not there)",
        };
        let (outcome, color) = self.outcome();
        let mut head = format!(
            "{}  {}  {}",
            style.paint("2", &printable(time)),
            style.paint("1", &cut(&printable(request), MAX_CHARS)),
            style.paint(color, &outcome)
        );
        if let Some(event) = first {
            let mut ids = vec![printable(&event.extension), printable(&event.execution)];
            if !matches!(event.attempt.as_str(), "" | "1") {
                ids.push(format!("attempt {}", printable(&event.attempt)));
            }
            if let Some(request) = &event.request {
                ids.push(format!("request {}", cut(&printable(request), MAX_CHARS)));
            }
            ids.retain(|id| !id.is_empty());
            head.push_str(&style.paint("2", &format!("  {}", ids.join("  "))));
        }
        head.push('\n');
        head
    }

    fn outcome(&self) -> (String, &'static str) {
        let took = |event: &Event| event.data.get("duration_us").and_then(Value::as_u64).map(show_micros);
        let within = |event: &Event| took(event).map_or_else(String::new, |took| format!(" in {took}"));
        if let Some(error) = self.find("error") {
            let code = error.data.get("code").and_then(Value::as_str).unwrap_or("error");
            return (format!("{}{}", printable(code), within(error)), "31");
        }
        if let Some(response) = self.find("response") {
            let status = response.data.get("status").and_then(Value::as_u64);
            let color = if status.is_some_and(|status| status >= 500) { "31" } else { "32" };
            let status = status.map_or_else(|| "answered".to_owned(), |status| status.to_string());
            return (format!("{status}{}", within(response)), color);
        }
        ("no answer yet".to_owned(), "33")
    }
}

/// A line; none for what the head says.
fn line(event: &Event, style: Style) -> Option<String> {
    let number = |name: &str| event.data.get(name).and_then(Value::as_u64);
    let message = || {
        let lines: Vec<String> = event.message.lines().map(printable).collect();
        let cut_mark = if event.truncated { " ... (cut)" } else { "" };
        format!("{}{cut_mark}", cut(&lines.join(" / "), MAX_LINE_CHARS))
    };
    Some(match event.kind.as_str() {
        "context" | "handler_start" | "response" => return None,
        "host_call" => host_call(event, style),
        "usage" => format!(
            "used {} of CPU, {} of memory, {} host calls",
            show_micros(number("cpu_us").unwrap_or(0)),
            bytes(number("peak_memory_bytes").unwrap_or(0)),
            number("host_calls").unwrap_or(0)
        ),
        "error" => style.paint("31", &format!("failed: {}", message())),
        "dropped" => style.paint("33", &format!("lost: {}", message())),
        "stdout" => format!("stdout  {}", message()),
        "stderr" => style.paint("33", &format!("stderr  {}", message())),
        "log" => {
            let color = match rank(&event.level) {
                4 => "31",
                3 => "33",
                _ => "0",
            };
            style.paint(color, &format!("{:<6}  {}", printable(&event.level), message()))
        }
        other => format!("{}: {}", printable(other), message()),
    })
}

/// `storage.get ok in 0.4 ms {"key":"a"} -> ...`.
fn host_call(event: &Event, style: Style) -> String {
    let text = |name: &str| event.data.get(name).and_then(Value::as_str).map(printable);
    let value = |name: &str| {
        let value = event.data.get(name).filter(|value| !value.is_null())?;
        Some(cut(&printable(value.to_string()), MAX_CHARS))
    };
    let outcome = text("outcome").unwrap_or_default();
    let took = event.data.get("duration_us").and_then(Value::as_u64).map(show_micros).unwrap_or_default();
    let color = if outcome == "ok" { "36" } else { "31" };
    let name = text("name").unwrap_or_else(|| printable(&event.message));
    let mut line = format!("{} {outcome} in {took}", style.paint(color, &name));
    if let Some(args) = value("args") {
        line.push_str(&format!("  {args}"));
    }
    if let Some(result) = value("result") {
        line.push_str(&format!(" -> {result}"));
    }
    if let Some(note) = text("note") {
        line.push_str(&format!("  ({})", cut(&note, MAX_CHARS)));
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(at_ms: u64, level: &str, kind: &str, message: &str, data: Value) -> Event {
        Event {
            ts: crate::traces::values::show_time(at_ms),
            at_ms,
            level: level.to_owned(),
            kind: kind.to_owned(),
            extension: "ext-1".to_owned(),
            request: Some("r-1".to_owned()),
            execution: "e".repeat(32),
            attempt: "1".to_owned(),
            message: message.to_owned(),
            truncated: false,
            data,
        }
    }

    fn run() -> Block {
        let mut block = Block::default();
        let call = json!({ "name": "storage.get", "duration_us": 400, "outcome": "ok", "args": { "key": "a" }, "result": null });
        assert!(!block.push(event(1_000, "debug", "context", "POST /run", Value::Null)));
        block.push(event(1_001, "debug", "host_call", "storage.get ok", call));
        block.push(event(1_002, "warn", "log", "odd\u{1b}[2J\nand more", Value::Null));
        block.push(event(1_003, "info", "response", "x", json!({ "status": 200, "duration_us": 12_300 })));
        let usage = json!({ "cpu_us": 900, "peak_memory_bytes": 1_048_576, "host_calls": 2 });
        assert!(block.push(event(1_004, "debug", "usage", "x", usage)));
        block
    }

    #[test]
    fn a_run_is_a_head_line_with_its_calls_and_output_below() {
        let text = run().render(Style::default()).unwrap();
        let id = "e".repeat(32);
        assert_eq!(
            text,
            format!(
                "00:00:01.000  POST /run  200 in 12.3 ms  ext-1  {id}  request r-1\n\
                 \x20    +1 ms  storage.get ok in 400 us  {{\"key\":\"a\"}}\n\
                 \x20    +2 ms  warn    odd\u{fffd}[2J / and more\n\
                 \x20    +4 ms  used 900 us of CPU, 1.0 MiB of memory, 2 host calls\n"
            )
        );
    }

    #[test]
    fn a_level_leaves_out_lines_and_runs() {
        let text = run().render(Style { least: rank("warn"), ..Style::default() }).unwrap();
        assert!(
            text.contains("odd") && text.contains("POST /run") && !text.contains("storage.get"),
            "{text}"
        );
        assert!(run().render(Style { least: rank("error"), ..Style::default() }).is_none());
    }

    #[test]
    fn colours_are_ours_and_nothing_of_the_guests_steers() {
        let text = run().render(Style { color: true, least: 0 }).unwrap();
        assert!(text.contains("\u{1b}[32m200") && !text.contains("\u{1b}[2J"), "{text:?}");
    }

    #[test]
    fn a_failure_says_its_code_and_a_run_without_an_end_that_it_has_none() {
        let mut block = Block::default();
        block.push(event(5, "info", "stdout", "hello", Value::Null));
        assert!(!block.is_over());
        let text = block.render(Style::default()).unwrap();
        assert!(text.contains("its beginning is not there") && text.contains("no answer yet"), "{text}");
        block.push(event(6, "error", "error", "it trapped", json!({ "code": "trap", "duration_us": 5 })));
        let text = block.render(Style::default()).unwrap();
        assert!(
            block.is_over() && text.contains("trap in 5 us") && text.contains("failed: it trapped"),
            "{text}"
        );
    }

    #[test]
    fn a_run_with_too_many_events_keeps_its_end_and_counts_the_rest() {
        let mut block = Block::default();
        for n in 0..MAX_EVENTS as u64 + 5 {
            block.push(event(n, "info", "log", "x", Value::Null));
        }
        assert!(block.push(event(9_000, "debug", "usage", "x", Value::Null)));
        let text = block.render(Style::default()).unwrap();
        assert!(text.contains("5 more events") && text.contains("used"), "{}", text.lines().count());
    }
}
