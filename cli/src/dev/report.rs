//! What is printed when everything is up.

use longshore_proto::TenantId;

use super::call::{Answer, Call, GatewayCall};
use super::events;
use super::examples::Installed;
use super::paths::DataDir;
use super::ui::Ui;

/// A call that was made.
pub(super) struct Called {
    /// To what.
    pub(super) to: Installed,
    /// The call.
    pub(super) call: Call,
    /// What came back.
    pub(super) answer: Answer,
    /// Its events in Redis.
    pub(super) events: usize,
    /// The same through the gateway.
    pub(super) gateway: (GatewayCall, Answer),
}

impl Called {
    /// One line about it.
    pub(super) fn line(&self) -> String {
        let (answer, gateway) = (&self.answer, &self.gateway.1);
        format!(
            "{} {} ({} ms, {} events; through the gateway {} in {} ms)",
            answer.status,
            answer.body.trim_end(),
            answer.took.as_millis(),
            self.events,
            gateway.status,
            gateway.took.as_millis()
        )
    }
}

/// The lines that repeat what has been done.
pub(super) fn print(ui: &Ui, data: &DataDir, called: &[Called], redis_port: u16, tenant: &TenantId) {
    if !called.is_empty() {
        ui.line(format!(
            "\nThe calls again (from this machine without a token: they are tenant {tenant}'s):"
        ));
    }
    for called in called {
        ui.line(format!("  {}", called.gateway.0.curl()));
    }
    for called in called {
        ui.line(format!(
            "\nThe call to {} as another platform's gateway makes it (the answer's body is base64):",
            called.to.name
        ));
        ui.line(format!("  {}", called.call.curl(&data.shown(&format!("{}.json", called.to.name)))));
    }
    ui.line("\nThe events of all calls:");
    ui.line(format!("  redis-cli -p {redis_port} XREAD COUNT 10 STREAMS {} 0", events::stream()));
    if let Some(execution) = called.last().and_then(|called| called.answer.execution.as_ref()) {
        ui.line(format!("  (the last call's have the field execution = {execution})"));
    }
    ui.line("\nWhat is installed: `longshore list`; what is wrong: `longshore doctor`.");
    ui.line(format!("Logs are in {}.", data.shown("logs").display()));
}
