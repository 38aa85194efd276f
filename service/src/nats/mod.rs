//! The connection to NATS: it comes up late, breaks and heals without anybody's help, and says so.
//!
//! What the client does (async-nats 0.51) and what is made of it:
//! - It drops a connection after two unanswered pings. With a ping a second a silent link is noticed within 3 s (its default: 2 minutes).
//! - It retries for ever, also the first time, and subscribes everything again after a reconnect, before anything queued is published.
//! - While disconnected, `publish` queues commands (2,048) and then waits: callers look at [`Watcher::is_connected`] first.
//! - It ignores credentials in the server's address, logs each failed attempt and each event by itself (`async_nats` is off in the default
//!   filter), and tells nothing about a refused subscription but a [`Event::ServerError`](async_nats::Event); all are logged here.

pub mod buckets;
mod link;
mod listen;
mod metrics;
pub mod outbox;
mod round_trip;
mod routes;
mod throttle;
pub mod transfer;
mod watcher;

use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectOptions};
use rand::RngExt;

use crate::config::{FromSetting, NatsConfig};
pub use listen::{ListenError, subscribe};
pub use metrics::NatsMetrics;
pub use outbox::{Outbox, Outgoing};
pub use round_trip::{RoundTripError, round_trip};
pub use routes::{RouteGuard, Routes};
pub use watcher::{LinkState, Watcher};

/// Both sides ping each second; see `deploy/nats.conf` for the server's side.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// A server that accepts the connection and then says nothing must not hold up trying the next one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest wait between attempts; running calls live on a reconnect within seconds.
const MAX_RECONNECT_DELAY_MS: u64 = 250;

/// What differs between connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// Prefix of inboxes that the client makes itself, as the user's permissions demand; `_INBOX` when `None`.
    pub inbox_prefix: Option<String>,
    /// Messages that wait in each subscription before the client drops more of them (and reports a slow consumer).
    pub subscription_capacity: usize,
    /// Commands that wait for the connection before `publish` waits too.
    pub command_capacity: usize,
    /// Where the connection's state is counted; see [`NatsMetrics::register`].
    pub metrics: Option<NatsMetrics>,
}

impl Default for Options {
    fn default() -> Self {
        Self { inbox_prefix: None, subscription_capacity: 65_536, command_capacity: 2_048, metrics: None }
    }
}

/// Starts connecting and returns at once; the [`Watcher`] says when there is a connection.
///
/// `name` is shown in the server's list of connections, in logs and metrics, such as `worker` or `shim`. The client's tasks run on the runtime of
/// the caller.
///
/// # Errors
/// Only for what no waiting can heal: options that make no sense.
pub async fn connect(
    name: &str,
    config: &NatsConfig,
    options: Options,
) -> Result<(Client, Watcher), ConnectError> {
    crate::tls::install_provider();
    let (link, watcher) = link::Link::new(name, config.servers.show(), config.user.clone(), options.metrics);
    let mut connect = ConnectOptions::new()
        .name(name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
        .subscription_capacity(options.subscription_capacity)
        .client_capacity(options.command_capacity)
        .event_callback(move |event| {
            link.on(event);
            std::future::ready(())
        });
    if let Some(prefix) = options.inbox_prefix {
        connect = connect.custom_inbox_prefix(prefix);
    }
    if let (Some(user), Some(password)) = (&config.user, &config.password) {
        connect = connect.user_and_password(user.clone(), password.expose().to_owned());
    }
    let client = connect.connect(&config.servers[..]).await?;
    Ok((client, watcher))
}

/// Attempt 1 follows a disconnect at once but for a jitter, so that a fleet does not knock in one moment; later ones are spread over 100 to 250 ms.
fn reconnect_delay(attempt: usize) -> Duration {
    let millis = match attempt {
        0 | 1 => rand::rng().random_range(0..=20),
        _ => rand::rng().random_range(100..=MAX_RECONNECT_DELAY_MS),
    };
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reconnect_waits_longer_than_a_quarter_of_a_second() {
        for attempt in (0..50).chain([usize::MAX]) {
            let delay = reconnect_delay(attempt);
            assert!(delay <= Duration::from_millis(250), "{attempt}: {delay:?}");
            assert!(
                attempt <= 1 || delay >= Duration::from_millis(100),
                "{attempt}: {delay:?} is a busy loop"
            );
        }
    }
}
