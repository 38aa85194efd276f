//! The HTTP client for servers that an operator has configured: the platform, Vault. Not for addresses that a guest
//! chooses: those go through the egress policy.
//!
//! Redirects are never followed: they would carry a service token to wherever the answer points. There are no
//! cookies. Time and bytes of every answer are bounded by the caller.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// How long an idle connection is kept: shorter than the 60 s after which common proxies close theirs.
const IDLE: Duration = Duration::from_secs(30);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// A pooled client. Clones share the pool.
#[derive(Clone)]
pub struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The machine's certificates cannot be read.
    #[error("the system's root certificates cannot be read")]
    Roots(#[source] std::io::Error),
    /// No whole answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// No connection, or it broke before the answer began.
    #[error("the server cannot be reached")]
    Transport(#[source] hyper_util::client::legacy::Error),
    /// The answer broke off.
    #[error("the answer broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is over the limit.
    #[error("the answer is over {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
}

impl Upstream {
    /// A client for `http` and `https`, with the system's root certificates.
    ///
    /// # Errors
    /// [`UpstreamError::Roots`] when there are none.
    pub fn new() -> Result<Self, UpstreamError> {
        crate::tls::install_provider();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(UpstreamError::Roots)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self { client })
    }

    /// Sends a request and reads the whole answer, of at most `max_bytes`, within `timeout`.
    ///
    /// # Errors
    /// Everything but an answer; a status of 500 is an answer.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let exchange = async {
            let answer =
                self.client.request(request.map(Full::new)).await.map_err(UpstreamError::Transport)?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, max_bytes).collect().await.map_err(|e| {
                if e.is::<LengthLimitError>() {
                    UpstreamError::TooLarge { limit: max_bytes }
                } else {
                    UpstreamError::Body(e)
                }
            })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(UpstreamError::Timeout(timeout)))
    }

    /// Sends a request and gives the answer when its head is there: for bodies that come as things happen. Whoever reads
    /// such a body bounds it.
    ///
    /// # Errors
    /// No answer within `timeout`.
    pub async fn open(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let answer = tokio::time::timeout(timeout, self.client.request(request.map(Full::new))).await;
        answer.map_err(|_| UpstreamError::Timeout(timeout))?.map_err(UpstreamError::Transport)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;

    use super::*;

    async fn serve(router: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        base
    }

    async fn ask(url: String, max_bytes: usize) -> Result<Response<Bytes>, UpstreamError> {
        let request = Request::get(url).body(Bytes::new()).unwrap();
        Upstream::new().unwrap().send(request, Duration::from_secs(10), max_bytes).await
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let base = serve(Router::new().route("/", get(|| async { Redirect::temporary("/elsewhere") }))).await;
        assert_eq!(ask(base, 100).await.unwrap().status(), 307);
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_an_error_and_not_a_cut_one() {
        let base = serve(Router::new().route("/", get(|| async { "x".repeat(101) }))).await;
        assert!(matches!(ask(base.clone(), 100).await, Err(UpstreamError::TooLarge { limit: 100 })));
        assert_eq!(ask(base, 101).await.unwrap().body().len(), 101);
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_a_timeout() {
        let base = serve(Router::new().route("/", get(std::future::pending::<()>))).await;
        let request = Request::get(base).body(Bytes::new()).unwrap();
        let answer = Upstream::new().unwrap().send(request, Duration::from_millis(50), 100).await;
        assert!(matches!(answer, Err(UpstreamError::Timeout(_))));
    }

    #[tokio::test]
    async fn nobody_listening_is_a_transport_error() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(matches!(ask(format!("http://{free}"), 100).await, Err(UpstreamError::Transport(_))));
    }
}
