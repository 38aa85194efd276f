//! Which traces there are, newest first.

use std::fmt;
use std::str::FromStr;

use longshore_proto::trace::Summary;
use longshore_proto::{ContentHash, ExtensionId, TenantId};

use super::keys::{Keys, Row, StreamId};
use super::{TraceStore, TraceStoreError, Which};

/// The most traces of one page.
pub const MAX_PAGE: usize = 1_000;

/// Rows that are read at once.
const BATCH: usize = 256;

/// Rows that one page may cost: a filter that nothing matches gives an empty page and a cursor, not a long wait.
const MAX_ROWS: usize = 10_000;

/// Which traces. What is None does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this extension.
    pub extension: Option<ExtensionId>,
    /// Begun then or later, Unix milliseconds.
    pub since_ms: Option<u64>,
    /// Begun then or earlier, Unix milliseconds.
    pub until_ms: Option<u64>,
    /// With this request id.
    pub request_id: Option<String>,
    /// With this outcome: `ok` or an error's code.
    pub outcome: Option<String>,
    /// True: those whose outcome is not `ok`; false: the others.
    pub failed: Option<bool>,
    /// Of this bundle.
    pub content_hash: Option<ContentHash>,
}

impl Filter {
    /// Whether a trace is wanted.
    pub fn matches(&self, summary: &Summary) -> bool {
        self.extension.as_ref().is_none_or(|wanted| *wanted == summary.extension)
            && self.since_ms.is_none_or(|since| summary.started_at_ms >= since)
            && self.until_ms.is_none_or(|until| summary.started_at_ms <= until)
            && self.request_id.as_ref().is_none_or(|wanted| Some(wanted) == summary.request_id.as_ref())
            && self.outcome.as_ref().is_none_or(|wanted| *wanted == summary.outcome)
            && self.failed.is_none_or(|failed| failed == (summary.outcome != "ok"))
            && self.content_hash.is_none_or(|wanted| wanted == summary.content_hash)
    }
}

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Newest first. May be empty though there is a next page: so many did not match.
    pub traces: Vec<Summary>,
    /// Where the next page begins; None: this was the last.
    pub next: Option<Cursor>,
}

/// The last trace that was looked at: `START_MS.EXECUTION.ATTEMPT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    score: u64,
    name: String,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.score, self.name)
    }
}

impl FromStr for Cursor {
    type Err = TraceStoreError;
    fn from_str(text: &str) -> Result<Self, TraceStoreError> {
        // No more of it than fits a line: it comes from a caller.
        let wrong = || TraceStoreError::Cursor(text.chars().take(80).collect());
        let (score, name) = text.split_once('.').ok_or_else(wrong)?;
        let plain = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
        match score.parse() {
            Ok(score) if plain => Ok(Self { score, name: name.to_owned() }),
            _ => Err(wrong()),
        }
    }
}

impl TraceStore {
    /// A tenant's traces that match, newest first, `limit` (at most [`MAX_PAGE`]) on a page. Those whose entries are
    /// gone are left out, and forgotten.
    ///
    /// # Errors
    /// Redis fails.
    pub async fn list(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page, TraceStoreError> {
        let page = self.page(tenant, filter, cursor, limit.clamp(1, MAX_PAGE)).await;
        self.checked(page).await
    }

    async fn page(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page, TraceStoreError> {
        let keys = self.keys(tenant);
        let mut live = self.connector.get().await?;
        let oldest = self.oldest(&keys).await?;
        let (mut traces, mut gone, mut looked, mut last) = (Vec::new(), Vec::new(), 0, None);
        let newest = filter.until_ms.into_iter().chain(cursor.map(|c| c.score)).min();
        let newest = newest.map_or_else(|| "+inf".to_owned(), |ms| ms.to_string());
        let mut next = None;
        'rows: loop {
            // By offset, not from the last score on: more than a batch may have begun in one millisecond.
            let names: Vec<(String, u64)> = redis::cmd("ZRANGE")
                .arg(&keys.list)
                .arg(&newest)
                .arg(filter.since_ms.unwrap_or(0))
                .arg(&["BYSCORE", "REV", "LIMIT"])
                .arg(looked)
                .arg(BATCH)
                .arg("WITHSCORES")
                .query_async(&mut live.connection)
                .await?;
            let full = names.len() == BATCH;
            looked += names.len();
            // The order is by start, then by name, both falling.
            let passed = |(name, score): &(String, u64)| {
                cursor.is_some_and(|c| (*score, name.as_str()) >= (c.score, c.name.as_str()))
            };
            let names: Vec<_> = names.into_iter().filter(|entry| !passed(entry)).collect();
            for ((name, score), row) in names.iter().zip(rows(&mut live, &keys, &names).await?) {
                if traces.len() >= limit {
                    next = last;
                    break 'rows;
                }
                last = Some(Cursor { score: *score, name: name.clone() });
                match row.as_deref().map(Row::parse) {
                    Some(Ok(row)) if oldest.is_some_and(|oldest| row.first >= oldest) => {
                        if filter.matches(&row.summary) {
                            traces.push(row.summary);
                        }
                    }
                    // A row that this build cannot read is another build's: left where it is.
                    Some(Err(_)) => {}
                    _ => gone.push(name.clone()),
                }
            }
            if !full {
                break;
            }
            if looked >= MAX_ROWS {
                next = last;
                break;
            }
        }
        self.remove_names(tenant, Which::Gone, gone).await?;
        Ok(Page { traces, next })
    }

    /// The first entry that the stream still has.
    async fn oldest(&self, keys: &Keys) -> Result<Option<StreamId>, TraceStoreError> {
        let mut live = self.connector.get().await?;
        let info: Result<redis::streams::StreamRangeReply, _> = redis::cmd("XRANGE")
            .arg(&keys.stream)
            .arg(&["-", "+", "COUNT", "1"])
            .query_async(&mut live.connection)
            .await;
        Ok(info?.ids.first().and_then(|entry| StreamId::parse(&entry.id)))
    }
}

async fn rows(
    live: &mut super::connection::Live,
    keys: &Keys,
    names: &[(String, u64)],
) -> Result<Vec<Option<Vec<u8>>>, TraceStoreError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = redis::cmd("HMGET");
    command.arg(&keys.index);
    for (name, _) in names {
        command.arg(name);
    }
    Ok(command.query_async(&mut live.connection).await?)
}
