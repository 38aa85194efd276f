//! A raw HTTP/1 server for what guests fetch: remembers every byte and answers as it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the server answers.
#[derive(Clone)]
pub enum Answer {
    /// These bytes; the connection stays.
    Bytes(Vec<u8>),
    /// These bytes; the connection closes.
    Last(Vec<u8>),
    /// Nothing, ever.
    Hang,
}

pub struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Answer>>,
}

/// A whole answer.
pub fn whole(status: u16, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Bytes(
        format!("HTTP/1.1 {status} Said\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes(),
    )
}

impl Server {
    pub async fn start() -> Self {
        Self::on("127.0.0.1:0").await
    }

    pub async fn on(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            address,
            accepted: Arc::default(),
            seen: Arc::default(),
            answer: Arc::new(Mutex::new(whole(200, "", "hello"))),
        };
        let (accepted, seen, answer) = (server.accepted.clone(), server.seen.clone(), server.answer.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, SeqCst);
                tokio::spawn(serve(stream, seen.clone(), answer.clone()));
            }
        });
        server
    }

    /// What it answers from now on.
    pub fn answers(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Head and body of each request since the last time this was asked.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock())
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
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>, answer: Arc<Mutex<Answer>>) {
    let mut buffer = Vec::new();
    loop {
        while let Some(end) = request_end(&buffer) {
            let rest = buffer.split_off(end);
            seen.lock().push(String::from_utf8_lossy(&std::mem::replace(&mut buffer, rest)).into_owned());
            let answer = answer.lock().clone();
            match answer {
                Answer::Bytes(bytes) => drop(stream.write_all(&bytes).await),
                Answer::Last(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    return;
                }
                Answer::Hang => std::future::pending().await,
            }
        }
        if stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
            continue;
        }
        // What is no whole request has been sent as well.
        if !buffer.is_empty() {
            seen.lock().push(String::from_utf8_lossy(&buffer).into_owned());
        }
        return;
    }
}

fn request_end(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
    let length = text.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    (buffer.len() >= head + length).then_some(head + length)
}
