//! Calls to `/v1/execute` and their replies.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::HeaderMap;
use longshore_proto::ContentHash;
use serde_json::{Value, json};

/// A bundle that a tenant may run.
#[derive(Clone, Debug)]
pub struct Extension {
    /// The tenant.
    pub tenant: String,
    /// The extension's registry id.
    pub id: String,
    /// The bundle.
    pub hash: ContentHash,
}

impl Extension {
    /// A call with a method and a path that may have a query.
    pub fn call(&self, method: &str, path: impl Into<String>) -> Call {
        let json = json!({
            "context": {
                "request_id": "request-1",
                "tenant_id": self.tenant,
                "extension_id": self.id,
                "install_id": "install-1",
                "version_id": "version-1",
                "content_hash": format!("sha256:{}", self.hash.hex()),
                "config": {},
            },
            "http": { "method": method, "path": path.into() },
            "limits": { "timeout_ms": 30_000 },
        });
        let headers = [
            ("content-type", "application/json"),
            ("x-alga-tenant", self.tenant.as_str()),
            ("x-alga-extension", self.id.as_str()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Call { headers, json }
    }

    /// A safe call.
    pub fn get(&self, path: impl Into<String>) -> Call {
        self.call("GET", path)
    }

    /// An unsafe call.
    pub fn post(&self, path: impl Into<String>) -> Call {
        self.call("POST", path)
    }

    /// The key of its stream of debug events with the prefix that tests use.
    pub fn stream(&self) -> String {
        format!("{}{}:{}", crate::stack::STREAM_PREFIX, self.tenant.to_lowercase(), self.id.to_lowercase())
    }
}

/// A request to `/v1/execute`.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request's headers.
    pub headers: Vec<(String, String)>,
    /// The request's JSON.
    pub json: Value,
}

impl Call {
    /// With another time limit.
    pub fn timeout_ms(self, timeout: u64) -> Self {
        self.with("/limits/timeout_ms", json!(timeout))
    }

    /// With a memory limit.
    pub fn memory_mb(self, memory: u64) -> Self {
        self.with("/limits/memory_mb", json!(memory))
    }

    /// With a request body.
    pub fn body(self, body: &[u8]) -> Self {
        self.with("/http/body_b64", json!(BASE64.encode(body)))
    }

    /// With another request id.
    pub fn request(self, id: &str) -> Self {
        self.with("/context/request_id", json!(id))
    }

    /// With a value at a JSON pointer whose parent is there.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.json.pointer_mut(parent).unwrap()[name] = value;
        self
    }

    /// With a header, instead of one of that name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a header.
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The transport status.
    pub transport: u16,
    /// The transport headers.
    pub headers: HeaderMap,
    /// The transport body.
    pub bytes: Bytes,
    /// Between the request's first and the reply's last byte.
    pub took: Duration,
}

impl Reply {
    /// What holds for every answer of `/v1/execute`: it is not to be stored and names its execution; with status 200 it is an envelope of exactly
    /// four keys that names the same execution, and `retry-after` stands in both places or in none.
    pub fn check(&self) {
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        let id = self.header("x-longshore-execution-id").expect("every answer names its execution");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        if self.transport != 200 {
            assert!(
                self.header("content-type").is_some_and(|text| text.starts_with("text/plain")),
                "{self:?}"
            );
            return;
        }
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let envelope = self.envelope();
        let mut keys: Vec<&String> = envelope.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["body_b64", "error", "headers", "status"]);
        assert_eq!(envelope["headers"]["x-longshore-execution-id"], id, "{envelope}");
        if self.error().is_some() {
            assert_eq!(envelope["headers"]["retry-after"].as_str(), self.header("retry-after"), "{envelope}");
            assert!(envelope["body_b64"].is_null(), "{envelope}");
        }
    }

    /// A transport header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The execution's id.
    pub fn execution(&self) -> &str {
        self.header("x-longshore-execution-id").unwrap()
    }

    /// The envelope.
    pub fn envelope(&self) -> Value {
        assert_eq!(self.transport, 200, "no envelope: {}", String::from_utf8_lossy(&self.bytes));
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// The envelope's status.
    pub fn status(&self) -> u64 {
        self.envelope()["status"].as_u64().unwrap()
    }

    /// The envelope's error.
    pub fn error(&self) -> Option<String> {
        self.envelope()["error"].as_str().map(str::to_owned)
    }

    /// Status and error of a failure.
    pub fn failure(&self) -> (u64, String) {
        (self.status(), self.error().unwrap_or_else(|| panic!("no failure: {}", self.envelope())))
    }

    /// A header of the envelope.
    pub fn guest_header(&self, name: &str) -> Option<String> {
        self.envelope()["headers"][name].as_str().map(str::to_owned)
    }

    /// The body in the envelope, of an answer without error.
    pub fn body(&self) -> Option<Vec<u8>> {
        let envelope = self.envelope();
        assert!(envelope["error"].is_null(), "{}", envelope["error"]);
        envelope["body_b64"].as_str().map(|text| BASE64.decode(text).unwrap())
    }

    /// That body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body().expect("a body")).unwrap()
    }

    /// That body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// The code at the beginning of the envelope's error, or `ok`: what load is counted by.
    pub fn outcome(&self) -> String {
        self.error().unwrap_or_else(|| "ok".to_owned())
    }
}
