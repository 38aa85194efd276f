//! One question, many answers. The client's own `request()` takes one answer and keeps an entry for each question that nobody
//! answers, so this is a reply multiplexer as the gateways have one.

use std::time::Duration;

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use longshore_proto::{BootId, subject};
use longshore_service::nats::{ListenError, RouteGuard, Routes, Watcher, subscribe};
use serde::Serialize;
use tokio::sync::mpsc;

/// Answers that wait to be looked at; a fleet has fewer processes that answer at once.
const QUEUE: usize = 1024;

/// How long a publish may take; while connected it is a copy into a buffer.
const PUBLISH: Duration = Duration::from_secs(2);

/// Why a question was not asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No connection.
    #[error("not connected to NATS")]
    Disconnected,
    /// The client or its buffer.
    #[error("the question could not be sent: {0}")]
    Client(String),
}

/// Asks everybody who listens. Cheap to clone.
#[derive(Clone)]
pub struct Asker {
    client: Client,
    link: Watcher,
    prefix: String,
    routes: Routes<mpsc::Sender<Bytes>>,
}

/// Answers to one question, as long as it lives.
pub struct Answers {
    receiver: mpsc::Receiver<Bytes>,
    reply: String,
    asker: Asker,
    _route: RouteGuard<mpsc::Sender<Bytes>>,
}

impl Asker {
    /// An asker and its inbox, which [`Self::receive`] reads.
    ///
    /// # Errors
    /// The inbox cannot be subscribed.
    pub async fn open(
        client: Client,
        link: Watcher,
        boot: BootId,
    ) -> Result<(Self, Subscriber), ListenError> {
        // One token more than the client's own inboxes have, which are below another one.
        let prefix = format!("{}{boot}.q.", subject::ADMIN_INBOX);
        let inbox = subscribe(&client, format!("{prefix}*"), None).await?;
        Ok((Self { client, link, prefix, routes: Routes::default() }, inbox))
    }

    /// Takes answers to where they are waited for, until the client ends.
    ///
    /// # Errors
    /// That it has ended.
    pub async fn receive(self, mut inbox: Subscriber) -> Result<(), ListenError> {
        while let Some(message) = inbox.next().await {
            let token = message.subject.strip_prefix(&self.prefix).and_then(|token| token.parse().ok());
            if let Some(waiting) = token.and_then(|token| self.routes.get(token)) {
                // Whoever floods a question loses its own answers.
                let _ = waiting.try_send(message.payload);
            }
        }
        Err(ListenError::Ended)
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Asks.
    pub(super) async fn ask<T: Serialize>(&self, subject: &str, question: &T) -> Result<Answers, AskError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let route = self.routes.add(sender);
        let reply = format!("{}{}", self.prefix, route.token());
        let answers = Answers { receiver, reply, asker: self.clone(), _route: route };
        answers.again(subject, question).await?;
        Ok(answers)
    }
}

impl Answers {
    /// Asks once more, for those who have not heard it; the same answers count.
    pub(super) async fn again<T: Serialize>(&self, subject: &str, question: &T) -> Result<(), AskError> {
        if !self.asker.link.is_connected() {
            return Err(AskError::Disconnected);
        }
        let payload = longshore_proto::wire::encode(question).map_err(|e| AskError::Client(e.to_string()))?;
        let sent =
            self.asker.client.publish_with_reply(subject.to_owned(), self.reply.clone(), payload.into());
        match tokio::time::timeout(PUBLISH, sent).await {
            Ok(sent) => sent.map_err(|error| AskError::Client(error.to_string())),
            Err(_) => Err(AskError::Disconnected),
        }
    }

    /// The next answer.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.receiver.recv().await
    }
}
