//! The call message: one send of one execution, from a shim (or a NATS client without one) to a worker.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::capability::CapabilitySet;
use crate::ids::{BootId, ContentHash, ExecutionId, ExtensionId, SendNo, TenantId};
use crate::limits::Limits;
use crate::wire::PROTOCOL_VERSION;

/// The NATS header that says a call comes from a shim, with the shim's boot id. A call on a pool's queue group
/// without it is a plain client's and gets exactly one reply.
pub const SHIM_HEADER: &str = "longshore-shim";

/// One send of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallMessage {
    /// The version of the writer; see [`crate::wire`].
    #[serde(default)]
    pub v: u16,
    /// Names the call, over all its attempts.
    pub execution: ExecutionId,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Names this send.
    #[serde(default)]
    pub send: SendNo,
    /// Who asks, and where offers go; absent when a plain NATS client calls.
    #[serde(default)]
    pub shim: Option<ShimHeader>,
    /// What is left of the call's time, in milliseconds, when this message is written. No clock is compared with
    /// another machine's.
    pub budget_ms: u64,
    /// Whether the call may run twice.
    #[serde(default)]
    pub safe: bool,
    /// What to run.
    pub run: Run,
    /// The request body.
    #[serde(default)]
    pub body: Body,
}

/// The shim behind a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShimHeader {
    /// The shim's boot id.
    pub id: BootId,
    /// Where offers of freed slots go: under the shim's inbox prefix.
    pub inbox: String,
}

impl CallMessage {
    /// A first send with this build's version.
    pub fn new(execution: ExecutionId, run: Run, body: Body, budget_ms: u64) -> Self {
        let safe = run.http.is_safe_method();
        Self {
            v: PROTOCOL_VERSION,
            execution,
            attempt: 1,
            send: SendNo(0),
            shim: None,
            budget_ms,
            safe,
            run,
            body,
        }
    }
}

/// What to run and with which rights. Workers believe it: who may publish it is NATS' permission (deploy/nats.conf).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Whose extension, which bundle.
    pub context: RunContext,
    /// The request as the guest sees it, without the body.
    pub http: RunHttp,
    /// Time and memory.
    #[serde(default)]
    pub limits: Limits,
    /// What the install grants.
    #[serde(default)]
    pub capabilities: CapabilitySet,
    /// Who is behind the call, if known.
    #[serde(default)]
    pub user: Option<User>,
    /// Sealed or inline secrets (interop 7).
    #[serde(default)]
    pub secret_envelope: Option<SecretEnvelope>,
    /// What the install lets the run reach, besides the worker's own list; the narrower wins. Absent: the worker's
    /// list alone decides. An empty list reaches nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<String>>,
    /// What is published of the run.
    #[serde(default, skip_serializing_if = "CaptureLevel::is_default")]
    pub capture: CaptureLevel,
}

/// What is published of an install's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureLevel {
    /// Nothing.
    Off,
    /// The debug events of each run.
    #[default]
    Events,
    /// The same, and a trace of each run.
    Record,
    /// The same, and a trace of each run that fails.
    RecordErrors,
}

impl CaptureLevel {
    /// As settings and installs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Events => "events",
            Self::Record => "record",
            Self::RecordErrors => "record_errors",
        }
    }
    /// Whether a trace may be published.
    pub const fn records(self) -> bool {
        matches!(self, Self::Record | Self::RecordErrors)
    }
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Run {
    /// What its texts weigh on the wire, the body aside: headers, config, secrets and user.
    pub fn header_bytes(&self) -> usize {
        let pairs =
            |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| k.len() + v.len() + 8).sum::<usize>();
        let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
        let user = self.user.as_ref().map_or(0, |u| {
            u.user_id.len()
                + u.user_email.len()
                + u.user_name.len()
                + u.user_type.len()
                + u.client_name.len()
                + text(&u.client_id)
                + pairs(&u.additional_fields)
        });
        let secrets = self.secret_envelope.as_ref().map_or(0, |s| {
            s.ciphertext_b64.len()
                + text(&s.algorithm)
                + text(&s.version)
                + text(&s.expires_at)
                + text(&s.key_path)
                + text(&s.mount)
        });
        let context = &self.context;
        text(&context.request_id)
            + text(&context.install_id)
            + text(&context.version_id)
            + pairs(&context.config)
            + self.http.url.len()
            + self.http.headers.iter().map(|(k, v)| k.len() + v.len() + 8).sum::<usize>()
            + text(&self.http.scheme)
            + text(&self.http.authority)
            + self.egress.as_ref().map_or(0, |list| list.iter().map(|entry| entry.len() + 8).sum())
            + context.trigger.as_ref().map_or(0, |t| text(&t.schedule_id) + 16)
            + user
            + secrets
    }
}

