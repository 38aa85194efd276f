//! Looking back: newest first, a stretch of the stream at a time, so that the last few events of a long history cost little.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{ErrorCode, Message};
use futures::StreamExt as _;
use longshore_proto::TenantId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Audit, AuditError, AuditEvent, AuditKind, STREAM};

/// Events of one answer.
pub const MAX_EVENTS: usize = 1_000;
/// Places of the stream that are looked at first.
const FIRST_STRETCH: u64 = 500;
/// And at most at a time.
const LONGEST_STRETCH: u64 = 8_000;
/// And at most for one question.
const MAX_SCANNED: u64 = 100_000;
/// Messages that are asked for at a time.
const BATCH: usize = 250;
/// The whole question.
const QUESTION: Duration = Duration::from_secs(10);
/// The server forgets a reader that has gone.
const IDLE: Duration = Duration::from_secs(10);

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Not older than this.
    pub since: Option<OffsetDateTime>,
    /// Only these.
    pub kind: Option<AuditKind>,
    /// Only this tenant's.
    pub tenant: Option<TenantId>,
    /// How many: 1 to [`MAX_EVENTS`].
    pub limit: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditPage {
    /// The newest first.
    pub events: Vec<AuditEvent>,
    /// Whether there are no older ones that were asked for; false: `limit` was reached, or so much had to be looked at that the question was
    /// ended.
    pub complete: bool,
}

impl Audit {
    /// The newest events that match.
    ///
    /// # Errors
    /// No connection, no answer, or the server refuses. A stream that is not there yet has no events.
    pub async fn list(&self, query: &AuditQuery) -> Result<AuditPage, AuditError> {
        if !self.link.is_connected() {
            return Err(AuditError::Disconnected);
        }
        tokio::time::timeout(QUESTION, self.look_back(query)).await.map_err(|_| AuditError::Timeout)?
    }

    async fn look_back(&self, query: &AuditQuery) -> Result<AuditPage, AuditError> {
        let limit = query.limit.clamp(1, MAX_EVENTS);
        let stream = match self.context.get_stream(STREAM).await {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    GetStreamErrorKind::JetStream(cause)
                        if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        Ok(AuditPage { events: Vec::new(), complete: true })
                    }
                    _ => Err(AuditError::Failed(error.into())),
                };
            }
        };
        let state = &stream.cached_info().state;
        let (first, mut end) = (state.first_sequence.max(1), state.last_sequence.saturating_add(1));
        let (mut stretch, mut scanned) = (FIRST_STRETCH, 0);
        let mut events = Vec::new();
        while end > first {
            let start = end.saturating_sub(stretch).max(first);
            let found = read(&stream, query, start, end, limit - events.len()).await?;
            events.extend(found.events.into_iter().rev());
            if found.too_old {
                return Ok(AuditPage { events, complete: !found.more });
            }
            if found.more || events.len() >= limit {
                // Whether an older one matches is not looked for.
                return Ok(AuditPage { events, complete: start <= first && !found.more });
            }
            scanned += end - start;
            if scanned >= MAX_SCANNED {
                return Ok(AuditPage { events, complete: start <= first });
            }
            end = start;
            stretch = (stretch * 2).min(LONGEST_STRETCH);
        }
        Ok(AuditPage { events, complete: true })
    }
}

struct Found {
    /// The newest that match, oldest first.
    events: VecDeque<AuditEvent>,
    /// Whether older ones that match were left out.
    more: bool,
    /// Whether there are events from before `since`.
    too_old: bool,
}

/// What matches from `start` to before `end`.
async fn read(
    stream: &Stream,
    query: &AuditQuery,
    start: u64,
    end: u64,
    room: usize,
) -> Result<Found, AuditError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| AuditError::Failed(error);
    let filter = query.kind.map_or_else(|| "audit.>".to_owned(), |kind| format!("audit.{kind}"));
    let config = pull::Config {
        description: Some("Longshore reads the audit".to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
        ack_policy: AckPolicy::None,
        filter_subject: filter,
        inactive_threshold: IDLE,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| failed(error.into()))?;
    let mut found = Found { events: VecDeque::new(), more: false, too_old: false };
    let mut left = consumer.cached_info().num_pending;
    'all: while left > 0 {
        let batch = consumer.fetch().max_messages(BATCH).messages().await;
        let mut batch = batch.map_err(|error| failed(error.into()))?;
        let mut any = false;
        while let Some(message) = batch.next().await {
            let message = message.map_err(failed)?;
            let info = message.info().map_err(failed)?;
            (any, left) = (true, info.pending);
            if info.stream_sequence >= end {
                break 'all;
            }
            found.take(&message, query, room);
        }
        if !any {
            break;
        }
    }
    // It would go by itself after a while.
    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
    Ok(found)
}

impl Found {
    fn take(&mut self, message: &Message, query: &AuditQuery, room: usize) {
        let event: AuditEvent = match serde_json::from_slice(&message.payload) {
            Ok(event) => event,
            Err(_) => {
                tracing::warn!(subject = %message.subject, "an audit event cannot be read; it is skipped");
                return;
            }
        };
        if let Some(since) = query.since {
            let time = OffsetDateTime::parse(&event.time, &Rfc3339);
            if time.is_ok_and(|time| time < since) {
                self.too_old = true;
                return;
            }
        }
        if query.tenant.is_some() && query.tenant != event.tenant {
            return;
        }
        if self.events.len() == room {
            self.events.pop_front();
            self.more = true;
        }
        self.events.push_back(event);
    }
}
