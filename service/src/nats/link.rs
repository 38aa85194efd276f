//! From the client's events to state, metrics and log lines.

use std::time::Instant;

use async_nats::{ClientError, ConnectErrorKind, Event, ServerError};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::watch;

use super::metrics::{Labels, NatsMetrics};
use super::throttle::Throttle;
use super::watcher::{LinkState, Watcher};

/// The receiving end of the client's events.
pub(super) struct Link {
    name: String,
    servers: String,
    user: String,
    state: watch::Sender<LinkState>,
    metrics: Option<NatsMetrics>,
    labels: Labels,
    unreachable: Throttle,
    refused: Throttle,
    slow: Throttle,
    forbidden: Throttle,
}

impl Link {
    pub(super) fn new(
        name: &str,
        servers: String,
        user: Option<String>,
        metrics: Option<NatsMetrics>,
    ) -> (Self, Watcher) {
        let (state, receiver) = watch::channel(LinkState {
            connected: false,
            generation: 0,
            since: Instant::now(),
            slow_consumers: 0,
            problem: None,
        });
        let labels = Labels { connection: name.to_owned() };
        if let Some(metrics) = &metrics {
            // Present from the start, so that "never connected" is a 0 and not a missing line.
            metrics.connected.get_or_create(&labels).set(0);
        }
        let link = Self {
            name: name.to_owned(),
            servers,
            user: user.unwrap_or_else(|| "(none)".to_owned()),
            state,
            metrics,
            labels,
            unreachable: Throttle::new(1),
            refused: Throttle::new(1),
            slow: Throttle::new(1),
            forbidden: Throttle::new(8),
        };
        (link, Watcher::new(receiver))
    }

    pub(super) fn on(&self, event: Event) {
        match event {
            Event::Connected => self.connected(),
            Event::Disconnected => self.disconnected("the connection was lost; reconnecting"),
            Event::Closed => self.disconnected("the client was closed"),
            Event::Draining | Event::LameDuckMode => {
                tracing::info!(connection = self.name, %event, "NATS link changes");
            }
            Event::SlowConsumer(subscription) => self.slow_consumer(subscription),
            Event::ServerError(ServerError::SlowConsumer(subscription)) => self.slow_consumer(subscription),
            Event::ServerError(ServerError::AuthorizationViolation) => self.login_refused(),
            Event::ServerError(ServerError::Other(what)) => self.server_error(&what),
            Event::ClientError(ClientError::Other(what))
                if what == ConnectErrorKind::AuthorizationViolation.to_string() =>
            {
                self.count(|metrics| &metrics.failed_attempts);
                self.login_refused();
            }
            Event::ClientError(error) => {
                self.count(|metrics| &metrics.failed_attempts);
                let what = match error {
                    ClientError::Other(what) => what,
                    other => other.to_string(),
                };
                self.problem(&format!("cannot be reached: {what}"));
                if let Some(repeated) = self.unreachable.pass() {
                    tracing::warn!(
                        connection = self.name,
                        servers = self.servers,
                        error = what,
                        repeated,
                        "NATS cannot be reached; trying again. Is it running at NATS_URL?"
                    );
                }
            }
        }
    }

    fn connected(&self) {
        let mut generation = 0;
        self.state.send_modify(|state| {
            generation = state.generation + 1;
            let slow_consumers = state.slow_consumers;
            *state = LinkState {
                connected: true,
                generation,
                since: Instant::now(),
                slow_consumers,
                problem: None,
            };
        });
        if let Some(metrics) = &self.metrics {
            metrics.connected.get_or_create(&self.labels).set(1);
            metrics.connects.get_or_create(&self.labels).inc();
        }
        self.unreachable.reset();
        self.refused.reset();
        tracing::info!(connection = self.name, servers = self.servers, generation, "connected to NATS");
    }

    fn disconnected(&self, why: &str) {
        let changed = self.state.send_if_modified(|state| {
            if !std::mem::take(&mut state.connected) {
                return false;
            }
            state.since = Instant::now();
            state.problem = Some(why.into());
            true
        });
        if let Some(metrics) = &self.metrics {
            metrics.connected.get_or_create(&self.labels).set(0);
        }
        if changed {
            tracing::warn!(connection = self.name, servers = self.servers, "NATS: {why}");
        }
    }

