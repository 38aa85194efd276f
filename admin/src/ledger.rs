//! The audit stream, as the routes use it.

use longshore_registry::{Audit, AuditError, AuditEvent, AuditKind, AuditQuery};

use crate::api::{ApiCode, AuditList, AuditView};
use crate::http::{Actor, Failure};

/// Writes and reads events.
pub struct Ledger(pub Audit);

impl Ledger {
    /// Writes an event.
    ///
    /// # Errors
    /// It may not be there: what it is about must not be done, or must be undone.
    pub async fn record(&self, event: AuditEvent) -> Result<(), Failure> {
        self.0.record(&event).await.map_err(|error| failed(&error))
    }

    /// Events, the oldest of them first.
    ///
    /// # Errors
    /// The stream does not answer.
    pub async fn list(&self, query: &AuditQuery) -> Result<AuditList, Failure> {
        let page = self.0.list(query).await.map_err(|error| failed(&error))?;
        let mut events: Vec<AuditView> = page.events.into_iter().map(view).collect();
        events.reverse();
        Ok(AuditList { events, complete: page.complete })
    }
}

/// An event about what somebody does.
pub fn event(kind: AuditKind, actor: &Actor) -> AuditEvent {
    AuditEvent::new(kind, actor.0.clone())
}

fn failed(error: &AuditError) -> Failure {
    let message = match error {
        AuditError::Disconnected => return Failure::no_nats(),
        _ => {
            "the audit stream cannot be used now, and nothing is changed without it: try again, and see that NATS has JetStream and room"
        }
    };
    Failure { retry_after: Some(1), ..Failure::new(ApiCode::Unavailable, message).because(error) }
}

fn view(event: AuditEvent) -> AuditView {
    AuditView {
        time: event.time,
        kind: event.kind.to_string(),
        tenant: event.tenant.map(|tenant| tenant.to_string()),
        extension: event.extension.map(|extension| extension.to_string()),
        actor: event.actor,
        details: event.details,
    }
}
