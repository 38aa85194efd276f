//! A raw HTTP/1 server that remembers what it was sent, and resolvers that answer as they are told.
#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "helpers of tests, where clippy.toml allows it")]

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use longshore_egress::{
    Egress, EgressConfig, EgressError, EgressRules, RequestBody, Resolve, ResponseBody, SendOptions, Who,
    full, parse_url,
};
use longshore_proto::TenantId;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the server does after it has written an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Takes the next request on the connection.
    Keep,
    Close,
    /// Neither answers nor closes.
    Hang,
    /// Writes a byte every 5 ms until the other side goes away.
    Drip,
}

pub type Answer = (Vec<u8>, Then);

pub struct Server {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// Head and body of each request, as they came.
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", answer).await
    }

    pub async fn on(address: &str, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let answer = Arc::new(answer);
        let (count, log) = (accepted.clone(), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                tokio::spawn(serve(stream, answer.clone(), log.clone()));
            }
        });
        Self { address, accepted, seen }
    }

    /// Connections that anyone else has made. Ours is made after them and accepted after them.
    pub async fn connections(&self) -> usize {
        let before = self.accepted.load(SeqCst);
        let _ours = TcpStream::connect(self.address).await.unwrap();
        loop {
            let now = self.accepted.load(SeqCst);
            if now > before {
                self.accepted.fetch_sub(1, SeqCst);
                return now - 1;
            }
            tokio::task::yield_now().await;
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<dyn Fn(&str) -> Answer + Send + Sync>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let (bytes, then) = answer(&request);
        seen.lock().push(request);
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        match then {
            Then::Keep => {}
            Then::Close => return,
            Then::Hang => std::future::pending().await,
            Then::Drip => {
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                return;
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = request_end(buffer) {
            let rest = buffer.split_off(end);
            return Some(String::from_utf8_lossy(&std::mem::replace(buffer, rest)).into_owned());
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn request_end(buffer: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(buffer);
    let head = text.find("\r\n\r\n")? + 4;
    let lower = text[..head].to_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        return text[head..].find("0\r\n\r\n").map(|at| head + at + 5);
    }
    let length: usize = lower
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    (buffer.len() >= head + length).then_some(head + length)
}

/// An answer of 200 with a body.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Answers from a list, one after the other and then the last for ever; counts the questions.
#[derive(Default)]
pub struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<SocketAddr>>>>,
    pub asked: Mutex<Vec<String>>,
}

impl Names {
    pub fn new(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let address = |a: &&str| match a.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, 0),
            Err(_) => a.parse().unwrap(),
        };
        let answers = names
            .iter()
            .map(|(name, answers)| {
                let answers = answers.iter().rev().map(|a| a.iter().map(address).collect()).collect();
                ((*name).to_owned(), answers)
            })
            .collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: Mutex::default() })
    }
}

#[async_trait::async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        self.asked.lock().push(host.to_owned());
        let mut all = self.answers.lock();
        let answers = all.get_mut(host).ok_or(io::ErrorKind::NotFound)?;
        if answers.len() > 1 { Ok(answers.pop().unwrap()) } else { Ok(answers.first().unwrap().clone()) }
    }
}

/// Everything is allowed, loopback too.
pub fn open() -> EgressConfig {
    EgressConfig { allow_all_when_empty: true, allow_private: true, ..EgressConfig::default() }
}

pub fn egress(config: EgressConfig) -> Egress {
    Egress::new(config, Names::new(&[])).unwrap()
}

pub fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub fn minute() -> SendOptions {
    SendOptions::until(Instant::now() + Duration::from_secs(60))
}

pub fn get(url: &str) -> Result<Request<RequestBody>, EgressError> {
    Ok(Request::get(parse_url(url)?).body(full(Bytes::new())).unwrap())
}

pub fn post(url: &str, body: impl Into<Bytes>) -> Request<RequestBody> {
    Request::post(parse_url(url).unwrap()).body(full(body.into())).unwrap()
}

pub async fn send(
    egress: &Egress,
    name: &str,
    rules: Option<&EgressRules>,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, EgressError> {
    egress.send(&Who { tenant: &tenant(name), install_rules: rules }, request, minute()).await
}

/// Status and body of a GET.
pub async fn fetch(egress: &Egress, name: &str, url: &str) -> Result<(u16, Bytes), EgressError> {
    let answer = send(egress, name, None, get(url)?).await?;
    Ok((answer.status().as_u16(), answer.into_body().collect().await?))
}
