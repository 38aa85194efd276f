//! The admin service, as an operator's program talks to it.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::call::Reply;
use crate::service::Service;

/// The token of the admin services that tests start.
pub const ADMIN_TOKEN: &str = "an-operators-token-for-tests-5b2f";

/// A running admin service.
pub struct Admin {
    /// The process.
    pub service: Service,
}

impl Admin {
    pub(crate) fn new(service: Service) -> Self {
        Self { service }
    }

    /// Its address, as `LONGSHORE_ADMIN_URL` names it.
    pub fn url(&self) -> String {
        format!("http://{}", self.service.address())
    }

    /// Any request, with the token.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> (u16, Value) {
        let headers = [
            ("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}")),
            ("content-type".to_owned(), content_type.to_owned()),
        ];
        let reply: Reply = self
            .service
            .http()
            .request(method, path, &headers, body)
            .await
            .unwrap_or_else(|e| panic!("{e:?}"));
        let json = serde_json::from_slice(&reply.bytes).unwrap_or(Value::Null);
        (reply.transport, json)
    }

    /// Any request with another token, or none; the whole reply.
    pub async fn send_as(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut headers = vec![("content-type".to_owned(), "application/octet-stream".to_owned())];
        headers.extend(token.map(|token| ("authorization".to_owned(), format!("Bearer {token}"))));
        let reply = self.service.http().request(method, path, &headers, body).await;
        reply.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
    }

    /// The bytes that a GET must be answered with.
    pub async fn bytes(&self, path: &str) -> Bytes {
        let reply = self.send_as(Some(ADMIN_TOKEN), "GET", path, "").await;
        assert_eq!(reply.transport, 200, "{path}: {}", String::from_utf8_lossy(&reply.bytes));
        reply.bytes
    }

    /// Summaries of a tenant's traces, of all pages; `query` is `extension=..&failed=true`.
    pub async fn traces(&self, tenant: &str, query: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/tenants/{tenant}/traces?limit=200&{query}{cursor}");
            let page = self.ok("GET", &path, Value::Null).await;
            all.extend(page["traces"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// Records the runs of an install: `recording` is the request.
    pub async fn record(&self, tenant: &str, install: &str, recording: Value) -> Value {
        self.ok("PUT", &format!("/v1/tenants/{tenant}/installs/{install}/recording"), recording).await
    }

    /// A request with JSON that must be answered 2xx.
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let (status, json) = self.send(method, path, "application/json", text).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {json:#}");
        json
    }

    /// Uploads an archive; the answer with ids and hash.
    pub async fn upload(&self, tenant: &str, archive: &[u8]) -> Value {
        let path = format!("/v1/tenants/{tenant}/bundles");
        let (status, json) =
            self.send("PUT", &path, "application/zstd", Bytes::copy_from_slice(archive)).await;
        assert!((200..300).contains(&status), "upload: {status} {json:#}");
        json
    }

    /// Uploads an archive and installs it with all that its manifest asks for and with `options`; the install.
    pub async fn install(&self, tenant: &str, archive: &[u8], options: Value) -> Value {
        let uploaded = self.upload(tenant, archive).await;
        let mut request = json!({
            "content_hash": uploaded["content_hash"], "extension": uploaded["extension"], "grant": "all",
        });
        for (name, value) in options.as_object().into_iter().flatten() {
            request[name] = value.clone();
        }
        self.ok("POST", &format!("/v1/tenants/{tenant}/installs"), request).await
    }

    /// A new token of a tenant: what a caller sends after `Bearer `.
    pub async fn token(&self, tenant: &str, access: &str) -> String {
        let request = json!({ "access": access, "label": "test" });
        let created = self.ok("POST", &format!("/v1/tenants/{tenant}/tokens"), request).await;
        created["secret"].as_str().expect("the token, once").to_owned()
    }
}
