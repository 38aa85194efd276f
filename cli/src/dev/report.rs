//! What is printed when everything is up.

use super::call::{Answer, Call};
use super::events;
use super::examples::Uploaded;
use super::paths::DataDir;
use super::ui::Ui;

/// A call that was made.
pub(super) struct Called {
    /// To what.
    pub(super) to: Uploaded,
    /// The call.
    pub(super) call: Call,
    /// What came back.
    pub(super) answer: Answer,
    /// Its events in Redis.
    pub(super) events: usize,
}

impl Called {
    /// One line about it.
    pub(super) fn line(&self) -> String {
        let answer = &self.answer;
        format!("{} {} ({} ms, {} events)", answer.status, answer.body, answer.took.as_millis(), self.events)
    }
}

/// The lines that repeat what has been done.
pub(super) fn print(ui: &Ui, data: &DataDir, called: &[Called], redis_port: u16) {
    for called in called {
        ui.line(format!("\nThe call to {} again (the answer's body is base64):", called.to.name));
        ui.line(format!("  {}", called.call.curl(&data.shown(&format!("{}.json", called.to.name)))));
    }
    ui.line("\nThe events of all calls:");
    ui.line(format!("  redis-cli -p {redis_port} XREAD COUNT 10 STREAMS {} 0", events::stream()));
    if let Some(execution) = called.last().and_then(|called| called.answer.execution.as_ref()) {
        ui.line(format!("  (the last call's have the field execution = {execution})"));
    }
    ui.line(format!("\nLogs are in {}.", data.shown("logs").display()));
}
