//! What has arrived.

use std::collections::VecDeque;

use axum::http::request::Parts;
use bytes::Bytes;

/// Bytes of a body that are kept.
const KEPT_BODY: usize = 256 * 1024;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its method.
    pub method: String,
    /// Path and query, escapes as sent.
    pub path: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// Its first 256 KiB.
    pub body: Bytes,
}

impl Recorded {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn of(parts: &Parts, body: &Bytes) -> Self {
        let value = |v: &axum::http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        Self {
            method: parts.method.to_string(),
            path: parts.uri.path_and_query().map_or_else(|| parts.uri.to_string(), ToString::to_string),
            headers: parts.headers.iter().map(|(n, v)| (n.as_str().to_owned(), value(v))).collect(),
            body: body.slice(..body.len().min(KEPT_BODY)),
        }
    }
}

/// The last requests.
pub(crate) struct Records {
    kept: VecDeque<Recorded>,
    most: usize,
}

impl Records {
    pub(crate) fn new(most: usize) -> Self {
        Self { kept: VecDeque::new(), most }
    }

    pub(crate) fn push(&mut self, request: Recorded) {
        self.kept.push_back(request);
        while self.kept.len() > self.most {
            self.kept.pop_front();
        }
    }

    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.kept.iter().cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }
}
