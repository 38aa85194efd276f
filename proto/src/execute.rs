//! `POST /v1/execute`: the JSON that existing callers send and read (interop 2), and its way into a [`Run`].

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::call::{CaptureLevel, Run, RunContext, RunHttp, SecretEnvelope, Trigger, TriggerKind, User};
use crate::capability::CapabilitySet;
use crate::error::{CallError, ErrorCode};
use crate::limits::{LimitSet, Limits, MAX_BODY_BYTES, MAX_HEADER_BYTES};

/// The request body. Unknown fields are ignored at all levels; `null` is accepted only where the reference does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExecuteRequest {
    /// Whose extension, which bundle.
    pub context: ExecuteContext,
    /// The request for the guest.
    pub http: ExecuteHttp,
    /// Time and memory.
    ///
    /// `fuel` is accepted and ignored, as in the reference.
    #[serde(default)]
    pub limits: LimitSet,
    /// Secrets.
    #[serde(default)]
    pub secret_envelope: Option<SecretEnvelope>,
    /// Granted capabilities.
    #[serde(default)]
    pub providers: Vec<String>,
    /// Who is behind the call.
    #[serde(default)]
    pub user: Option<User>,
    /// What the install lets the run reach; see [`Run::egress`]. Existing callers send none.
    #[serde(default)]
    pub egress: Option<Vec<String>>,
}

/// `context`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExecuteContext {
    /// The caller's id for its request.
    #[serde(default)]
    pub request_id: Option<String>,
    /// The tenant.
    pub tenant_id: String,
    /// The extension's registry id.
    pub extension_id: String,
    /// The install.
    #[serde(default)]
    pub install_id: Option<String>,
    /// The bundle, with or without `sha256:`.
    pub content_hash: String,
    /// The installed version.
    #[serde(default)]
    pub version_id: Option<String>,
    /// The install's configuration.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// `schedule` when a scheduler calls. Callers may send anything here, and the reference ignores it.
    #[serde(default)]
    pub trigger: serde_json::Value,
    /// Which schedule; as tolerant.
    #[serde(default)]
    pub schedule_id: serde_json::Value,
}

impl ExecuteContext {
    fn trigger(&self) -> Option<Trigger> {
        (self.trigger.as_str() == Some(TriggerKind::Schedule.as_str())).then(|| Trigger {
            kind: TriggerKind::Schedule,
            schedule_id: self.schedule_id.as_str().filter(|id| id.len() <= 128).map(str::to_owned),
        })
    }
}

/// `http`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExecuteHttp {
    /// Passed on verbatim.
    pub method: String,
    /// May already hold a query.
    pub path: String,
    /// Appended to the path, form-encoded, sorted by name.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// One entry a name.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Standard padded base64; absent and empty differ.
    #[serde(default)]
    pub body_b64: Option<String>,
}

/// The envelope of every outcome; the four keys of the reference are always present.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecuteResponse {
    /// The guest's status, or the error's.
    pub status: u16,
    /// Empty on errors but for `x-longshore-execution-id` and `retry-after`.
    pub headers: BTreeMap<String, HeaderValues>,
    /// Standard padded base64.
    pub body_b64: Option<String>,
    /// `code` or `code: message`.
    pub error: Option<String>,
    /// What a `wasi:http` guest sent after its body; absent otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trailers: BTreeMap<String, HeaderValues>,
}

/// One value, as in the reference, or several: only `wasi:http` guests repeat headers. Existing callers join an array
/// with `, ` (interop 3.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HeaderValues {
    /// The header appears once.
    One(String),
    /// In the guest's order.
    Many(Vec<String>),
}

impl From<&str> for HeaderValues {
    fn from(value: &str) -> Self {
        Self::One(value.to_owned())
    }
}

impl From<String> for HeaderValues {
    fn from(value: String) -> Self {
        Self::One(value)
    }
}

impl HeaderValues {
    /// The value of a header that appears once.
    pub fn one(&self) -> Option<&str> {
        match self {
            Self::One(value) => Some(value),
            Self::Many(_) => None,
        }
    }

    /// Pairs by name, in the spelling that came first.
    pub fn collect(pairs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, Self> {
        let mut map: BTreeMap<String, Self> = BTreeMap::new();
        for (name, value) in pairs {
            match map.get_mut(&name) {
                None => drop(map.insert(name, Self::One(value))),
                Some(Self::Many(values)) => values.push(value),
                Some(one @ Self::One(_)) => {
                    let Self::One(first) = std::mem::replace(one, Self::Many(Vec::new())) else { continue };
                    *one = Self::Many(vec![first, value]);
                }
            }
        }
        map
    }
}

/// `x-alga-tenant` and `x-alga-extension`.
#[derive(Debug, Clone, Copy)]
pub struct RoutingHeaders<'a> {
    /// `x-alga-tenant`.
    pub tenant: Option<&'a str>,
    /// `x-alga-extension`.
    pub extension: Option<&'a str>,
}

