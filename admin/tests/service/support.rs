//! A running service and a client of it.

use std::path::{Path, PathBuf};

use longshore_bundle::archive::pack_files;
use longshore_secrets::KeyRing;
use longshore_tests::http::Http;
use longshore_tests::nats::Nats;
use longshore_tests::{Service, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const TOKEN: &str = "admin-token-of-a-test";

/// The service, what it needs, and a client of it.
pub struct Admin {
    pub nats: Nats,
    pub service: Service,
    pub folder: TempDir,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub json: Value,
}

impl Answer {
    /// The failure's code, whose shape is checked.
    pub fn code(&self) -> &str {
        let error = self.json.as_object().unwrap_or_else(|| panic!("{}", self.json));
        assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "message", "request_id"], "{}", self.json);
        assert_eq!(error["request_id"], self.headers["x-request-id"].to_str().unwrap());
        error["code"].as_str().unwrap()
    }

    /// The answer of a request that must have worked.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.json);
        self.json
    }

    /// The code of a request that must have failed with this status.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.json);
    }
}

impl Admin {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts it and waits until it is ready.
    pub async fn with(settings: &[(&str, String)]) -> Self {
        let nats = Nats::start().await;
        let folder = tempfile::tempdir().unwrap();
        KeyRing::generate().write_new(&folder.path().join("secrets.key")).unwrap();
        let mut service =
            Service::start("longshore-admin", "admin", &Self::settings(&nats, folder.path(), settings)).await;
        service.ready().await;
        Self { nats, service, folder }
    }

    pub fn settings<'s>(
        nats: &Nats,
        folder: &Path,
        settings: &[(&'s str, String)],
    ) -> Vec<(&'s str, String)> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut all = vec![
            ("NATS_URL", nats.url()),
            ("NATS_USER", "control".to_owned()),
            ("NATS_PASSWORD", nats.password("control").to_owned()),
            ("BUNDLE_STORE_BASE", text(folder.join("store"))),
            ("LONGSHORE_SECRETS_KEY_FILE", text(folder.join("secrets.key"))),
            ("LONGSHORE_ADMIN_ADDR", "127.0.0.1:0".to_owned()),
            ("LONGSHORE_ADMIN_TOKEN", TOKEN.to_owned()),
        ];
        all.retain(|(name, _)| settings.iter().all(|(other, _)| other != name));
        all.extend(settings.iter().cloned());
        all
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A request with the token.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut headers = vec![("authorization".to_owned(), format!("Bearer {TOKEN}"))];
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        raw(self.service.http(), method, path, &headers, body.into_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None).await
    }

    /// Uploads an archive.
    pub async fn upload(&self, tenant: &str, query: &str, archive: Vec<u8>) -> Answer {
        let headers = [
            ("authorization".to_owned(), format!("Bearer {TOKEN}")),
            ("content-type".to_owned(), "application/octet-stream".to_owned()),
        ];
        raw(self.service.http(), "PUT", &format!("/v1/tenants/{tenant}/bundles{query}"), &headers, archive)
            .await
    }

    /// Uploads and installs, with all that the manifest asks for.
    pub async fn install(&self, tenant: &str, archive: Vec<u8>) -> Value {
        let uploaded = self.upload(tenant, "", archive).await.ok();
        let request = json!({ "content_hash": uploaded["content_hash"], "grant": "all", "wait_ms": 0 });
        self.ask("POST", &format!("/v1/tenants/{tenant}/installs"), Some(request)).await.ok()
    }

    /// Kinds of the recorded events, the oldest first.
    pub async fn audit(&self) -> Vec<String> {
        let events = self.get("/v1/audit").await.ok();
        events["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["kind"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Any request; the answer is JSON, always.
pub async fn raw(
    http: &Http,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: Vec<u8>,
) -> Answer {
    let reply = http
        .request(method, path, headers, body)
        .await
        .unwrap_or_else(|error| panic!("{method} {path}: {error:?}"));
    assert!(reply.headers.contains_key("x-request-id"), "{method} {path}");
    let json = serde_json::from_slice(&reply.bytes).unwrap_or(Value::Null);
    Answer { status: reply.transport, headers: reply.headers, json }
}

/// A bundle of pages alone.
pub fn pages(name: &str, version: &str, capabilities: &[&str]) -> Vec<u8> {
    let manifest = json!({
        "name": name, "publisher": "Longshore", "version": version, "runtime": "wasm-js@1", "capabilities": capabilities,
        "ui": { "type": "iframe", "entry": "ui/index.html" },
    });
    pack_files(
        [
            ("manifest.json", manifest.to_string()),
            ("ui/index.html", format!("<!doctype html><title>{version}</title>")),
        ],
        1,
    )
    .unwrap()
}

/// Waits until a condition holds.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    wait::until(what, wait::LIMIT, async || if holds().await { Ok(()) } else { Err("not yet") }).await;
}
