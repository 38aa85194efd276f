//! A call as an existing gateway makes it, `POST /v1/execute`, and the same through our own gateway, `GET /api/ext/...`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use longshore_proto::TenantId;
use longshore_proto::execute::{ExecuteContext, ExecuteHttp, ExecuteRequest, ExecuteResponse};

use super::examples::Installed;
use super::http_client::HttpClient;
use super::ui::Step;

/// A call that meets a component for the first time ends with "timeout (compiling)" while the compile goes on; so it is made again. This is
/// many times what compiling takes on a slow machine.
const FIRST_CALL_LIMIT: Duration = Duration::from_secs(240);
/// The platform's default limit for a call is 30 s; its answer comes before that.
const HTTP_LIMIT: Duration = Duration::from_secs(40);

/// A call that can be made, and made again by hand.
pub(super) struct Call {
    /// Where.
    pub(super) url: String,
    /// In the event stream.
    pub(super) request_id: String,
    headers: Vec<(&'static str, String)>,
    /// The service token, if the user has set one. Never printed.
    token: Option<String>,
    /// The body.
    pub(super) json: Bytes,
}

/// What came back.
pub(super) struct Answer {
    /// The guest's status.
    pub(super) status: u16,
    /// The guest's body.
    pub(super) body: String,
    /// The execution.
    pub(super) execution: Option<String>,
    /// How long the call took that was answered.
    pub(super) took: Duration,
}

impl Call {
    /// `GET` of an installed example's path, on behalf of a developer, with all that its manifest asks for.
    pub(super) fn get(
        base: &str,
        tenant: &TenantId,
        to: &Installed,
        path: &str,
        token: Option<&str>,
    ) -> anyhow::Result<Self> {
        let request_id = format!("dev-{}-{:08x}", to.name, rand::random::<u32>());
        let request = ExecuteRequest {
            context: ExecuteContext {
                request_id: Some(request_id.clone()),
                tenant_id: tenant.to_string(),
                extension_id: to.extension.to_string(),
                install_id: Some(to.install.clone()),
                content_hash: to.hash.to_string(),
                version_id: Some(to.version.clone()),
                config: BTreeMap::new(),
                trigger: serde_json::Value::Null,
                schedule_id: serde_json::Value::Null,
            },
            http: ExecuteHttp { method: "GET".into(), path: path.into(), ..ExecuteHttp::default() },
            providers: to.capabilities.clone(),
            user: Some(crate::developer::developer()),
            ..ExecuteRequest::default()
        };
        Ok(Self {
            url: format!("{base}/v1/execute"),
            headers: vec![
                ("content-type", "application/json".to_owned()),
                ("x-request-id", request_id.clone()),
                ("x-alga-tenant", tenant.to_string()),
                ("x-alga-extension", to.extension.to_string()),
            ],
            request_id,
            token: token.map(str::to_owned),
            json: serde_json::to_vec_pretty(&request)?.into(),
        })
    }

    /// The command that makes the same call; `body` is the file that holds its JSON.
    pub(super) fn curl(&self, body: &Path) -> String {
        let mut line = format!("curl -s {}", self.url);
        for (name, value) in &self.headers {
            line.push_str(&format!(" -H '{name}: {value}'"));
        }
        if self.token.is_some() {
            // Expanded by the shell, so that the token is in no terminal's history.
            line.push_str(" -H \"x-runner-service-token: $RUNNER_SERVICE_TOKEN\"");
        }
        line.push_str(&format!(" -d @{}", quoted(&body.display().to_string())));
        line
    }

    /// Makes it, again while the component is being fetched or compiled.
    pub(super) async fn make(&self, http: &HttpClient, step: &Step) -> anyhow::Result<Answer> {
        let started = Instant::now();
        loop {
            let sent = Instant::now();
            let (status, body) =
                http.post(&self.url, self.header_map()?, self.json.clone(), HTTP_LIMIT).await?;
            anyhow::ensure!(status == StatusCode::OK, "HTTP {status}: {}", String::from_utf8_lossy(&body));
            let envelope: ExecuteResponse =
                serde_json::from_slice(&body).context("the answer is no envelope")?;
            match &envelope.error {
                Some(error) if is_preparing(error) && started.elapsed() < FIRST_CALL_LIMIT => {
                    step.now("the component is still being compiled");
                }
                Some(error) => anyhow::bail!("{error} (status {})", envelope.status),
                None => return Answer::read(envelope, sent.elapsed()),
            }
        }
    }

