//! Capabilities: what an install may grant to an extension (interop 1.4).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CallError, ErrorCode};

macro_rules! capabilities {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// A permission that gates one host interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Capability { $($(#[$doc])* $variant,)* }

        impl Capability {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The spelling in manifests, installs and requests.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
            fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

capabilities! {
    /// `context.get-context`; always granted.
    ContextRead = "cap:context.read",
    /// `secrets.*`.
    SecretsGet = "cap:secrets.get",
    /// `http.fetch` and `wasi:http/outgoing-handler`.
    HttpFetch = "cap:http.fetch",
    /// `storage.*`.
    StorageKv = "cap:storage.kv",
    /// `logging.*`; always granted.
    LogEmit = "cap:log.emit",
    /// `ui-proxy.call-route`.
    UiProxy = "cap:ui.proxy",
    /// `user.*` and `user-v2.*`; always granted.
    UserRead = "cap:user.read",
    /// `scheduler.*`.
    SchedulerManage = "cap:scheduler.manage",
    /// `invoicing.*`.
    InvoiceManualCreate = "cap:invoice.manual.create",
    /// `clients.*`.
    ClientRead = "cap:client.read",
    /// `services.*`.
    ServiceRead = "cap:service.read",
}

impl Capability {
    /// What a manifest asks for, trimmed and in any case: today's name, or that of the older manifest schema (interop 9.1), whose
    /// `events.emit`, `events.subscribe` and `metrics` were never built and have no successor.
    pub fn from_manifest(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "http.fetch" => Some(Self::HttpFetch),
            "storage.kv" => Some(Self::StorageKv),
            "secrets.get" => Some(Self::SecretsGet),
            "log" => Some(Self::LogEmit),
            text => Self::parse(text),
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one run may do. The three harmless capabilities are always in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CapabilitySet(u16);

impl CapabilitySet {
    const ALWAYS: [Capability; 3] = [Capability::ContextRead, Capability::LogEmit, Capability::UserRead];

    /// From the texts of a request: trimmed, lower-cased, blanks dropped; any unknown one refuses the call, all
    /// unknown ones named.
    pub fn parse<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Result<Self, CallError> {
        let mut set = Self::default();
        let mut unknown = Vec::new();
        for text in texts {
            let text = text.as_ref().trim().to_ascii_lowercase();
            if text.is_empty() {
                continue;
            }
            match Capability::parse(&text) {
                Some(capability) => set.insert(capability),
                None => unknown.push(text),
            }
        }
        if unknown.is_empty() {
            return Ok(set);
        }
        // A hostile list is echoed in part only.
        let shown: Vec<String> = unknown.iter().take(10).map(|t| t.chars().take(64).collect()).collect();
        Err(CallError::new(ErrorCode::UnknownCapabilities, shown.join(", ")))
    }

    /// Adds one.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= 1 << capability as u16;
    }

    /// Whether the run may use it.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u16) != 0
    }

    /// Those granted, in the order of the enum.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.iter().copied().filter(move |c| self.has(*c))
    }
}

impl Default for CapabilitySet {
    fn default() -> Self {
        let mut set = Self(0);
        for capability in Self::ALWAYS {
            set.insert(capability);
        }
        set
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Capability::as_str)).finish()
    }
}

impl Serialize for CapabilitySet {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter().map(Capability::as_str))
    }
}

impl<'de> Deserialize<'de> for CapabilitySet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        Self::parse(texts).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harmless_three_are_always_granted() {
        let set = CapabilitySet::parse(Vec::<String>::new()).unwrap();
        let granted: Vec<_> = set.iter().map(Capability::as_str).collect();
        assert_eq!(granted, ["cap:context.read", "cap:log.emit", "cap:user.read"]);
    }

    #[test]
    fn texts_are_trimmed_and_lower_cased_and_blanks_dropped() {
        assert!(CapabilitySet::parse([" CAP:HTTP.Fetch ", "", "  "]).unwrap().has(Capability::HttpFetch));
    }

    #[test]
    fn a_manifest_may_use_the_older_names() {
        let named = |text| Capability::from_manifest(text).map(Capability::as_str);
        assert_eq!(named("http.fetch"), Some("cap:http.fetch"));
        assert_eq!(named("log"), Some("cap:log.emit"));
        assert_eq!(named(" Cap:Storage.KV "), Some("cap:storage.kv"));
        assert_eq!(named("metrics"), None);
    }

    #[test]
    fn every_unknown_capability_is_named() {
        let error = CapabilitySet::parse(["cap:a", "cap:http.fetch", "cap:b"]).unwrap_err();
        assert_eq!(error.to_string(), "unknown_capabilities: cap:a, cap:b");
    }
}
