//! Whose secrets.

use longshore_proto::{ExtensionId, TenantId};

/// Whose secrets an envelope holds. A sealed envelope opens in the scope that it was sealed in and in no other.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The extension.
    pub extension: &'a ExtensionId,
    /// The install; no install is another scope than any install.
    pub install: Option<&'a str>,
    /// The secrets' version: [`KeyRing::seal`](crate::KeyRing::seal) writes it into the envelope. When opening, the
    /// envelope's own version is what is bound, and this one only keeps cached values apart.
    pub version: Option<&'a str>,
}
