//! The load: connections that are kept, each with one call at a time.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use longshore_proto::execute::ExecuteResponse;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// No call may take longer than this: whatever exceeds it hangs.
const HANGS: Duration = Duration::from_secs(60);

/// The one request that is sent again and again.
#[derive(Clone, Debug)]
pub struct Target {
    /// The shim.
    pub address: SocketAddr,
    /// How it is asked.
    pub route: Route,
}

/// The ways to call an extension.
#[derive(Clone, Debug)]
pub enum Route {
    /// As a gateway before the shim calls: the caller names bundle and rights.
    Execute {
        /// `x-alga-tenant`.
        tenant: &'static str,
        /// `x-alga-extension`.
        extension: &'static str,
        /// The request to `/v1/execute`.
        body: Bytes,
    },
    /// As a browser or an API client calls.
    Extension {
        /// The path, from `/api/ext` on.
        path: String,
        /// `Bearer` and a token.
        authorization: HeaderValue,
    },
}

impl Route {
    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let request = match self {
            Self::Execute { tenant, extension, body } => Request::post("/v1/execute")
                .header(HOST, "longshore-bench")
                .header(CONTENT_TYPE, "application/json")
                .header("x-alga-tenant", *tenant)
                .header("x-alga-extension", *extension)
                .body(Full::new(body.clone())),
            Self::Extension { path, authorization } => Request::get(path)
                .header(HOST, "longshore-bench")
                .header(ACCEPT, "application/json")
                .header(AUTHORIZATION, authorization)
                .body(Full::default()),
        };
        Ok(request?)
    }

    /// What an answer of status 200 says of the call.
    fn check(&self, answer: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Execute { .. } => check(answer),
            Self::Extension { .. } => {
                anyhow::ensure!(!answer.is_empty(), "an answer without a body");
                Ok(())
            }
        }
    }
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections.
    pub connections: usize,
    /// At the beginning, not counted: the connections are new, and the fleet has idled while the other had its turn.
    pub discard: Duration,
    /// Counted.
    pub measure: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Load {
    /// Microseconds of each call that was answered, from the first byte sent to the last byte read, in no order.
    pub latencies_us: Vec<u32>,
    /// From the end of the discarded part to the last answer.
    pub elapsed: Duration,
    /// Calls that were not answered, or with an error; those of the discarded part too.
    pub failures: u64,
    /// The first of them.
    pub first_failure: Option<String>,
}

/// Runs it on a thread of its own and waits without using CPU.
pub async fn run(target: Target, plan: Plan) -> anyhow::Result<Load> {
    let (done, load) = oneshot::channel();
    std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let load =
                runtime.context("no runtime").and_then(|runtime| runtime.block_on(drive(target, plan)));
            // Nobody listens any more when the benchmark is being stopped.
            let _ = done.send(load);
        })
        .context("no thread")?;
    load.await.context("the load broke off")?
}

async fn drive(target: Target, plan: Plan) -> anyhow::Result<Load> {
    // All connections stand before the first call, so that opening them is no part of anything.
    let mut connections = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        connections.push(Connection::open(target.clone()).await?);
    }
    let count_from = Instant::now() + plan.discard;
    let end = count_from + plan.measure;
    let mut tasks: JoinSet<Load> =
        connections.into_iter().map(|connection| connection.calls(count_from, end)).collect();
    let mut total = Load::default();
    while let Some(one) = tasks.join_next().await {
        let one = one.context("a connection's task broke off")?;
        total.latencies_us.extend(one.latencies_us);
        total.failures += one.failures;
        total.first_failure = total.first_failure.or(one.first_failure);
    }
    total.elapsed = count_from.elapsed();
    Ok(total)
}

/// A connection that is kept.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
}

