//! A real headless Chromium, driven over WebDriver (W3C): six requests of JSON, sent by the client that the tests have anyway. The library for it
//! (fantoccini) stands on a crate under the MPL, which this project's licence list does not have.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Http;
use crate::process::Process;
use crate::wait;

/// One browser window. The browser ends with it.
pub struct Browser {
    session: String,
    http: Http,
    _driver: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts a driver on a free port, and through it a browser with a profile of its own.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let program = std::env::var("CHROMEDRIVER_BIN").unwrap_or_else(|_| "chromedriver".to_owned());
        let driver = Process::start(
            "chromedriver",
            Command::new(program).args(["--port=0"]).env_clear().env("HOME", profile.path()),
        );
        let port: u16 = driver
            .lines()
            .wait("chromedriver's port", wait::LIMIT, |line| {
                line.split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok()
            })
            .await;
        let http = Http::new(SocketAddr::from(([127, 0, 0, 1], port)));
        let folder = format!("--user-data-dir={}", profile.path().join("profile").display());
        // Without a sandbox of its own: tests may run as root, where Chromium refuses to start with it. Nothing may look for servers of its maker.
        let mut args = vec![
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ];
        args.push(&folder);
        let mut options = json!({ "args": args });
        if let Ok(binary) = std::env::var("CHROMIUM_BIN") {
            options["binary"] = binary.into();
        }
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = send(&http, "POST", "/session", capabilities).await;
        let session = answer["sessionId"].as_str().expect("a session").to_owned();
        Self { session, http, _driver: driver, _profile: profile }
    }

    async fn command(&self, method: &str, path: &str, body: Value) -> Value {
        send(&self.http, method, &format!("/session/{}{path}", self.session), body).await
    }

    /// Opens a page and waits until it and its sub-resources are loaded.
    pub async fn open(&self, url: &str) {
        self.command("POST", "/url", json!({ "url": url })).await;
    }

    /// The value of a JavaScript expression (or what its promise resolves to) in the current frame.
    pub async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        self.command("POST", "/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until a JavaScript expression is true.
    pub async fn until(&self, expression: &str) {
        wait::until(expression, wait::LIMIT, async || match self.value(expression).await {
            Value::Bool(true) => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
    }

    /// Goes on in the first element that a CSS selector finds, which is a frame.
    pub async fn enter_frame(&self, selector: &str) {
        let found = json!({"using": "css selector", "value": selector});
        let frame = self.command("POST", "/element", found).await;
        self.command("POST", "/frame", json!({ "id": frame })).await;
    }

    /// Goes back to the page.
    pub async fn leave_frame(&self) {
        self.command("POST", "/frame", json!({ "id": null })).await;
    }

    /// Clicks on the first element that a CSS selector finds.
    pub async fn click(&self, selector: &str) {
        let found = json!({"using": "css selector", "value": selector});
        let element = self.command("POST", "/element", found).await;
        let id = element.as_object().and_then(|e| e.values().next()).and_then(Value::as_str);
        let id = id.expect("an element's id");
        self.command("POST", &format!("/element/{id}/click"), json!({})).await;
    }

    /// What the console has said since it was asked last, violations of the content security policy and failed requests included: level and text.
    pub async fn console(&self) -> Vec<(String, String)> {
        let entries = self.command("POST", "/se/log", json!({"type": "browser"})).await;
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let entries = entries.as_array().expect("a list of entries");
        entries.iter().map(|entry| (text(entry, "level"), text(entry, "message"))).collect()
    }

    /// Fails when the console has said anything that is worse than information.
    pub async fn assert_no_complaints(&self) {
        let mut said = self.console().await;
        said.retain(|(level, _)| matches!(level.as_str(), "WARNING" | "SEVERE"));
        assert!(said.is_empty(), "the browser's console: {said:#?}");
    }
}

impl Drop for Browser {
    /// The driver ends the browser. Killed with the driver alone, it would live on, and so would its profile.
    fn drop(&mut self) {
        let limit = Some(Duration::from_secs(10));
        let ending = TcpStream::connect(self.http.address()).and_then(|mut driver| {
            driver.set_read_timeout(limit)?;
            let session = &self.session;
            write!(
                driver,
                "DELETE /session/{session} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )?;
            driver.read_to_end(&mut Vec::new())
        });
        if let Err(error) = ending {
            eprintln!("the browser may not have ended: {error}");
        }
    }
}

async fn send(http: &Http, method: &str, path: &str, body: Value) -> Value {
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let reply = http.request(method, path, &headers, body).await.expect("an answer of chromedriver");
    let mut answer: Value = serde_json::from_slice(&reply.bytes).expect("JSON of chromedriver");
    assert_eq!(reply.transport, 200, "{method} {path}: {answer:#}");
    answer["value"].take()
}
