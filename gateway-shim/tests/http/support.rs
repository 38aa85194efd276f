//! A front on a free port with a hand-written dispatcher behind it, and a client that shows every byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway_shim::dispatch::{Answer, AnswerBody, Call, CallResult};
use gateway_shim::http::{App, Dispatch, Fleet, HttpConfig, HttpMetrics, Sealer, Server, health, router};
use longshore_secrets::KeyRing;
use longshore_service::admin_http::Admin;
use longshore_service::metrics::Metrics;
use longshore_service::readiness::Readiness;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

type CallFuture = Pin<Box<dyn Future<Output = CallResult> + Send>>;

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Fake(Box<dyn Fn(Call) -> CallFuture + Send + Sync>);

impl Fake {
    pub fn new<F, Fut>(answer: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CallResult> + Send + 'static,
    {
        Self(Box::new(move |call| Box::pin(answer(call))))
    }
}

impl Dispatch for Fake {
    fn call(&self, call: Call) -> impl Future<Output = CallResult> + Send {
        (self.0)(call)
    }

    fn fleet(&self) -> Fleet {
        Fleet { nats_connected: true, workers: 2 }
    }
}

/// Answers with the request's body and what it was told.
pub fn echo() -> Fake {
    Fake::new(|call: Call| async move {
        let headers = vec![
            ("X-Method".to_owned(), call.run.http.method.clone()),
            ("X-Url".to_owned(), call.run.http.url.clone()),
            ("X-Execution".to_owned(), call.execution.to_string()),
        ];
        Ok(Answer { status: 201, headers, body: AnswerBody::Full(call.body), trailers: vec![] })
    })
}

pub struct Front {
    pub address: SocketAddr,
    pub drain: CancellationToken,
    pub force: CancellationToken,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub server: JoinHandle<()>,
}

impl Front {
    pub async fn start(dispatch: Fake, settings: &[(&str, &str)]) -> Self {
        let env: BTreeMap<String, String> =
            settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = HttpConfig::load(&env, ["shim".to_owned()]).unwrap();
        let (metrics, readiness) = (Metrics::new("shim"), Readiness::new());
        let dispatch = Arc::new(dispatch);
        let probe = Arc::new(|| Box::pin(async { false }) as Pin<Box<dyn Future<Output = bool> + Send>>);
        let admin = Admin::new(readiness.clone(), metrics.clone())
            .with_health(health(dispatch.clone(), probe))
            .router();
        let http_metrics = HttpMetrics::register(&metrics);
        let sealer = Sealer::new(Some(KeyRing::generate()));
        let router = router(App::new(dispatch, config.clone(), http_metrics.clone(), sealer), admin);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, force) = (CancellationToken::new(), CancellationToken::new());
        let server = Server::new(router, &config, http_metrics);
        let server = tokio::spawn(server.run(listener, drain.clone(), force.clone()));
        Self { address, drain, force, metrics, readiness, server }
    }

    /// Waits until the metrics have this line: some are set a moment after the client has its answer.
    pub async fn shows(&self, line: &str) {
        let started = Instant::now();
        loop {
            let page = self.metrics.render().unwrap();
            if page.lines().any(|l| l == line) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{line} is missing in\n{page}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), buffer: Vec::new() }
    }

    /// One request on a connection of its own.
    pub async fn send(&self, request: impl AsRef<[u8]>) -> Reply {
        let mut client = self.connect().await;
        client.write(request).await;
        client.reply().await
    }

    pub async fn execute(&self, body: &Value) -> Reply {
        self.send(post(&[], body.to_string())).await
    }
}

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next response, whole.
    pub async fn reply(&mut self) -> Reply {
        let reply = tokio::time::timeout(PATIENCE, self.try_reply()).await.expect("no response in time");
        reply.expect("the connection ended without a whole response")
    }

    /// None when the connection ends before the response does.
    pub async fn try_reply(&mut self) -> Option<Reply> {
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break String::from_utf8(self.buffer.drain(..at + 4).collect()).unwrap();
            }
            self.more().await?;
        };
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length: usize =
            headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
        while self.buffer.len() < length {
            self.more().await?;
        }
        Some(Reply { status, headers, body: self.buffer.drain(..length).collect() })
    }

    async fn more(&mut self) -> Option<()> {
        // An error is a reset: the end, too.
        let read = self.stream.read_buf(&mut self.buffer).await.unwrap_or(0);
        (read > 0).then_some(())
    }

    /// Waits until the server closes the connection.
    pub async fn closed(&mut self) {
        tokio::time::timeout(PATIENCE, async { while self.more().await.is_some() {} })
            .await
            .expect("the connection stays open");
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The id of the execution, which every answer of `/v1/execute` carries.
    pub fn execution(&self) -> &str {
        let id = self.header("x-longshore-execution-id").expect("an execution id");
        assert_eq!(id.len(), 32);
        assert_eq!(self.header("cache-control"), Some("no-store"));
        id
    }

    /// The envelope, whose shape is checked.
    pub fn envelope(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        let envelope = self.json();
        let keys: Vec<&str> = envelope.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["body_b64", "error", "headers", "status"]);
        assert_eq!(envelope["headers"]["x-longshore-execution-id"], self.execution());
        envelope
    }
}

/// A good request.
pub fn request() -> Value {
    json!({
        "context": {"request_id": "r-1", "tenant_id": "t", "extension_id": "e", "content_hash": "ab".repeat(32)},
        "http": {"method": "POST", "path": "/x", "query": {"q": "1"}, "body_b64": "aGk="},
        "limits": {"timeout_ms": 5000},
    })
}

/// `POST /v1/execute` with the headers that callers send, but for those in `headers`: an empty value leaves one out.
pub fn post(headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let length = body.as_ref().len().to_string();
    let mut all = vec![
        ("host", "shim"),
        ("content-type", "application/json"),
        ("x-alga-tenant", "t"),
        ("x-alga-extension", "e"),
        ("content-length", &length),
    ];
    for (name, value) in headers {
        all.retain(|(known, _)| known != name);
        if !value.is_empty() {
            all.push((name, value));
        }
    }
    let lines: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    [format!("POST /v1/execute HTTP/1.1\r\n{lines}\r\n").as_bytes(), body.as_ref()].concat()
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: shim\r\n\r\n")
}

pub fn body_of(envelope: &Value) -> Bytes {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(envelope["body_b64"].as_str().unwrap()).unwrap().into()
}
