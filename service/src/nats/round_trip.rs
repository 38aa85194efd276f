//! Proof that the server has seen what was sent to it.

use std::time::{Duration, Instant};

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum RoundTripError {
    /// The client refuses the subject or has ended.
    #[error("NATS client: {0}")]
    Client(String),
    /// Nothing came back: no connection, or the user may not publish or subscribe this subject.
    #[error("no round trip to NATS within {0:?}: no connection, or no permission for {1}")]
    Timeout(Duration, String),
}

/// Sends a message to itself through the server and waits for it, at most `limit`; returns how long it took.
///
/// The server handles what a connection sends in order, so afterwards it knows every subscription made before on this client. (`flush()` proves
/// only that bytes were written.) In a cluster it proves nothing about the other servers, whose knowledge follows within
/// milliseconds.
///
/// `subject` must be one that the user may both publish and subscribe and that nobody else takes for something: for shim and worker
/// a token of one's own below `fleet.`.
pub async fn round_trip(client: &Client, subject: &str, limit: Duration) -> Result<Duration, RoundTripError> {
    let started = Instant::now();
    // Everything waits while disconnected, so the limit is around everything.
    match tokio::time::timeout(limit, send_to_itself(client, subject)).await {
        Ok(result) => result.map(|()| started.elapsed()),
        Err(_) => Err(RoundTripError::Timeout(limit, subject.to_owned())),
    }
}

async fn send_to_itself(client: &Client, subject: &str) -> Result<(), RoundTripError> {
    let fail = |error: &dyn std::fmt::Display| RoundTripError::Client(error.to_string());
    // Random, so that an answer to somebody else's probe of the same subject is none to this.
    let probe: [u8; 16] = rand::random();
    let mut inbox = client.subscribe(subject.to_owned()).await.map_err(|e| fail(&e))?;
    client.publish(subject.to_owned(), Bytes::copy_from_slice(&probe)).await.map_err(|e| fail(&e))?;
    while let Some(message) = inbox.next().await {
        if message.payload[..] == probe[..] {
            return inbox.unsubscribe().await.map_err(|e| fail(&e));
        }
    }
    Err(RoundTripError::Client("the subscription ended".to_owned()))
}
