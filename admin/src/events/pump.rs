//! One reader: what there is, what came meanwhile, and then what comes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use longshore_registry::AuditKind;
use redis::RedisError;
use serde_json::json;
use tokio::sync::mpsc;

use super::entry::{Id, Want, heartbeat, lost};
use super::hub::{Hub, Place};
use super::past::Past;
use crate::api::ApiCode;
use crate::app::Parts;
use crate::http::{Actor, Failure};
use crate::ledger::event;

/// A sign of life for a reader that has nothing to read, and a look whether it is still there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Lines between the pump and the connection.
const LINES: usize = 64;

/// Lines of a body. An error breaks the connection, so that nobody takes what came for all there was.
pub(super) type Lines = mpsc::Sender<io::Result<Bytes>>;

/// Opens the events that somebody wants, after that was recorded.
///
/// # Errors
/// There is no Redis, or it fails; the audit cannot be written; there are too many readers.
pub async fn open(app: &Parts, want: Want, actor: &Actor) -> Result<Body, Failure> {
    let Some(hub) = app.hub.clone() else {
        let message = "no debug events are published in this fleet: RUNNER_DEBUG_REDIS_URL of the admin service is not set";
        return Err(Failure::new(ApiCode::Unavailable, message));
    };
    let Ok(slot) = hub.slots.clone().try_acquire_owned() else {
        let message = "too many programs read debug events now: end one of them, or try again";
        return Err(Failure { retry_after: Some(5), ..Failure::new(ApiCode::LimitReached, message) });
    };
    let details = json!({ "since_ms": want.since_ms, "request": want.request, "follow": want.follow });
    let mut read = event(AuditKind::EventsRead, actor).tenant(&want.tenant).details(details);
    if let Some(extension) = &want.extension {
        read = read.extension(extension);
    }
    app.ledger.record(read).await?;
    let now = hub.now().await.map_err(|error| redis_failed(&error))?;
    let (lines, mut rest) = mpsc::channel(LINES);
    tokio::spawn(async move {
        let stop = hub.stop.clone();
        let done = tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = lines.closed() => Ok(()),
            done = pump(&hub, Arc::new(want), now, &lines) => done,
        };
        if let Err(why) = done {
            let _ = lines.send(Err(io::Error::other(why))).await;
        }
        drop(slot);
    });
    Ok(Body::from_stream(futures::stream::poll_fn(move |context| rest.poll_recv(context))))
}

/// Only the kind of error: its text may hold the address.
fn redis_failed(error: &RedisError) -> Failure {
    let message = "Redis (RUNNER_DEBUG_REDIS_URL) does not answer now: try again, and see `longshore doctor` if it goes on";
    Failure {
        cause: Some(format!("Redis: {:?}", error.kind())),
        retry_after: Some(1),
        ..Failure::new(ApiCode::Unavailable, message)
    }
}

async fn pump(hub: &Arc<Hub>, want: Arc<Want>, now: Id, lines: &Lines) -> Result<(), &'static str> {
    const FAILED: &str = "Redis has failed";
    let failed = |_: RedisError| FAILED;
    // Without a beginning: what comes after this millisecond.
    let mut past = Past::from(Id::at(want.since_ms.unwrap_or_else(|| now.ms.saturating_add(1))));
    if want.since_ms.is_some() && !past.read(hub, &want, now, lines).await.map_err(failed)? {
        return Ok(());
    }
    if !want.follow {
        return Ok(());
    }
    // Only now: while much was read that had been there, what came found no room. What came is read first, and what the hub has
    // of it too is told apart.
    let joined = hub.now().await.map_err(failed)?;
    let mut place = hub.join(want.clone(), joined);
    let until = hub.now().await.map_err(failed)?;
    if !past.read(hub, &want, until, lines).await.map_err(failed)? {
        return Ok(());
    }
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        let sent = tokio::select! {
            event = place.next() => match event {
                None => return Err(FAILED),
                Some(event) if past.is_new(&event) => match want.of(&event) {
                    Some(wanted) => told(&place, lines).await && lines.send(Ok(wanted)).await.is_ok(),
                    None => true,
                },
                Some(_) => true,
            },
            _ = beat.tick() => told(&place, lines).await && lines.send(Ok(heartbeat())).await.is_ok(),
        };
        if !sent {
            return Ok(());
        }
    }
}

/// Says what was lost, before anything else is said.
async fn told(place: &Place, lines: &Lines) -> bool {
    match place.lost() {
        0 => true,
        count => lines.send(Ok(lost(count))).await.is_ok(),
    }
}
