//! The server: accepts, bounds, drains. hyper below axum, because `axum::serve` has none of the limits and neither
//! step of the drain.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use bytes::Bytes;
use futures::FutureExt as _;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::config::HttpConfig;
use super::conn::{Activity, Busy, Limits, Overdue, Watched};
use super::metrics::HttpMetrics;

/// The header of a request. What guests get as headers is in the JSON, so a proxy's additions are all that comes here.
/// A larger one is answered 431 by hyper, without an execution id, for there is none.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Header lines of a request.
const MAX_HEADERS: usize = 128;

/// Calls at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// What one HTTP/2 connection may send before its handlers read, and so what it can make us hold.
const HTTP2_WINDOW: u32 = 256 * 1024;

/// The pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection above the limit is told, best effort: it may be reset first, for what it sent is not read.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\ncache-control: no-store\r\nconnection: close\r\n\r\n";

/// Serves a router.
pub struct Server {
    router: Router,
    metrics: HttpMetrics,
    limits: Limits,
    max_connections: usize,
    drain_delay: Duration,
}

/// Whose connection a request came over: an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub std::net::SocketAddr);

/// What every connection shares.
#[derive(Clone)]
struct Shared {
    router: Router,
    metrics: HttpMetrics,
    limits: Limits,
    drain: CancellationToken,
    close: CancellationToken,
    force: CancellationToken,
}

impl Server {
    /// With the limits of `config`.
    pub fn new(router: Router, config: &HttpConfig, metrics: HttpMetrics) -> Self {
        Self {
            router,
            metrics,
            limits: Limits {
                header: config.header_timeout.get(),
                write: config.body_idle_timeout.get(),
                idle: config.idle_timeout.get(),
            },
            max_connections: config.max_connections.get(),
            drain_delay: config.drain_delay.get(),
        }
    }

    /// Serves until `drain`; then answers `connection: close` for the drain delay, takes no more connections, and
    /// returns when every request has been answered, or at once on `force`.
    ///
    /// A router gives its readiness away itself: set it red with `drain`.
    pub async fn run(self, listener: TcpListener, drain: CancellationToken, force: CancellationToken) {
        let connections = TaskTracker::new();
        let shared = Shared {
            router: self.router,
            metrics: self.metrics,
            limits: self.limits,
            drain: drain.clone(),
            close: CancellationToken::new(),
            force: force.clone(),
        };
        let until = async {
            drain.cancelled().await;
            tokio::select! {
                () = tokio::time::sleep(self.drain_delay) => {}
                () = force.cancelled() => {}
            }
        };
        tokio::pin!(until);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut until => break,
                accepted = listener.accept() => accepted,
            };
            accept(accepted, &shared, &connections, self.max_connections).await;
        }
        // Those that the kernel has accepted already would be reset with the listener.
        while let Some(Ok(accepted)) = listener.accept().now_or_never() {
            accept(Ok(accepted), &shared, &connections, self.max_connections).await;
        }
        drop(listener);
        shared.close.cancel();
        connections.close();
        connections.wait().await;
    }
}

async fn accept(
    accepted: io::Result<(TcpStream, std::net::SocketAddr)>,
    shared: &Shared,
    connections: &TaskTracker,
    max: usize,
) {
    match accepted {
        Ok((stream, _)) if connections.len() >= max => {
            shared.metrics.refused.inc();
            // Closed rather than left in the kernel's queue: the caller can go to another shim.
            let _ = stream.try_write(BUSY);
        }
        Ok((stream, peer)) => {
            // Answers are written whole; waiting for more would only delay them.
            let _ = stream.set_nodelay(true);
            let open = Open::new(shared.metrics.clone());
            connections.spawn(connection(stream, Peer(peer), shared.clone(), open));
        }
        // The peer's doing; the next accept is unharmed.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::Interrupted
            ) => {}
        Err(error) => {
            if shared.metrics.accept_errors.inc().is_multiple_of(100) {
                tracing::error!(%error, "connections cannot be accepted");
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Counts a connection while it lives.
struct Open(HttpMetrics);

impl Open {
    fn new(metrics: HttpMetrics) -> Self {
        metrics.connections.inc();
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

async fn connection(stream: TcpStream, peer: Peer, shared: Shared, _open: Open) {
    let activity = Activity::new();
    let io = TokioIo::new(Watched::new(stream, activity.clone()));
    let service = {
        let (router, activity, drain) = (shared.router, activity.clone(), shared.drain);
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            serve(router.clone(), activity.request(), drain.clone(), request)
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW)
        // A peer that is gone without a word.
        .keep_alive_interval(Duration::from_secs(20));
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    let mut ticks = tokio::time::interval(shared.limits.tick());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut closing = false;
    loop {
        tokio::select! {
            // Errors are the peer's: resets, half requests, what is no HTTP. hyper has answered where it could.
            _ = connection.as_mut() => return,
            () = shared.force.cancelled() => return,
            () = shared.close.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => match activity.overdue(&shared.limits) {
                None => {}
                // The second time it has not reacted to the first.
                Some(Overdue::Idle) if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                Some(why) => {
                    if why == Overdue::Slow {
                        shared.metrics.timed_out.inc();
                    }
                    return;
                }
            },
        }
    }
}

async fn serve(
    router: Router,
    busy: Busy,
    drain: CancellationToken,
    request: Request<Incoming>,
) -> Result<Response<Guarded>, Infallible> {
    let version = request.version();
    let mut response = router.oneshot(request.map(AxumBody::new)).await?;
    // HTTP/2 has no such header; there GOAWAY says it when the listener closes.
    if drain.is_cancelled() && version <= Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Guarded { body, _busy: busy }))
}

/// A response's body, until whose end the connection counts as busy.
struct Guarded {
    body: AxumBody,
    _busy: Busy,
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