    fn slow_consumer(&self, subscription: u64) {
        self.count(|metrics| &metrics.slow_consumers);
        self.state.send_modify(|state| state.slow_consumers += 1);
        if let Some(repeated) = self.slow.pass() {
            tracing::error!(
                connection = self.name,
                subscription,
                repeated,
                "messages from NATS are dropped: this process does not take them in time; it is overloaded or stuck"
            );
        }
    }

    fn login_refused(&self) {
        self.count(|metrics| &metrics.refused);
        self.problem(&format!("NATS refuses user {}", self.user));
        if let Some(repeated) = self.refused.pass() {
            tracing::error!(
                connection = self.name,
                servers = self.servers,
                user = self.user,
                repeated,
                "NATS refuses the login: NATS_USER and NATS_PASSWORD must be those in the server's configuration (deploy/nats.conf); trying again"
            );
        }
    }

    /// Anything else the server complains about; its permission errors name the subject.
    fn server_error(&self, what: &str) {
        let lower = what.to_ascii_lowercase();
        if lower.starts_with("permissions violation") {
            self.count(|metrics| &metrics.refused);
            // Each may name another subject, hence the burst; one refusal for each message sent must not become a log line for each.
            let Some(repeated) = self.forbidden.pass() else { return };
            tracing::error!(
                connection = self.name,
                servers = self.servers,
                user = self.user,
                error = what,
                repeated,
                "NATS refuses this; the user needs the permission in the server's configuration (deploy/nats.conf)"
            );
        } else if lower.contains("auth") {
            self.login_refused();
        } else {
            tracing::warn!(
                connection = self.name,
                servers = self.servers,
                error = what,
                "NATS reports an error"
            );
        }
    }

    fn problem(&self, what: &str) {
        self.state.send_if_modified(|state| {
            let new = !state.connected && state.problem.as_deref() != Some(what);
            if new {
                state.problem = Some(what.into());
            }
            new
        });
    }

    fn count(&self, counter: impl Fn(&NatsMetrics) -> &Family<Labels, Counter>) {
        if let Some(metrics) = &self.metrics {
            counter(metrics).get_or_create(&self.labels).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn link() -> (Link, Watcher) {
        Link::new("worker", "nats://127.0.0.1:4222".to_owned(), Some("worker".to_owned()), None)
    }

    #[test]
    fn each_connection_is_a_new_generation() {
        let (link, watcher) = link();
        assert_eq!((watcher.is_connected(), watcher.state().generation), (false, 0));
        for generation in 1..=3 {
            link.on(Event::Connected);
            assert_eq!((watcher.is_connected(), watcher.state().generation), (true, generation));
            link.on(Event::Disconnected);
            assert_eq!((watcher.is_connected(), watcher.state().generation), (false, generation));
        }
    }

    #[test]
    fn a_slow_consumer_is_counted_whoever_reports_it_and_survives_a_reconnect() {
        let (link, watcher) = link();
        link.on(Event::Connected);
        link.on(Event::SlowConsumer(1));
        link.on(Event::ServerError(ServerError::SlowConsumer(1)));
        link.on(Event::Connected);
        assert_eq!(watcher.state().slow_consumers, 2);
    }

    #[test]
    fn the_problem_names_the_refused_user_and_goes_away_with_the_connection() {
        let (link, watcher) = link();
        link.on(Event::ClientError(ClientError::Other("authorization violation".to_owned())));
        assert_eq!(watcher.state().problem.as_deref(), Some("NATS refuses user worker"));
        link.on(Event::ClientError(ClientError::Other("IO error".to_owned())));
        assert_eq!(watcher.state().problem.as_deref(), Some("cannot be reached: IO error"));
        link.on(Event::Connected);
        assert_eq!(watcher.state().problem, None);
    }

    #[test]
    fn a_refusal_of_a_subject_is_counted_and_does_not_change_the_connection() {
        let metrics = Metrics::new("worker");
        let counters = NatsMetrics::register(&metrics);
        let (link, watcher) = Link::new("worker", String::new(), None, Some(counters));
        link.on(Event::Connected);
        link.on(Event::ServerError(ServerError::Other(
            "Permissions Violation for Subscription to \"exec.>\"".to_owned(),
        )));
        assert!(watcher.is_connected());
        let page = metrics.render().unwrap();
        assert!(page.contains("longshore_nats_refusals_total{connection=\"worker\"} 1"), "{page}");
        assert!(page.contains("longshore_nats_connected{connection=\"worker\"} 1"), "{page}");
    }
}
