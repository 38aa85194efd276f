//! The development bundle store: an S3 endpoint on loopback over a folder, for `longshore dev` and for tests.
//!
//! Existing instructions for MinIO work with it: port 4569, `minioadmin`/`minioadmin`, `/minio/health/live`, `mc mb --ignore-existing`,
//! `mc cp`, `mc ls`. Requests must be signed. It is no server for production: one user, no versions, no locking.

mod store;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use store::FolderStore;

/// The only user, MinIO's default, which the existing platform's guide names.
pub const ACCESS_KEY: &str = "minioadmin";
/// Its password. Public: the endpoint listens on loopback only.
pub const SECRET_KEY: &str = "minioadmin";
/// The bucket of bundles, made at the start.
pub const BUCKET: &str = "extensions";

/// A client that does not finish its header in this time is dropped.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// More connections than any set of workers needs; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;

/// A running endpoint. Dropping it ends it.
pub struct S3Endpoint {
    address: SocketAddr,
    stop: CancellationToken,
}

impl S3Endpoint {
    /// Serves the folder `root` (made if absent, with the bucket [`BUCKET`]) on `listener`.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn start(listener: TcpListener, root: &Path) -> anyhow::Result<Self> {
        let store = FolderStore::open(root)?;
        store.make_bucket(BUCKET)?;
        let mut builder = S3ServiceBuilder::new(store);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let address = listener.local_addr().context("the S3 endpoint has no address")?;
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, builder.build(), stop.clone()));
        Ok(Self { address, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of `BUNDLE_STORE_BASE` that means this endpoint and its bucket.
    pub fn base(&self) -> String {
        format!("http://{}/{BUCKET}", self.address)
    }
}

impl Drop for S3Endpoint {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, service: S3Service, stop: CancellationToken) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(serve(socket, service.clone()));
                }
                // Out of descriptors, for example: they come back when connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

async fn serve(socket: TcpStream, service: S3Service) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let answer = service_fn(move |request| answer(service.clone(), request));
    // A client that goes away is no news for anybody.
    let _ = server.serve_connection(TokioIo::new(socket), answer).await;
}

async fn answer(service: S3Service, request: Request<Incoming>) -> Result<Response<s3s::Body>, Infallible> {
    let probe = matches!(*request.method(), Method::GET | Method::HEAD)
        && matches!(
            request.uri().path(),
            "/minio/health/live" | "/minio/health/ready" | "/minio/health/cluster"
        );
    if probe {
        return Ok(plain(StatusCode::OK));
    }
    // An `Err` of the service is a request that is no HTTP that it knows; S3's own errors are responses.
    Ok(service.call(request.map(s3s::Body::from)).await.unwrap_or_else(|_| plain(StatusCode::BAD_REQUEST)))
}

fn plain(status: StatusCode) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::from(Bytes::new()));
    *response.status_mut() = status;
    response
}
