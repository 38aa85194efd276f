//! The tokens as a gateway sees them: watched, so that one that is revoked is refused as soon as the server has told.

use std::sync::Arc;
use std::time::Duration;

use longshore_service::errors::chain;
use longshore_service::metrics::Metrics;
use longshore_service::nats::Watcher;
use longshore_service::nats::buckets::{BucketEvent, BucketWatch};
use longshore_service::readiness::Condition;
use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::index::Index;
use super::{BUCKET, MAX_TOKENS, text};
use crate::{Credential, Denied, Principal};

/// How long tokens are taken that nobody can say are still valid. A reconnect takes seconds; a gateway that hears of no revocation for
/// longer refuses (as unavailable, not as invalid). Calls cannot run meanwhile either: they go over the same connection.
const STALE: Duration = Duration::from_secs(30);

/// How often expired tokens are forgotten. They are refused from their second on; this is about memory.
const SWEEP: Duration = Duration::from_secs(60);

/// The tokens of the fleet. Cheap to clone; [`Self::run`] keeps it up to date.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    client: async_nats::Client,
    link: Watcher,
    index: RwLock<Index>,
    state: watch::Sender<State>,
    metrics: AccessMetrics,
}

#[derive(Clone, Default)]
struct State {
    /// Whether the whole bucket was read once.
    known: bool,
    /// Since when the watch does not hold, and why.
    trouble: Option<(Instant, String)>,
}

/// What is counted about callers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessMetrics {
    tokens: Gauge,
    left_out: Counter,
    denied: Family<Reason, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl AccessMetrics {
    /// Registers `longshore_access_...`; once a process.
    pub fn register(metrics: &Metrics) -> Self {
        let denied = metrics.register(
            "access_denied",
            "Callers that were not recognised, by reason",
            Family::default(),
        );
        let this = Self {
            tokens: metrics.register("access_tokens", "Tokens known and not expired", Gauge::default()),
            left_out: metrics.register(
                "access_tokens_left_out",
                "Stored tokens that are not taken, because they cannot be read or there are too many",
                Counter::default(),
            ),
            denied,
        };
        for reason in ["invalid", "expired", "unavailable"] {
            // Present from the start, so that "never" is a 0 and not a missing line.
            drop(this.denied.get_or_create(&Reason { reason }));
        }
        this
    }

    pub(crate) fn denied(&self, denied: &Denied) {
        let reason = match denied {
            Denied::Invalid(_) => "invalid",
            Denied::Expired => "expired",
            Denied::Unavailable(_) => "unavailable",
        };
        self.denied.get_or_create(&Reason { reason }).inc();
    }
}

impl Tokens {
    /// Tokens on this connection, whose client must make its inboxes where its user may listen. None is known before [`Self::run`].
    pub fn new(client: async_nats::Client, link: Watcher, metrics: AccessMetrics) -> Self {
        let index = RwLock::new(Index::new(MAX_TOKENS));
        let state = watch::Sender::new(State::default());
        Self(Arc::new(Inner { client, link, index, state, metrics }))
    }

