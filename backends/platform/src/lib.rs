//! Clients of the internal APIs that an existing platform offers to its extensions: storage, scheduler, invoicing, clients,
//! services (interop 6.3), and the proxy to its public routes (interop 6.4).
//!
//! Every answer is hostile until it has been parsed: its time and bytes are bounded, a redirect is an error (the service
//! token must not follow it), and what of an error reaches a log or a guest is short and has neither control characters nor
//! the token. What is refused on this side is refused before anything is sent.
//!
//! The records have the names and types of the guest interface (`proto/wit`), so that a host function converts field by field
//! and decides nothing. Errors stay [`PlatformError`] for logs and metrics; [`StorageFault`], [`SchedulerFault`], [`ReadFault`]
//! and [`ProxyFault`] are what a guest gets of them.

mod api;
mod base;
mod clients;
mod error;
mod invoicing;
mod problem;
mod read;
mod route;
mod scheduler;
mod segment;
mod services;
mod storage;
mod ui_proxy;

pub use api::{Caller, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Platform, PlatformConfig, TIMEOUT};
pub use base::BaseError;
pub use clients::{ClientSummary, ClientsListInput, ClientsListResult};
pub use error::{PlatformError, ReadFault, SchedulerFault, StorageFault};
pub use invoicing::{
    CreateManualInvoiceInput, CreateManualInvoiceResult, DiscountType, ManualInvoiceItemInput,
};
pub use problem::{MAX_FIELD_ERRORS_BYTES, MAX_MESSAGE_BYTES, Problem};
pub use read::{UserRef, page};
pub use scheduler::{
    CreateScheduleInput, CreateScheduleResult, DeleteScheduleResult, EndpointInfo, ScheduleInfo,
    UpdateScheduleInput, UpdateScheduleResult,
};
pub use services::{
    ServiceBillingMethod, ServiceItemKind, ServiceSummary, ServicesListInput, ServicesListResult,
};
pub use storage::{MAX_VALUE_BYTES, PAGE, Page, StoredValue};
pub use ui_proxy::{ProxyFault, UiProxy, UiProxyCall, UiProxyError};
