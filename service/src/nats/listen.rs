//! Subscriptions that a process lives by.

use async_nats::{Client, SubscribeError, Subscriber};

/// Why a process cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A subscription could not be made.
    #[error("cannot subscribe `{subject}`")]
    Subscribe {
        /// To what.
        subject: String,
        /// Why.
        #[source]
        source: SubscribeError,
    },
    /// A subscription ended although nobody asked for it: the client is gone.
    #[error("the NATS client ended")]
    Ended,
}

/// Subscribes, alone or, with `group`, as one of a queue group.
pub async fn subscribe(
    client: &Client,
    subject: String,
    group: Option<&str>,
) -> Result<Subscriber, ListenError> {
    let result = match group {
        None => client.subscribe(subject.clone()).await,
        Some(group) => client.queue_subscribe(subject.clone(), group.to_owned()).await,
    };
    result.map_err(|source| ListenError::Subscribe { subject, source })
}
