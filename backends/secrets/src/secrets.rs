//! Secrets that have been opened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::hosts::HostPattern;
use crate::redact::Redactor;
use crate::texts::SecretTexts;
use crate::{HandleError, handles};

/// The secrets of one call's envelope.
pub struct Secrets {
    by_name: BTreeMap<String, Secret>,
    expires_at: Option<SystemTime>,
    redactor: Arc<Redactor>,
}

/// One secret.
pub struct Secret {
    value: Zeroizing<String>,
    hosts: Vec<HostPattern>,
    /// What the guest gets instead of the value, for a secret that names hosts.
    handle: Option<String>,
}

impl Secrets {
    /// No secrets: nothing to read, nothing to redact.
    pub fn empty() -> Self {
        Self { by_name: BTreeMap::new(), expires_at: None, redactor: Arc::new(Redactor::empty()) }
    }

    pub(crate) fn new(texts: SecretTexts, expires_at: Option<SystemTime>) -> Self {
        let redactor = Arc::new(Redactor::new(texts.0.values().map(|text| text.value.as_str())));
        let secret = |(name, text): (String, crate::texts::SecretText)| {
            let handle = text.hosts.is_some().then(|| handles::handle(&name));
            let secret = Secret { value: text.value, hosts: text.hosts.unwrap_or_default(), handle };
            (name, secret)
        };
        Self { by_name: texts.0.into_iter().map(secret).collect(), expires_at, redactor }
    }

    /// The secret of that name.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.by_name.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether a run that began in time now reads too late: `secrets.get` answers `expired`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// What removes these secrets from a text.
    pub fn redactor(&self) -> &Arc<Redactor> {
        &self.redactor
    }

    /// `{{secret:name}}` replaced by the value, for a request to `host` (as [`HostPattern::allows`] takes it); none
    /// when there is no handle. Of a header, check afterwards that it still is one: a value may have any characters.
    ///
    /// # Errors
    /// [`HandleError`], which names the handle: nothing may be sent then.
    pub fn expand(&self, text: &[u8], host: &str) -> Result<Option<Zeroizing<Vec<u8>>>, HandleError> {
        handles::expand(self, text, host)
    }

    /// Bytes held, about.
    pub(crate) fn weight(&self) -> usize {
        let entry = |(name, secret): (&String, &Secret)| 2 * name.len() + secret.value.len() + 256;
        self.by_name.iter().map(entry).sum::<usize>() + self.redactor.memory() + 256
    }
}

impl Secret {
    /// What the guest gets from `secrets.get`: the value, or the handle of a secret that names hosts.
    pub fn for_guest(&self) -> &str {
        self.handle.as_deref().unwrap_or(&self.value)
    }

    /// The value itself, for the host's own use (the `api_key` of the UI proxy).
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The hosts it may be sent to by handle; none for a secret that the guest reads.
    pub fn hosts(&self) -> &[HostPattern] {
        &self.hosts
    }

    /// Whether a request to `host` may carry it by handle.
    pub fn may_go_to(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| pattern.allows(host))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.by_name.len())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}
