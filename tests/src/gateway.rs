//! Callers of `/api/ext`.

use bytes::Bytes;
use serde_json::Value;

use crate::call::Reply;
use crate::http::Http;
use crate::service::Service;
use crate::wait;

/// Somebody with a token.
#[derive(Clone)]
pub struct Caller {
    http: Http,
    token: String,
}

impl Caller {
    /// One who calls through `gateway`, as soon as it knows the token: gateways hear of a new one from NATS, mostly within a
    /// millisecond, but after the admin service has answered.
    pub async fn new(gateway: &Service, token: impl Into<String>) -> Self {
        let caller = Self { http: gateway.http().clone(), token: token.into() };
        wait::until("a gateway that knows the token", wait::LIMIT, async || {
            let reply = caller.get("nothing.of.this.name").await;
            if reply.transport == 401 { Err(format!("{reply:?}")) } else { Ok(()) }
        })
        .await;
        caller
    }

    /// What is sent after `Bearer `.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Any request; `path` is what follows `/api/ext/`.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut all = vec![("authorization".to_owned(), format!("Bearer {}", self.token))];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let path = format!("/api/ext/{path}");
        self.http.request(method, &path, &all, body).await.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    /// A GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    /// A POST with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// What one host function says to the guest `driver` at this path, which is POSTed to.
    pub async fn host(&self, path: &str, function: &str, args: Value) -> Value {
        let calls = serde_json::json!({ "calls": [{ "fn": function, "args": args }] });
        let reply = self.post(path, &calls).await;
        assert_eq!(reply.transport, 200, "{reply:?}");
        reply.plain_json()["results"][0].clone()
    }
}

impl Reply {
    /// The transport body as JSON.
    pub fn plain_json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The transport body as text.
    pub fn plain_text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    /// Status and code of an error of `/api/ext`, whose form is checked.
    pub fn refusal(&self) -> (u16, String) {
        let json = self.plain_json();
        let mut keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["code", "message", "request_id", "retryable"], "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        assert_eq!(self.header("x-request-id"), json["request_id"].as_str(), "{self:?}");
        assert!(json["retryable"].is_boolean() && !json["message"].as_str().unwrap().is_empty(), "{self:?}");
        (self.transport, json["code"].as_str().unwrap().to_owned())
    }
}
