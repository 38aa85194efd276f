//! Installs.

use std::collections::BTreeMap;
use std::fmt;

use longshore_proto::call::CaptureLevel;
use longshore_proto::limits::LimitSet;
use longshore_proto::{ContentHash, ExtensionId, PoolName, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllWord {
    /// Whatever the manifest asks for.
    All,
}

/// Which capabilities an install gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Grant {
    /// All that the manifest asks for.
    All(AllWord),
    /// These: a subset of what the manifest asks for. An empty list grants nothing but what everybody has.
    Only(Vec<String>),
}

impl Grant {
    /// All that the manifest asks for.
    pub const ALL: Self = Self::All(AllWord::All);
}

/// A secret's value in a request. It is sealed at once, never stored or answered, and `Debug` does not print it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Plain(String);

impl Plain {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value; only for sealing it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Limits of an install's runs; what is absent is left to manifest, call and worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitView {
    /// Wall time in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 300000)]
    pub timeout_ms: Option<u64>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1024)]
    pub memory_mb: Option<u64>,
    /// CPU time in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 300000)]
    pub cpu_ms: Option<u64>,
    /// Host calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000000000)]
    pub host_calls: Option<u64>,
    /// Requests that it sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000000000)]
    pub outbound_requests: Option<u64>,
    /// Bytes of log lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000000000)]
    pub log_bytes: Option<u64>,
    /// Log lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000000000)]
    pub log_lines: Option<u64>,
    /// Bytes of the answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000000000)]
    pub response_bytes: Option<u64>,
}

impl From<LimitSet> for LimitView {
    fn from(limits: LimitSet) -> Self {
        // Named one by one: a limit that the protocol gains has to be decided on here.
        let LimitSet {
            timeout_ms,
            memory_mb,
            cpu_ms,
            host_calls,
            outbound_requests,
            log_bytes,
            log_lines,
            response_bytes,
        } = limits;
        Self {
            timeout_ms,
            memory_mb,
            cpu_ms,
            host_calls,
            outbound_requests,
            log_bytes,
            log_lines,
            response_bytes,
        }
    }
}

impl From<LimitView> for LimitSet {
    fn from(limits: LimitView) -> Self {
        let LimitView {
            timeout_ms,
            memory_mb,
            cpu_ms,
            host_calls,
            outbound_requests,
            log_bytes,
            log_lines,
            response_bytes,
        } = limits;
        Self {
            timeout_ms,
            memory_mb,
            cpu_ms,
            host_calls,
            outbound_requests,
            log_bytes,
            log_lines,
            response_bytes,
        }
    }
}

macro_rules! with_options {
    ($(#[$meta:meta])* pub struct $name:ident { $($fields:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($fields)*
            /// What it may do. Absent: as before; where nothing was decided before and the manifest asks for
            /// something, `grant_required`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub grant: Option<Grant>,
            /// Configuration for the guest; replaces all of it. At most 128 KiB together with the secrets.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub config: Option<BTreeMap<String, String>>,
            /// Secrets, in the clear: sealed at once; replace all of them. An empty object removes them.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(value_type = Option<BTreeMap<String, String>>)]
            pub secrets: Option<BTreeMap<String, Plain>>,
            /// Secrets of this request that the guest cannot read: a handle for each goes to the guest, and the value leaves only in
            /// requests to these hosts (`host` or `*.host`).
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub secret_hosts: Option<BTreeMap<String, Vec<String>>>,
            /// Limits of its runs; replace all of them.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub limits: Option<LimitView>,
            /// What its runs may reach, besides the worker's own list: `host` or `*.host`, with an optional port. An empty
            /// list reaches nothing; `any_egress` leaves it to the worker's list.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(max_items = 256)]
            pub egress: Option<Vec<String>>,
            /// Removes the install's own egress list, so that the worker's alone decides.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub any_egress: bool,
            /// The workers that run it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,128}$", max_length = 128)]
            pub pool: Option<PoolName>,
            /// Its tenant's turns in the waiting room, relative to 1.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(minimum = 1, maximum = 100)]
            pub weight: Option<u32>,
            /// Host names whose `GET /` leads to its pages; replace all of them.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(max_items = 16)]
            pub hosts: Option<Vec<String>>,
            /// What is published of its runs: `off` or `events`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(value_type = Option<String>, pattern = "^(off|events)$")]
            pub capture: Option<CaptureLevel>,
            /// Whether it may be called.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub enabled: Option<bool>,
            /// How long to wait until the workers of its pool have fetched and compiled it, in milliseconds; 0: not at all.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(minimum = 0, maximum = 300000)]
            pub wait_ms: Option<u64>,
        }
    };
}

with_options! {
    /// Installs a bundle, or puts another version of an installed extension in force. What is absent stays as it is for an
    /// extension that is installed, and has its default otherwise.
    pub struct InstallRequest {
        /// The bundle; it is in the store already.
        #[schema(value_type = String, pattern = "^(sha256:)?[0-9a-fA-F]{64}$")]
        pub content_hash: ContentHash,
        /// Under which extension's key the bundle is. Absent: the key is found by the hash.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
        pub extension: Option<ExtensionId>,
        /// Copies the bundle, with its signature, from this tenant's key first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
        pub move_from: Option<TenantId>,
    }
}

with_options! {
    /// Changes an install; what is absent stays as it is.
    #[derive(Default)]
    pub struct InstallPatch {}
}