    /// Watches until `stop`, or until the client has gone. To be run once, for as long as callers are taken.
    pub async fn run(&self, stop: CancellationToken) {
        let mut watch = BucketWatch::new(self.0.client.clone(), self.0.link.clone(), BUCKET);
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = sweep.tick() => self.change(|index| index.forget_expired(super::now())),
                event = watch.next() => match event {
                    Some(event) => self.heard(event),
                    None => return self.trouble("the NATS client has ended".to_owned()),
                },
            }
        }
    }

    fn heard(&self, event: BucketEvent) {
        match event {
            BucketEvent::Put { key, value, .. } => {
                if let Err(why) = self.change(|index| index.put(&key, &value)) {
                    self.0.metrics.left_out.inc();
                    tracing::error!(key, error = %chain(&why), "a stored token is not taken");
                }
            }
            BucketEvent::Removed { key } => self.change(|index| index.remove(&key)),
            BucketEvent::Seen(_) => {}
            BucketEvent::Complete => {
                self.0.state.send_if_modified(|state| {
                    let changed = !state.known || state.trouble.is_some();
                    *state = State { known: true, trouble: None };
                    changed
                });
            }
            BucketEvent::Trouble(why) | BucketEvent::Absent(why) => self.trouble(why),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        let mut index = self.0.index.write();
        let result = change(&mut index);
        self.0.metrics.tokens.set(i64::try_from(index.len()).unwrap_or(i64::MAX));
        result
    }

    fn trouble(&self, why: String) {
        self.0.state.send_modify(|state| {
            let since = state.trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
            if state.trouble.as_ref().is_none_or(|(_, before)| *before != why) {
                tracing::warn!(why, "the tokens are not watched now; it is tried again");
            }
            state.trouble = Some((since, why));
        });
    }

    /// Whether all tokens were read once.
    pub fn is_ready(&self) -> bool {
        self.0.state.borrow().known
    }

    /// Waits until all tokens were read once.
    pub async fn ready(&self) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.0.state.subscribe().wait_for(|state| state.known).await;
    }

    /// Keeps a readiness condition up to date, for ever: it holds once all tokens were read. A later trouble is the connection's,
    /// which has a condition of its own.
    pub async fn report_to(&self, condition: Condition) {
        let mut changes = self.0.state.subscribe();
        loop {
            {
                let state = changes.borrow_and_update();
                let why = state.trouble.as_ref().map_or("not read yet", |(_, why)| why.as_str());
                condition.set(state.known, why);
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Why tokens cannot be checked, if they cannot.
    fn unavailable(&self) -> Option<Denied> {
        let state = self.0.state.borrow();
        let why = match &state.trouble {
            Some((since, why)) if !state.known || since.elapsed() > STALE => Some(why.clone()),
            None if !state.known => Some("they are not read yet".to_owned()),
            _ => {
                let link = self.0.link.state();
                (!link.connected && link.since.elapsed() > STALE).then(|| "NATS is away".to_owned())
            }
        };
        why.map(Denied::Unavailable)
    }

    /// Whose token this is.
    pub(crate) fn check(&self, credential: &str, now: OffsetDateTime) -> Result<Principal, Denied> {
        let presented = text::parse(credential).map_err(|why| Denied::Invalid(why.0))?;
        if let Some(unavailable) = self.unavailable() {
            return Err(unavailable);
        }
        let record = self.0.index.read().check(&presented, now).inspect_err(|why| {
            // The id is no secret, and it tells whose token is being tried.
            tracing::debug!(token = %presented.id, %why, "a token is refused");
        })?;
        Ok(Principal {
            tenant: record.tenant.clone(),
            access: record.access,
            extensions: record.extensions.clone(),
            credential: Credential::Token(record.id.to_string()),
        })
    }

    pub(crate) fn metrics(&self) -> &AccessMetrics {
        &self.0.metrics
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use longshore_service::config::NatsConfig;
    use longshore_service::nats::{self, Options};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_known_is_believed_for_half_a_minute_and_then_nobody_is_called_invalid() {
        let env = BTreeMap::from([("NATS_URL".to_owned(), "nats://127.0.0.1:1".to_owned())]);
        let config = NatsConfig::load(&env, ["test".to_owned()]).unwrap();
        let (client, link) = nats::connect("test", &config, Options::default()).await.unwrap();
        let tokens = Tokens::new(client, link, AccessMetrics::register(&Metrics::new("test")));
        let (secret, ..) = text::issue();
        let is_unavailable =
            || matches!(tokens.check(secret.expose(), crate::tokens::now()), Err(Denied::Unavailable(_)));
        assert!(is_unavailable(), "nothing is known yet");
        tokens.heard(BucketEvent::Trouble("no bucket".to_owned()));
        assert!(is_unavailable() && !tokens.is_ready());
        tokens.heard(BucketEvent::Complete);
        assert!(!is_unavailable() && tokens.is_ready());
        tokens.heard(BucketEvent::Trouble("the watch broke".to_owned()));
        tokio::time::advance(STALE).await;
        assert!(!is_unavailable());
        // Another reason does not begin anew.
        tokens.heard(BucketEvent::Trouble("JetStream does not answer".to_owned()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(is_unavailable());
        tokens.heard(BucketEvent::Complete);
        assert!(!is_unavailable());
    }
}