    fn header_map(&self) -> anyhow::Result<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        }
        if let Some(token) = &self.token {
            let mut value =
                HeaderValue::from_str(token).context("RUNNER_SERVICE_TOKEN is no header value")?;
            value.set_sensitive(true);
            map.insert(HeaderName::from_static("x-runner-service-token"), value);
        }
        Ok(map)
    }
}

impl Answer {
    fn read(envelope: ExecuteResponse, took: Duration) -> anyhow::Result<Self> {
        let body = envelope.body_b64.unwrap_or_default();
        let body = BASE64.decode(body).context("the answer's body is no base64")?;
        let execution =
            envelope.headers.get("x-longshore-execution-id").and_then(|id| id.one()).map(str::to_owned);
        Ok(Self {
            status: envelope.status,
            body: String::from_utf8_lossy(&body).into_owned(),
            execution,
            took,
        })
    }
}

/// A call through the gateway, without a token: the development tenant's.
pub(super) struct GatewayCall {
    /// Where.
    pub(super) url: String,
}

/// How long the gateway may take to hear of an install that was just made.
const HEARD_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(50);

impl GatewayCall {
    /// `GET` of an installed example's path.
    pub(super) fn get(base: &str, to: &Installed, path: &str) -> Self {
        Self { url: format!("{base}/api/ext/{}{path}", to.slug) }
    }

    /// The command that makes the same call.
    pub(super) fn curl(&self) -> String {
        format!("curl -s {}", quoted(&self.url))
    }

    /// Makes it.
    pub(super) async fn make(&self, http: &HttpClient) -> anyhow::Result<Answer> {
        let started = Instant::now();
        loop {
            let sent = Instant::now();
            let (status, body) = http.get_within(&self.url, HTTP_LIMIT).await?;
            let body = String::from_utf8_lossy(&body).into_owned();
            if status == StatusCode::OK {
                return Ok(Answer { status: 200, body, execution: None, took: sent.elapsed() });
            }
            let preparing = is_preparing(&body) && started.elapsed() < FIRST_CALL_LIMIT;
            let unheard = body.contains("extension_not_found") && started.elapsed() < HEARD_LIMIT;
            anyhow::ensure!(preparing || unheard, "{} answered HTTP {status}: {body}", self.url);
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }
}

/// The fetch or compile goes on after the call that began it has ended.
fn is_preparing(error: &str) -> bool {
    error.contains("execute_failed: timeout")
        && (error.contains("(compiling)") || error.contains("(fetching)"))
}

/// As one word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/@:=".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(token: Option<&str>) -> Call {
        let to = Installed {
            path: Some("/hello"),
            name: "hello-rust".into(),
            slug: "com.longshore.hello-rust".into(),
            has_ui: false,
            extension: "e-1".parse().unwrap(),
            install: "i-1".into(),
            version: "v-1".into(),
            capabilities: vec!["cap:log.emit".into()],
            hash: longshore_proto::ContentHash::from_bytes([7; 32]),
        };
        Call::get("http://127.0.0.1:8085", &"t-1".parse().unwrap(), &to, "/hello", token).unwrap()
    }

    #[test]
    fn the_printed_line_names_everything_that_was_sent_but_no_secret() {
        let line = call(Some("s3cret")).curl(Path::new(".longshore/hello-rust.json"));
        for part in [
            "curl -s http://127.0.0.1:8085/v1/execute ",
            "-H 'x-alga-tenant: t-1'",
            "-H 'x-alga-extension: e-1'",
            "-H \"x-runner-service-token: $RUNNER_SERVICE_TOKEN\"",
            "-d @.longshore/hello-rust.json",
        ] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!line.contains("s3cret"));
        assert!(call(None).curl(Path::new("a b/c.json")).ends_with(" -d @'a b/c.json'"));
    }

    #[test]
    fn the_body_is_what_the_shim_accepts() {
        let request: ExecuteRequest = serde_json::from_slice(&call(None).json).unwrap();
        let routing =
            longshore_proto::execute::RoutingHeaders { tenant: Some("t-1"), extension: Some("e-1") };
        let (run, body) = request.into_run(routing).unwrap();
        assert_eq!((run.http.url.as_str(), body), ("/hello", None));
    }

    #[test]
    fn only_a_timeout_of_preparing_is_tried_again() {
        assert!(is_preparing("execute_failed: timeout (compiling)"));
        assert!(is_preparing("execute_failed: timeout (fetching)"));
        assert!(!is_preparing("execute_failed: timeout"));
        assert!(!is_preparing("execute_failed: trap (compiling)"));
    }
}