impl ExecuteRequest {
    /// Checks everything that can be checked without I/O and gives what a worker needs, with the decoded body.
    /// The order of the checks is the reference's (interop 2.4), so that a request with several faults gets the
    /// code that its caller knows.
    pub fn into_run(self, routing: RoutingHeaders<'_>) -> Result<(Run, Option<Bytes>), CallError> {
        let (Some(tenant), Some(extension)) = (non_blank(routing.tenant), non_blank(routing.extension))
        else {
            return Err(CallError::new(
                ErrorCode::MissingRoutingHeaders,
                "send x-alga-tenant and x-alga-extension",
            ));
        };
        if tenant != self.context.tenant_id {
            return Err(CallError::new(
                ErrorCode::TenantMismatch,
                "x-alga-tenant differs from context.tenant_id",
            ));
        }
        if extension != self.context.extension_id {
            return Err(CallError::new(
                ErrorCode::ExtensionMismatch,
                "x-alga-extension differs from context.extension_id",
            ));
        }
        let invalid_id = |e: crate::ids::IdError| CallError::new(ErrorCode::InvalidId, e.to_string());
        let trigger = self.context.trigger();
        let context = RunContext {
            trigger,
            tenant: tenant.parse().map_err(invalid_id)?,
            extension: extension.parse().map_err(invalid_id)?,
            content_hash: self.context.content_hash.trim().parse().map_err(|e: crate::ids::IdError| {
                CallError::new(ErrorCode::InvalidContentHash, e.to_string())
            })?,
            request_id: self.context.request_id,
            install_id: self.context.install_id,
            version_id: self.context.version_id,
            config: self.context.config,
        };
        let capabilities = CapabilitySet::parse(&self.providers)?;
        let limits = Limits::from_request(&self.limits)?;
        let body = self.http.body_b64.as_deref().map(decode_body).transpose()?;
        let http = RunHttp {
            url: relative_url(&self.http.path, &self.http.query),
            method: checked_method(self.http.method)?,
            headers: self.http.headers.into_iter().collect(),
            scheme: None,
            authority: None,
        };
        let run = Run {
            context,
            http,
            limits,
            capabilities,
            user: self.user,
            secret_envelope: self.secret_envelope,
            egress: self.egress,
            capture: CaptureLevel::default(),
        };
        let bytes = run.header_bytes();
        if bytes > MAX_HEADER_BYTES {
            return Err(CallError::new(
                ErrorCode::HeadersTooLarge,
                format!(
                    "headers, config, secrets and user are {bytes} bytes together; {MAX_HEADER_BYTES} are allowed"
                ),
            ));
        }
        Ok((run, body))
    }
}

fn non_blank(header: Option<&str>) -> Option<&str> {
    header.map(str::trim).filter(|text| !text.is_empty())
}

fn checked_method(method: String) -> Result<String, CallError> {
    // The method is passed on verbatim, but it ends up in logs and events: RFC 9110 tokens only.
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if (1..=64).contains(&method.len()) && method.bytes().all(is_token) {
        return Ok(method);
    }
    Err(CallError::new(ErrorCode::InvalidRequest, "http.method is no HTTP method"))
}

fn decode_body(text: &str) -> Result<Bytes, CallError> {
    let text = text.trim();
    if text.len() as u64 / 4 * 3 > MAX_BODY_BYTES + 3 {
        return Err(CallError::new(
            ErrorCode::PayloadTooLarge,
            format!("the body is over {MAX_BODY_BYTES} bytes"),
        ));
    }
    BASE64
        .decode(text)
        .map(Bytes::from)
        .map_err(|e| CallError::new(ErrorCode::InvalidBody, format!("http.body_b64 is no base64: {e}")))
}

/// Path, then the query form-encoded (interop 2.6): `?` or, where the path already has one, `&`.
fn relative_url(path: &str, query: &BTreeMap<String, String>) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let mut url = String::with_capacity(path.len() + 16 * query.len());
    url.push_str(path);
    let mut separator = if path.contains('?') { '&' } else { '?' };
    for (name, value) in query {
        url.push(separator);
        form_encode(name, &mut url);
        url.push('=');
        form_encode(value, &mut url);
        separator = '&';
    }
    url
}

/// `application/x-www-form-urlencoded` (WHATWG URL): a space becomes `+`.
fn form_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    out.push(char::from(*HEX.get(usize::from(nibble)).unwrap_or(&b'0')));
                }
            }
        }
    }
}

