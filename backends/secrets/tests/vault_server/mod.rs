//! Vault's transit engine as far as `decrypt` goes, with its statuses and error bodies.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, Method, StatusCode};
use longshore_secrets::VaultConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

pub const TOKEN: &str = "hvs.test-token";
const NAMESPACE: &str = "team-a";
/// The mounts that exist.
const MOUNTS: [&str; 2] = ["transit", "team/transit"];

#[derive(Default)]
struct Inner {
    /// Ciphertext -> mount and key that made it, and the plaintext.
    made: BTreeMap<String, (String, Vec<u8>)>,
    asked: Vec<String>,
    /// What every question gets instead.
    answer: Option<(u16, String)>,
}

#[derive(Clone)]
struct Shared {
    inner: Arc<Mutex<Inner>>,
    hold: Arc<watch::Sender<bool>>,
    count: Arc<watch::Sender<usize>>,
}

pub struct VaultServer {
    shared: Shared,
    address: String,
    files: TempDir,
}

impl VaultServer {
    pub async fn start() -> Self {
        let shared = Shared {
            inner: Arc::default(),
            hold: Arc::new(watch::Sender::new(false)),
            count: Arc::new(watch::Sender::new(0)),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(handle).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let server = Self { shared, address, files: tempfile::tempdir().unwrap() };
        server.write_token(TOKEN);
        server
    }

    pub fn config(&self) -> VaultConfig {
        VaultConfig {
            addr: self.address.parse().unwrap(),
            token_file: self.token_file(),
            namespace: Some(NAMESPACE.to_owned()),
            mount: "transit".to_owned(),
        }
    }

    fn token_file(&self) -> PathBuf {
        self.files.path().join("token")
    }

    pub fn write_token(&self, text: &str) {
        std::fs::write(self.token_file(), text).unwrap();
    }

    pub fn remove_token(&self) {
        std::fs::remove_file(self.token_file()).unwrap();
    }

    /// As `encrypt` of the engine would: the ciphertext says nothing of the plaintext.
    pub fn encrypt(&self, mount: &str, key: &str, plain: &[u8]) -> String {
        let ciphertext = format!("vault:v1:{}", BASE64.encode(rand::random::<[u8; 16]>()));
        let made = (format!("{mount} {key}"), plain.to_vec());
        self.shared.inner.lock().unwrap().made.insert(ciphertext.clone(), made);
        ciphertext
    }

    /// The paths of all questions so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared.inner.lock().unwrap().asked.clone()
    }

    pub fn answer(&self, answer: Option<(u16, &str)>) {
        let answer = answer.map(|(status, body)| (status, body.to_owned()));
        self.shared.inner.lock().unwrap().answer = answer;
    }

    /// Questions wait from now on, or no longer.
    pub fn hold(&self, hold: bool) {
        self.shared.hold.send_replace(hold);
    }

    /// A question has arrived.
    pub async fn arrived(&self) {
        self.shared.count.subscribe().wait_for(|count| *count > 0).await.unwrap();
    }
}

fn refused(status: StatusCode, errors: &[&str]) -> Response {
    (status, Json(json!({ "errors": errors }))).into_response()
}

async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = head.uri.path().to_owned();
    shared.inner.lock().unwrap().asked.push(path.clone());
    shared.count.send_modify(|count| *count += 1);
    shared.hold.subscribe().wait_for(|hold| !hold).await.unwrap();
    let inner = shared.inner.lock().unwrap();
    if let Some((status, body)) = &inner.answer {
        let status = StatusCode::from_u16(*status).unwrap();
        return (status, [("location", "/elsewhere")], body.clone()).into_response();
    }
    decrypt(&inner, &head.method, &path, &head.headers, &body)
}

fn decrypt(inner: &Inner, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if header("x-vault-token") != Some(TOKEN) || header("x-vault-namespace") != Some(NAMESPACE) {
        return refused(StatusCode::FORBIDDEN, &["permission denied"]);
    }
    let route = path.strip_prefix("/v1/").and_then(|rest| rest.split_once("/decrypt/"));
    let Some((mount, key)) = route.filter(|(mount, _)| MOUNTS.contains(mount)) else {
        return refused(StatusCode::NOT_FOUND, &[]);
    };
    if method != Method::POST {
        return refused(StatusCode::METHOD_NOT_ALLOWED, &[]);
    }
    let question: Option<Value> = serde_json::from_slice(body).ok();
    let ciphertext = question.as_ref().and_then(|q| q["ciphertext"].as_str());
    let Some(ciphertext) = ciphertext.filter(|_| header("content-type") == Some("application/json")) else {
        return refused(StatusCode::BAD_REQUEST, &["missing ciphertext to decrypt"]);
    };
    match inner.made.get(ciphertext) {
        Some((by, plain)) if *by == format!("{mount} {key}") => {
            Json(json!({ "request_id": "r", "lease_id": "", "data": { "plaintext": BASE64.encode(plain) } }))
                .into_response()
        }
        _ => refused(StatusCode::BAD_REQUEST, &["cipher: message authentication failed"]),
    }
}