impl Connection {
    /// Connects.
    pub async fn open(target: Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address).await.context("cannot connect to the shim")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its errors are the errors of the calls on it.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self { sender, target })
    }

    /// One call; the reply's bytes if the transport status is 200.
    pub async fn exchange(&mut self) -> anyhow::Result<Bytes> {
        let request = self.target.route.request()?;
        let exchange = async {
            let response = self.sender.send_request(request).await?;
            let status = response.status();
            let bytes = response.into_body().collect().await?.to_bytes();
            anyhow::ensure!(status == 200, "status {status}: {}", String::from_utf8_lossy(&bytes));
            Ok(bytes)
        };
        tokio::time::timeout(HANGS, exchange).await.context("no answer: it hangs")?
    }

    /// One call and its whole envelope, whatever it says.
    pub async fn call(&mut self) -> anyhow::Result<ExecuteResponse> {
        serde_json::from_slice(&self.exchange().await?).context("the answer is no envelope")
    }

    async fn timed_call(&mut self) -> anyhow::Result<u32> {
        let began = Instant::now();
        let bytes = self.exchange().await?;
        let took = began.elapsed();
        self.target.route.check(&bytes)?;
        Ok(u32::try_from(took.as_micros()).unwrap_or(u32::MAX))
    }

    async fn calls(mut self, count_from: Instant, end: Instant) -> Load {
        let mut load = Load::default();
        loop {
            let now = Instant::now();
            if now >= end {
                return load;
            }
            match self.timed_call().await {
                Ok(latency) if now >= count_from => load.latencies_us.push(latency),
                Ok(_) => {}
                Err(error) => {
                    load.failures += 1;
                    load.first_failure.get_or_insert_with(|| format!("{error:#}"));
                    if self.sender.is_closed() {
                        return load;
                    }
                }
            }
        }
    }
}

/// Of an envelope, what makes a call good or bad: the rest is not even copied.
#[derive(Deserialize)]
struct Outcome<'a> {
    status: u16,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
}

fn check(envelope: &[u8]) -> anyhow::Result<()> {
    let outcome: Outcome<'_> = serde_json::from_slice(envelope).context("the answer is no envelope")?;
    anyhow::ensure!(
        outcome.status == 200 && outcome.error.is_none(),
        "status {} in the envelope, error {}",
        outcome.status,
        outcome.error.as_deref().unwrap_or("none")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn route() -> Route {
        Route::Execute { tenant: "t", extension: "e", body: Bytes::new() }
    }

    /// A server that answers everything with `envelope`, on as many connections as come.
    async fn server(envelope: &'static str) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let reply =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{envelope}", envelope.len());
                    let mut request = [0; 4096];
                    while stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                        stream.write_all(reply.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Target { address, route: route() }
    }

    const SHORT: Plan =
        Plan { connections: 3, discard: Duration::from_millis(10), measure: Duration::from_millis(50) };

    #[tokio::test]
    async fn good_answers_are_counted_and_timed() {
        let target = server(r#"{"status":200,"headers":{},"body_b64":null,"error":null}"#).await;
        let load = run(target, SHORT).await.unwrap();
        assert_eq!((load.failures, load.first_failure), (0, None));
        assert!(load.latencies_us.len() >= 3 && load.elapsed >= SHORT.measure);
    }

    #[tokio::test]
    async fn an_error_in_an_envelope_is_a_failure_with_its_words() {
        let target =
            server(r#"{"status":503,"headers":{},"body_b64":null,"error":"no_workers: \"x\""}"#).await;
        let load = run(target, SHORT).await.unwrap();
        assert!(load.latencies_us.is_empty() && load.failures >= 3);
        assert!(load.first_failure.unwrap().contains("no_workers: \"x\""));
    }

    #[tokio::test]
    async fn a_guest_status_other_than_200_and_no_envelope_at_all_are_failures() {
        assert!(check(br#"{"status":404,"error":null}"#).is_err());
        assert!(check(b"hello").is_err());
        assert!(check(br#"{"status":200,"error":null,"later":[1]}"#).is_ok());
    }

    #[tokio::test]
    async fn nobody_to_connect_to_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let target = Target { address, route: route() };
        assert!(run(target, SHORT).await.is_err());
    }

    #[tokio::test]
    async fn an_answer_of_the_gateway_route_is_no_envelope_and_its_token_is_not_printed() {
        let mut authorization = HeaderValue::from_static("Bearer canary");
        authorization.set_sensitive(true);
        let route = Route::Extension { path: "/api/ext/e/hello".to_owned(), authorization };
        let target = Target { route, ..server("hello").await };
        assert!(!format!("{target:?}").contains("canary"));
        let load = run(target.clone(), SHORT).await.unwrap();
        assert_eq!(load.first_failure, None);
        let empty = Target { route: target.route, ..server("").await };
        assert!(run(empty, SHORT).await.unwrap().failures > 0);
    }
}
