//! HTTP to our own processes on loopback.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// An answer of the examples is a line; more than this is a mistake.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Health pages answer at once.
const GET_LIMIT: Duration = Duration::from_secs(2);

/// A client.
pub(super) struct HttpClient(Client<HttpConnector, Full<Bytes>>);

impl HttpClient {
    /// One.
    pub(super) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// Status and body of a page.
    pub(super) async fn get(&self, url: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        self.get_within(url, GET_LIMIT).await
    }

    /// The same of one that may take longer.
    pub(super) async fn get_within(&self, url: &str, limit: Duration) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::get(url).body(Full::default())?;
        tokio::time::timeout(limit, self.send(request)).await.context("no answer in time")?
    }

    /// Sends JSON and gives status and body.
    pub(super) async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        json: Bytes,
        limit: Duration,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::post(url).body(Full::new(json))?;
        *request.headers_mut() = headers;
        tokio::time::timeout(limit, self.send(request)).await.context("no answer in time")?
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
        let response = self.0.request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        Ok((status, body.to_bytes()))
    }
}