impl InstallRequest {
    /// Of a bundle, with nothing else said.
    pub fn new(content_hash: ContentHash) -> Self {
        Self {
            content_hash,
            extension: None,
            move_from: None,
            grant: None,
            config: None,
            secrets: None,
            secret_hosts: None,
            limits: None,
            egress: None,
            any_egress: false,
            pool: None,
            weight: None,
            hosts: None,
            capture: None,
            enabled: None,
            wait_ms: None,
        }
    }

    /// The bundle, and what else is said.
    pub fn into_parts(self) -> (ContentHash, Option<ExtensionId>, Option<TenantId>, InstallPatch) {
        let options = InstallPatch {
            grant: self.grant,
            config: self.config,
            secrets: self.secrets,
            secret_hosts: self.secret_hosts,
            limits: self.limits,
            egress: self.egress,
            any_egress: self.any_egress,
            pool: self.pool,
            weight: self.weight,
            hosts: self.hosts,
            capture: self.capture,
            enabled: self.enabled,
            wait_ms: self.wait_ms,
        };
        (self.content_hash, self.extension, self.move_from, options)
    }
}

/// Puts the version before in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// As in an install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 300000)]
    pub wait_ms: Option<u64>,
}

/// What a change of an install came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstallResponse {
    /// What happened.
    pub outcome: Outcome,
    /// The install as it is now.
    pub install: InstallView,
    /// Whether the workers have it; absent when nobody was asked (`wait_ms` 0, a disabled install).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<WarmReport>,
    /// What somebody should know, such as a capability that this host does not have.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What happened to an install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is new.
    Created,
    /// It was changed.
    Updated,
    /// It was so already.
    Unchanged,
    /// The version before is in force again.
    RolledBack,
}

/// Whether the workers of a pool have fetched and compiled a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WarmReport {
    /// Which pool.
    pub pool: String,
    /// Whether every worker that was heard lately has answered and is ready. False where there is none.
    pub complete: bool,
    /// Each worker of the pool.
    pub workers: Vec<WorkerWarm>,
}

/// One worker's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerWarm {
    /// Its boot id.
    pub worker: String,
    /// Its name, if its announcement has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How far it is.
    pub state: WarmState,
    /// How long it took, in milliseconds; 0 when it was ready before.
    #[serde(default)]
    pub took_ms: u64,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How far a worker is with a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarmState {
    /// The first call does not wait.
    Ready,
    /// It has not answered yet: it fetches or compiles.
    Compiling,
    /// It cannot run the bundle.
    Error,
}

/// An install.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstallView {
    /// Its id.
    pub install_id: String,
    /// Whose.
    pub tenant: String,
    /// The extension's registry id.
    pub extension: String,
    /// The manifest's `name`.
    pub name: String,
    /// The manifest's `publisher`.
    pub publisher: String,
    /// `publisher.name`, lower-cased: how callers may name it.
    pub slug: String,
    /// Whether it may be called.
    pub enabled: bool,
    /// The version in force.
    pub version: VersionView,
    /// Earlier ones, the newest first.
    pub previous: Vec<VersionView>,
    /// What it may do.
    pub granted: Vec<String>,
    /// Configuration.
    pub config: BTreeMap<String, String>,
    /// Names of its secrets; the values never come back.
    pub secret_names: Vec<String>,
    /// Limits of its runs.
    pub limits: LimitView,
    /// What its runs may reach; absent: the worker's list alone decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<String>>,
    /// The workers that run it.
    pub pool: String,
    /// Turns in the waiting room.
    pub weight: u32,
    /// What is published of its runs.
    pub capture: String,
    /// Traces of its runs, for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<super::trace::RecordingView>,
    /// Host names.
    pub hosts: Vec<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

/// One version of an install.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The bundle, `sha256:` and 64 hex digits.
    pub content_hash: String,
    /// The version's id.
    pub version_id: String,
    /// The manifest's `version`.
    pub version: String,
    /// What the manifest asks for.
    pub requested: Vec<String>,
    /// `METHOD /path` of each route, ` idempotent` after those that say so.
    pub endpoints: Vec<String>,
    /// The first page, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ui_entry: Option<String>,
    /// Where the host shows its pages.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub ui_hooks: serde_json::Value,
    /// The key whose signature was verified when it was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// RFC 3339.
    pub installed_at: String,
}

/// Which installs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct InstallQuery {
    /// Of this tenant. Absent: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
    pub tenant: Option<TenantId>,
    /// What `next` of the page before said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 257, pattern = "^[A-Za-z0-9_-]{1,128}:[A-Za-z0-9_-]{1,128}$")]
    pub cursor: Option<String>,
    /// At most so many (1 to 1000, which is the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// A page of installs, by tenant and name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstallList {
    /// The installs.
    pub installs: Vec<InstallView>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How to uninstall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UninstallQuery {
    /// Removes what it has stored, its bundles and its traces too.
    #[serde(default)]
    #[param(default = false)]
    pub purge: bool,
}

/// What was uninstalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UninstallResponse {
    /// Its id.
    pub install_id: String,
    /// The extension's registry id.
    pub extension: String,
    /// The manifest's `name`.
    pub name: String,
    /// What was removed.
    pub removed: super::Removed,
    /// What could not be removed, and why; a second try does what is left.
    #[serde(default)]
    pub warnings: Vec<String>,
}
