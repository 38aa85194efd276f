//! The server: few connections, bounded, drained. The admin API is for operators; it needs none of what the gateway's server does
//! for callers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// More connections than these are somebody's mistake; others wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 128;

/// Limit for a request's header, and for a connection that has nothing to say.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a request's header.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// The longest request: an upload of 200 MiB over a slow line, or an install that waits for its workers (five minutes at most), and
/// more after it on the same connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(3600);

/// Serves until `drain`, then finishes what is under way, at the latest until `force`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    drain: CancellationToken,
    force: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            biased;
            () = drain.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; the next accept would fail at once.
                tracing::warn!(%error, "the admin API cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let (drain, force) = (drain.clone(), force.clone());
        connections.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEADER_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            // Errors here are the peer's: a reset or a timeout.
            tokio::select! {
                _ = tokio::time::timeout(CONNECTION_LIMIT, connection.as_mut()) => {}
                () = force.cancelled() => {}
                () = drain.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        _ = connection => {}
                        () = force.cancelled() => {}
                    }
                }
            }
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}
