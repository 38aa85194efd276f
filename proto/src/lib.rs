//! What crosses a process border in Longshore: ids, the execute request and response, NATS messages and frames,
//! subjects, error codes, debug events, manifest, install and the guest WIT. This crate does no I/O.
//!
//! Everything here is input from somebody else on one of its two sides, so every type validates when it is
//! decoded: an id that exists is a valid id.

pub mod call;
pub mod capability;
pub mod error;
pub mod event;
pub mod execute;
pub mod extension_ids;
pub mod fleet;
pub mod frame;
pub mod ids;
pub mod install;
pub mod limits;
pub mod manifest;
pub mod subject;
pub mod trace;
pub mod wire;

pub use call::{
    Body, CallMessage, Run, RunContext, RunHttp, RunResponse, ShimHeader, Trigger, TriggerKind, User,
};
pub use capability::{Capability, CapabilitySet};
pub use error::{CallError, ErrorCode, Fault};
pub use ids::{BootId, ContentHash, ExecutionId, ExtensionId, PoolName, SendNo, TenantId, Token};
pub use limits::{LimitSet, Limits};

/// The guest interface: package `alga:extension`, world `runner`, binary-compatible with the existing platform's.
pub const GUEST_WIT: &str = include_str!("../wit/extension-runner.wit");
