//! Outbound requests of guests: what they may reach, and the connections that carry them.
//!
//! The policy, the same for `http.fetch` and `wasi:http/outgoing-handler`:
//! - Denied unless listed. An empty operator list denies everything; "empty allows all" is a setting of its own. An
//!   install may have a list as well, and then both must allow.
//! - Only `http` and `https`, no user information, no CONNECT or TRACE. The URL is read once, as browsers read it, and
//!   everything afterwards goes by that reading; see `target`.
//! - Only addresses on the public internet, whatever a list says, unless the development setting allows others. A name is
//!   resolved once for a connection; each address found is checked, and only checked ones are connected to, so there is
//!   nothing to rebind between check and connect. A name that no list can allow is not even looked up.
//! - The `host` header and the TLS name are those of the URL. Headers that belong to a connection are removed, and the
//!   body's length is written by us.
//! - Redirects are answers and are not followed; there are no cookies and no proxies from the environment.
//! - Connections are kept for the next request of the same tenant under the same install list, never for another's. A
//!   tenant has a limited number of them, and idle ones give way.
//! - HTTP/1.1 alone: one request at a time on a connection makes that limit mean what it says.
//! - Headers and bodies have limits in both directions. An exchange, its body included, ends with the total time or the
//!   run, whichever comes first. What a guest can read of an error names no resolved address.

mod address;
mod body;
mod connect;
mod egress;
mod error;
mod headers;
mod policy;
mod pool;
mod resolve;
mod rules;
mod stats;
mod target;

pub use body::{RequestBody, ResponseBody, full};
pub use egress::{Egress, EgressConfig, SendOptions, Who};
pub use error::{BoxError, EgressError, EgressSetupError, HttpErrorKind, Part, Refusal, Stage, Wait};
pub use resolve::{Resolve, SystemResolver};
pub use rules::{EgressRules, MAX_ENTRIES, MAX_ENTRY_BYTES, RuleError};
pub use stats::EgressStats;
pub use target::parse_url;