/// Whose extension and which bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunContext {
    /// The caller's id for its request.
    #[serde(default)]
    pub request_id: Option<String>,
    /// The tenant.
    pub tenant: TenantId,
    /// The extension: the registry UUID.
    pub extension: ExtensionId,
    /// The install.
    #[serde(default)]
    pub install_id: Option<String>,
    /// The installed version.
    #[serde(default)]
    pub version_id: Option<String>,
    /// The bundle.
    pub content_hash: ContentHash,
    /// The install's configuration.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// What made the call, when it is no request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
}

/// What made a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its kind.
    pub kind: TriggerKind,
    /// Which schedule, if the caller says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_id: Option<String>,
}

/// Kinds of triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// A schedule was due.
    Schedule,
}

impl TriggerKind {
    /// As `context.trigger` and `LONGSHORE_TRIGGER` spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
        }
    }
}

/// The HTTP request that the guest gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunHttp {
    /// As the caller spelled it.
    pub method: String,
    /// Path and query, relative (interop 2.6).
    pub url: String,
    /// In the caller's spelling; a name may repeat.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// `http` or `https`, as the caller reached us; for `wasi:http` guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Host and port, as the caller reached us; for `wasi:http` guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

impl RunHttp {
    /// Exactly GET, HEAD or OPTIONS, in capitals: `get` is a method of its own in HTTP and promises nothing.
    pub fn is_safe_method(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}

/// The user of a call (interop 2.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Platform id.
    pub user_id: String,
    /// Mail address.
    pub user_email: String,
    /// Name to show.
    pub user_name: String,
    /// `internal` or `client` in the existing platform.
    pub user_type: String,
    /// The client's company; older callers say `company_name`.
    #[serde(default, alias = "company_name")]
    pub client_name: String,
    /// The client's id.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Whatever else the platform knows; sorted by key for the guest.
    #[serde(default)]
    pub additional_fields: BTreeMap<String, String>,
}

/// Secrets on their way to a worker (interop 7).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretEnvelope {
    /// Vault ciphertext, or base64 of a JSON object.
    pub ciphertext_b64: String,
    /// `vault-transit...` or anything else for inline.
    #[serde(default)]
    pub algorithm: Option<String>,
    /// The secrets' version.
    #[serde(default)]
    pub version: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// The transit key.
    #[serde(default)]
    pub key_path: Option<String>,
    /// The transit mount.
    #[serde(default)]
    pub mount: Option<String>,
}

impl std::fmt::Debug for SecretEnvelope {
    /// Inline envelopes are plain secrets in base64: never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretEnvelope")
            .field("algorithm", &self.algorithm)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A request or response body. None and empty are told apart, as the guest ABI does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// No body.
    #[default]
    None,
    /// In the message.
    Inline(#[serde(with = "bytes_as_bin")] Bytes),
    /// With the sender: fetch it from there, see [`crate::frame::Fetch`].
    Remote(RemoteBody),
}

impl Body {
    /// From an optional body; large ones are for the sender to keep.
    pub fn inline(bytes: Option<Bytes>) -> Self {
        bytes.map_or(Self::None, Self::Inline)
    }
    /// Its length in bytes; none counts as 0.
    pub fn len(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Remote(remote) => remote.len,
        }
    }
    /// None, or no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a body is that did not fit into its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteBody {
    /// The subject that answers [`crate::frame::Fetch`].
    pub source: String,
    /// Its length in bytes.
    pub len: u64,
}

/// What the guest answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResponse {
    /// 200 to 599; anything else was refused in the worker.
    pub status: u16,
    /// In the guest's order and spelling; a name may repeat.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default)]
    pub body: Body,
    /// What a `wasi:http` guest sent after its body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<(String, String)>,
}

/// `bytes::Bytes` as MessagePack `bin`: the derive would write an array of numbers.
pub(crate) mod bytes_as_bin {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(bytes)
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        let buf: serde_bytes::ByteBuf = serde::Deserialize::deserialize(d)?;
        Ok(Bytes::from(buf.into_vec()))
    }
}
