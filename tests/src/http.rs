//! A small HTTP client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::call::{Call, Reply};

/// Longer than any call of a test may take: whatever exceeds it hangs.
const HANGS: Duration = Duration::from_secs(100);

/// A client of one server. Cheap to clone. Dropping the future of a request closes its connection.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

/// Why there is no reply.
#[derive(Debug, Clone)]
pub struct NoReply {
    /// The connection was refused: nobody listens.
    pub refused: bool,
    /// In words.
    pub why: String,
}

impl Http {
    /// A client of the server at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).build(connector), address }
    }

    /// The server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request and reads the whole reply.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, NoReply> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let began = Instant::now();
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| NoReply { refused: error.is_connect(), why: chain(&error) })?;
            let (head, body) = response.into_parts();
            let bytes =
                body.collect().await.map_err(|error| NoReply { refused: false, why: chain(&error) })?;
            Ok(Reply {
                transport: head.status.as_u16(),
                headers: head.headers,
                bytes: bytes.to_bytes(),
                took: began.elapsed(),
            })
        };
        let hung = Err(NoReply { refused: false, why: format!("no reply within {HANGS:?}: it hangs") });
        tokio::time::timeout(HANGS, exchange).await.unwrap_or(hung)
    }

    /// A GET; panics without a reply.
    pub async fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], "").await.unwrap_or_else(|error| panic!("GET {path}: {error:?}"))
    }

    /// Calls `/v1/execute` and checks what holds for every answer of it.
    pub async fn try_call(&self, call: &Call) -> Result<Reply, NoReply> {
        let reply = self.request("POST", "/v1/execute", &call.headers, call.json.to_string()).await?;
        reply.check();
        Ok(reply)
    }

    /// [`Self::try_call`]; panics without a reply.
    pub async fn call(&self, call: &Call) -> Reply {
        self.try_call(call).await.unwrap_or_else(|error| panic!("{error:?} to {}", call.json["http"]))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
