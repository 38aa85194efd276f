//! The debug events of watched extensions, as they come.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_proto::event::{MORE, Part, iso8601, parts};
use longshore_service::errors::chain;
use parking_lot::Mutex;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamReadOptions, StreamReadReply};

use super::events::stream;
use super::ui::Ui;
use crate::output::printable;

/// One blocking read.
const BLOCK_MS: usize = 1_000;
/// Between attempts to reach a Redis that has gone away.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest message that is shown on one line.
const MAX_CHARS: usize = 400;

/// Whose events are shown. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tail {
    ui: Ui,
    /// Registry id to the project's name.
    names: Arc<Mutex<HashMap<String, String>>>,
}

impl Tail {
    /// Nobody's yet.
    pub(super) fn new(ui: Ui) -> Self {
        Self { ui, names: Arc::default() }
    }

    /// Also this one's.
    pub(super) fn add(&self, extension: &str, name: &str) {
        self.names.lock().insert(extension.to_owned(), name.to_owned());
    }

    /// Shows them, for ever: a Redis that goes away is told once and tried again.
    pub(super) async fn run(&self, url: &str) -> anyhow::Result<()> {
        let client = redis::Client::open(url)?;
        let mut told = false;
        loop {
            if let Err(error) = self.follow(&client, &mut told).await
                && !told
            {
                self.ui.item("events", format!("Redis does not answer: {}; trying again", chain(&error)));
                told = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&self, client: &redis::Client, told: &mut bool) -> redis::RedisResult<()> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PAUSE))
            .set_response_timeout(Some(Duration::from_secs(5)));
        let mut connection: MultiplexedConnection =
            client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut last = "$".to_owned();
        *told = false;
        loop {
            let options = StreamReadOptions::default().block(BLOCK_MS).count(200);
            let read: Option<StreamReadReply> =
                connection.xread_options(&[stream()], &[&last], &options).await?;
            for entry in read.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
                if let Some((name, lines)) = self.shown(&entry) {
                    lines.into_iter().for_each(|line| self.ui.item(&name, line));
                }
                last = entry.id;
            }
        }
    }

    fn shown(&self, entry: &StreamId) -> Option<(String, Vec<String>)> {
        let field = |name: &str| entry.get::<String>(name).unwrap_or_default();
        let name = self.names.lock().get(&field("extension"))?.clone();
        let (ts, level, kind, message) = (field("ts"), field("level"), field("kind"), field("message"));
        let parts = parts(&kind, &message, entry.get::<String>(MORE).as_deref());
        let lines = parts.into_iter().filter_map(|Part { kind, message, own }| match own {
            None => line(&ts, &level, &kind, &message),
            Some(own) => {
                let ts = own.at_ms.map_or(Cow::Borrowed(&ts), |at_ms| Cow::Owned(iso8601(at_ms)));
                line(&ts, own.level.as_deref().unwrap_or(&level), &kind, &message)
            }
        });
        Some((name, lines.collect()))
    }
}

/// `12:00:01 info  log: hello`. The beginning of a run and its bookkeeping are left to the stream itself.
fn line(ts: &str, level: &str, kind: &str, message: &str) -> Option<String> {
    if matches!(kind, "context" | "handler_start" | "usage") {
        return None;
    }
    let time = ts.split_once('T').and_then(|(_, time)| time.get(..8)).unwrap_or(ts);
    let mut message: String = message.lines().map(printable).collect::<Vec<_>>().join(" / ");
    if let Some((at, _)) = message.char_indices().nth(MAX_CHARS) {
        message.truncate(at);
        message.push_str(" ...");
    }
    Some(format!("{} {level:<5} {kind}: {message}", printable(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_what_and_nothing_that_a_terminal_obeys() {
        let shown = line("2026-01-31T12:00:01.234Z", "info", "log", "a\u{1b}[2J\nb").unwrap();
        assert_eq!(shown, "12:00:01 info  log: a\u{fffd}[2J / b");
        assert!(line("", "info", "usage", "x").is_none());
        assert!(line("x", "info", "log", &"ä".repeat(1_000)).unwrap().ends_with("ä ..."));
    }
}
