//! What the admin API takes and answers, as JSON. The command line uses the same types.
//!
//! A request with a field that is not named here is refused, so that a typing error never means "the default". An answer may
//! gain fields: whoever reads one ignores what it does not know.
//!
//! | Route | Takes | Answers |
//! | --- | --- | --- |
//! | `GET /v1/installs?tenant=&cursor=&limit=` | | [`InstallList`] |
//! | `GET /v1/tenants/{tenant}/installs/{reference}` | | [`InstallView`] |
//! | `POST /v1/tenants/{tenant}/installs` | [`InstallRequest`] | [`InstallResponse`] |
//! | `PATCH /v1/tenants/{tenant}/installs/{reference}` | [`InstallPatch`] | [`InstallResponse`] |
//! | `POST /v1/tenants/{tenant}/installs/{reference}/rollback` | [`RollbackRequest`] | [`InstallResponse`] |
//! | `DELETE /v1/tenants/{tenant}/installs/{reference}?purge=` | | [`UninstallResponse`] |
//! | `PUT /v1/tenants/{tenant}/bundles?content_hash=&extension=` | the archive | [`BundleUploaded`] |
//! | `GET /v1/tenants/{tenant}/bundles?cursor=&limit=` | | [`BundleList`] |
//! | `DELETE /v1/tenants/{tenant}/extensions/{extension}/bundles/{hash}` | | [`BundleRemoved`] |
//! | `PUT /v1/tenants/{tenant}/extensions/{extension}/bundles/{hash}/signature` | the signature file | [`SignatureStored`] |
//! | `POST /v1/tenants/{tenant}/tokens` | [`TokenRequest`] | [`TokenCreated`] |
//! | `GET /v1/tenants/{tenant}/tokens` | | [`TokenList`] |
//! | `DELETE /v1/tenants/{tenant}/tokens/{id}` | | [`TokenRevoked`] |
//! | `PUT /v1/tenants/{tenant}/installs/{reference}/recording` | [`RecordingRequest`] | [`InstallView`] |
//! | `DELETE /v1/tenants/{tenant}/installs/{reference}/recording` | | [`InstallView`] |
//! | `GET /v1/tenants/{tenant}/traces?extension=&since_ms=..` | | [`TraceList`] |
//! | `PUT /v1/tenants/{tenant}/traces` | an exported run | [`TraceImported`] |
//! | `GET /v1/tenants/{tenant}/traces/{execution}?attempt=` | | the packed trace |
//! | `GET /v1/tenants/{tenant}/traces/{execution}/payloads/{sha256}` | | the payload |
//! | `GET /v1/tenants/{tenant}/traces/{execution}/bundle` | | the archive |
//! | `GET /v1/tenants/{tenant}/events?since_ms=&follow=..` | | a JSON object a line |
//! | `GET /v1/pools` | | [`Fleet`] |
//! | `GET /v1/calls?tenant=` | | [`CallList`] |
//! | `POST /v1/calls/cancel` | [`CancelRequest`] | [`CallsCancelled`] |
//! | `POST /v1/tenants/{tenant}/purge` | [`PurgeRequest`] | [`PurgeResponse`] |
//! | `POST /v1/gc` | [`GcRequest`] | [`GcResponse`] |
//! | `GET /v1/audit?since=&kind=&tenant=&limit=` | | [`AuditList`] |
//! | `GET /v1/openapi.json` (without a token) | | the document of this API |
//!
//! Every failure is [`ApiError`]. `reference` is an install id, a registry id, a manifest's `name` or `publisher.name`.

mod bundle;
mod error;
mod fleet;
mod install;
mod maintenance;
mod token;
mod trace;

pub use bundle::{
    BundleList, BundleQuery, BundleRemoved, BundleUploaded, BundleView, SignatureState, SignatureStored,
    SignatureView, UploadQuery,
};
pub use error::{ApiCode, ApiError};
pub use fleet::{
    CallList, CallView, CallsCancelled, CallsQuery, CancelRequest, Fleet, PoolView, ShimView, WorkerView,
};
pub use install::{
    AllWord, Grant, InstallList, InstallPatch, InstallQuery, InstallRequest, InstallResponse, InstallView,
    LimitView, Outcome, Plain, RollbackRequest, UninstallQuery, UninstallResponse, VersionView, WarmReport,
    WarmState, WorkerWarm,
};
pub use maintenance::{
    AuditKindName, AuditList, AuditQuery, AuditView, GcRequest, GcResponse, PurgeRequest, PurgeResponse,
    Removed,
};
pub use token::{TokenCreated, TokenList, TokenQuery, TokenRequest, TokenRevoked, TokenView};

pub use trace::{
    AttemptQuery, EventsQuery, MAX_MOMENT_MS, MAX_RECORDING_MS, RecordingRequest, RecordingView,
    TraceImported, TraceList, TracesQuery,
};

/// Routes without a query: a parameter there is somebody's mistake.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// How many entries a list answers at most, and when `limit` is not given.
pub const MAX_LIMIT: u32 = 1000;

/// How long an install waits for the workers when `wait_ms` is not given.
pub const DEFAULT_WAIT_MS: u64 = 60_000;

/// The longest `wait_ms`.
pub const MAX_WAIT_MS: u64 = 300_000;

/// The largest archive: what the existing platform takes (interop 5.1).
pub const MAX_ARCHIVE_BYTES: u64 = 200 * 1024 * 1024;

/// The largest JSON of a request: config and secrets of one install are below a quarter of it.
pub const MAX_JSON_BYTES: usize = 1024 * 1024;