impl ExecuteResponse {
    /// The envelope of a failure.
    pub fn failed(error: &CallError) -> Self {
        let headers = error
            .retry_after_s
            .map(|s| ("retry-after".to_owned(), s.to_string().into()))
            .into_iter()
            .collect();
        Self {
            status: error.code.status(),
            headers,
            body_b64: None,
            error: Some(error.to_string()),
            trailers: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ExecuteRequest {
        serde_json::from_value(serde_json::json!({
            "context": {"tenant_id": "t", "extension_id": "e", "content_hash": "ab".repeat(32), "trigger": "schedule"},
            "http": {"method": "GET", "path": "/x", "url": "/x"}
        }))
        .unwrap()
    }

    fn routed(request: ExecuteRequest) -> Result<(Run, Option<Bytes>), CallError> {
        request.into_run(RoutingHeaders { tenant: Some("t"), extension: Some(" e ") })
    }

    #[test]
    fn a_minimal_request_with_unknown_fields_is_taken() {
        let (run, body) = routed(request()).unwrap();
        assert_eq!((run.http.url.as_str(), body), ("/x", None));
        assert!(run.http.is_safe_method());
    }

    #[test]
    fn a_schedulers_trigger_is_known_and_any_other_is_ignored() {
        let trigger = |value: serde_json::Value| {
            let mut json = serde_json::to_value(request()).unwrap();
            json["context"]["trigger"] = value;
            json["context"]["schedule_id"] = "s-1".into();
            routed(serde_json::from_value(json).unwrap()).unwrap().0.context.trigger
        };
        let schedule = Trigger { kind: TriggerKind::Schedule, schedule_id: Some("s-1".to_owned()) };
        assert_eq!(trigger("schedule".into()), Some(schedule));
        for other in [serde_json::json!("manual"), serde_json::json!({"a": 1}), serde_json::Value::Null] {
            assert_eq!(trigger(other), None);
        }
    }

    #[test]
    fn repeated_headers_are_a_list_and_single_ones_a_text() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let map = HeaderValues::collect([pair("a", "1"), pair("b", "2"), pair("a", "3"), pair("a", "4")]);
        assert_eq!(serde_json::to_string(&map).unwrap(), r#"{"a":["1","3","4"],"b":"2"}"#);
    }

    #[test]
    fn null_for_a_map_is_a_shape_error_as_in_the_reference() {
        for (pointer, value) in
            [("/context/config", "config"), ("/http/query", "query"), ("/http/headers", "headers")]
        {
            let mut json = serde_json::to_value(request()).unwrap();
            *json.pointer_mut(pointer).unwrap() = serde_json::Value::Null;
            assert!(serde_json::from_value::<ExecuteRequest>(json).is_err(), "{value}");
        }
    }

    #[test]
    fn headers_and_body_must_name_the_same_tenant_and_extension() {
        let code = |tenant, extension| {
            request().into_run(RoutingHeaders { tenant, extension }).map(|_| ()).map_err(|e| e.code)
        };
        assert_eq!(code(None, Some("e")), Err(ErrorCode::MissingRoutingHeaders));
        assert_eq!(code(Some("t"), Some("  ")), Err(ErrorCode::MissingRoutingHeaders));
        assert_eq!(code(Some("other"), Some("e")), Err(ErrorCode::TenantMismatch));
        assert_eq!(code(Some("t"), Some("other")), Err(ErrorCode::ExtensionMismatch));
    }

    #[test]
    fn the_query_is_form_encoded_after_a_path_that_may_have_one() {
        let query = BTreeMap::from([("a b".to_owned(), "ü&".to_owned()), ("z".to_owned(), "1".to_owned())]);
        assert_eq!(relative_url("/p", &query), "/p?a+b=%C3%BC%26&z=1");
        assert_eq!(relative_url("/p?q=1", &query), "/p?q=1&a+b=%C3%BC%26&z=1");
        assert_eq!(relative_url("/p", &BTreeMap::new()), "/p");
    }

    #[test]
    fn no_body_an_empty_body_and_bad_base64_are_three_things() {
        let with = |text: Option<&str>| {
            let mut r = request();
            r.http.body_b64 = text.map(str::to_owned);
            routed(r).map(|(_, body)| body).map_err(|e| e.code)
        };
        assert_eq!(with(None), Ok(None));
        assert_eq!(with(Some("")), Ok(Some(Bytes::new())));
        assert_eq!(with(Some(" aGk= ")), Ok(Some(Bytes::from_static(b"hi"))));
        assert_eq!(with(Some("%%%")), Err(ErrorCode::InvalidBody));
    }

    #[test]
    fn headers_over_their_limit_are_refused_with_both_numbers() {
        let mut r = request();
        r.http.headers.insert("x".into(), "y".repeat(MAX_HEADER_BYTES));
        let error = routed(r).unwrap_err();
        assert_eq!(error.code, ErrorCode::HeadersTooLarge);
        assert!(error.message.contains("262144"));
    }

    #[test]
    fn a_user_may_call_its_company_by_the_old_name() {
        let json =
            r#"{"user_id":"1","user_email":"e","user_name":"n","user_type":"internal","company_name":"C"}"#;
        assert_eq!(serde_json::from_str::<User>(json).unwrap().client_name, "C");
    }
}
