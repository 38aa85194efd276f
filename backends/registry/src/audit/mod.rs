//! Who changed what: one JSON event for each mutation, in a stream that only grows.
//!
//! The admin service publishes an event before it says that a mutation is done, and waits until the stream has it; a mutation whose event
//! cannot be written has failed, and says so.

mod event;
mod read;

use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, HeaderMap, header};
use longshore_service::nats::Watcher;
use longshore_service::nats::buckets::{EnsureError, Ensured, Rights, Settings, ensure};
use tokio::sync::Mutex;

use crate::bucket::audit_settings;

pub use event::{AuditEvent, AuditKind, UnknownKind};
pub use read::{AuditPage, AuditQuery, MAX_EVENTS};

/// The stream.
pub const STREAM: &str = "LONGSHORE_AUDIT";
/// Bytes of one event; the details of a larger one are left out.
const MAX_EVENT_BYTES: usize = 64 * 1024;
/// One attempt to write.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How often an event is sent whose answer does not come. Its id keeps it from being there twice.
const ATTEMPTS: usize = 3;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an event could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No connection; nothing was sent.
    #[error("the audit stream cannot be reached: not connected to NATS")]
    Disconnected,
    /// No answer; an event that was sent may be there.
    #[error("the audit stream does not answer")]
    Timeout,
    /// The stream is not there, or not as it must be.
    #[error("the audit stream cannot be used")]
    Stream(#[source] EnsureError),
    /// The server refuses.
    #[error("the audit stream refuses")]
    Failed(#[source] BoxError),
    /// The event cannot be written as JSON.
    #[error("the event cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

/// Writes and reads the audit stream.
pub struct Audit {
    context: Context,
    link: Watcher,
    settings: Settings,
    ensured: Mutex<bool>,
}

impl Audit {
    /// On a connection of the user `control`, whose client makes its inboxes where that user may listen. `replicas` (1 to 5) counts when the
    /// stream is made.
    pub fn new(client: Client, link: Watcher, replicas: usize) -> Self {
        let context = jetstream::new(client);
        Self { context, link, settings: audit_settings(replicas), ensured: Mutex::new(false) }
    }

    /// Makes or updates the stream. Writing does it by itself, once.
    ///
    /// # Errors
    /// No connection, no answer, or the server refuses.
    pub async fn prepare(&self) -> Result<Ensured, AuditError> {
        if !self.link.is_connected() {
            return Err(AuditError::Disconnected);
        }
        let ensured =
            tokio::time::timeout(2 * ATTEMPT, ensure(&self.context, &self.settings, Rights::MayUpdate));
        let ensured = ensured.await.map_err(|_| AuditError::Timeout)?.map_err(AuditError::Stream)?;
        *self.ensured.lock().await = true;
        Ok(ensured)
    }

    /// Writes an event and waits until the stream has it.
    ///
    /// # Errors
    /// It may not be there: the mutation has failed.
    pub async fn record(&self, event: &AuditEvent) -> Result<(), AuditError> {
        let payload = bytes::Bytes::from(encode(event)?);
        let ensured = *self.ensured.lock().await;
        if !ensured {
            self.prepare().await?;
        }
        let subject = format!("audit.{}", event.kind);
        for _ in 0..ATTEMPTS {
            if !self.link.is_connected() {
                return Err(AuditError::Disconnected);
            }
            let mut headers = HeaderMap::new();
            headers.insert(header::NATS_MESSAGE_ID, event.id.as_str());
            let (subject, payload) = (subject.clone(), payload.clone());
            let write = async { self.context.publish_with_headers(subject, headers, payload).await?.await };
            match tokio::time::timeout(ATTEMPT, write).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if error.kind() == PublishErrorKind::TimedOut => {}
                Ok(Err(error)) => {
                    if error.kind() == PublishErrorKind::StreamNotFound {
                        *self.ensured.lock().await = false;
                    }
                    return Err(AuditError::Failed(error.into()));
                }
                Err(_) => {}
            }
        }
        Err(AuditError::Timeout)
    }
}

fn encode(event: &AuditEvent) -> Result<Vec<u8>, AuditError> {
    let bytes = serde_json::to_vec(event).map_err(AuditError::Encode)?;
    if bytes.len() <= MAX_EVENT_BYTES {
        return Ok(bytes);
    }
    let mut short = event.clone();
    short.details = serde_json::json!({ "omitted_bytes": bytes.len() });
    serde_json::to_vec(&short).map_err(AuditError::Encode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_that_are_too_large_are_left_out_and_the_event_is_not() {
        let details = serde_json::json!({ "x": "y".repeat(MAX_EVENT_BYTES) });
        let event = AuditEvent::new(AuditKind::GcRan, "op").details(details);
        let bytes = encode(&event).unwrap();
        assert!(bytes.len() < 1_000);
        let read: AuditEvent = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((read.kind, &read.id), (AuditKind::GcRan, &event.id));
        assert!(read.details["omitted_bytes"].as_u64().unwrap() > MAX_EVENT_BYTES as u64);
    }
}
