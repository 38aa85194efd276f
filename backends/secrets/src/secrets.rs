//! Secrets that have been opened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::hosts::HostPattern;
use crate::redact::Redactor;
use crate::texts::SecretTexts;
use crate::tokens::{Known, Policy, TokenKey, Tokenizer};
use crate::{HandleError, handles};

/// The secrets of one call's envelope.
pub struct Secrets {
    by_name: BTreeMap<String, Secret>,
    expires_at: Option<SystemTime>,
    redactor: Arc<Redactor>,
    /// What finds them for tokens under the key of that id. Built when the first run is recorded.
    known: OnceLock<(String, Arc<Known>)>,
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
        let redactor = Arc::new(Redactor::empty());
        Self { by_name: BTreeMap::new(), expires_at: None, redactor, known: OnceLock::new() }
    }

    pub(crate) fn new(texts: SecretTexts, expires_at: Option<SystemTime>) -> Self {
        let redactor = Arc::new(Redactor::new(texts.0.values().map(|text| text.value.as_str())));
        let secret = |(name, text): (String, crate::texts::SecretText)| {
            let handle = text.hosts.is_some().then(|| handles::handle(&name));
            let secret = Secret { value: text.value, hosts: text.hosts.unwrap_or_default(), handle };
            (name, secret)
        };
        let by_name = texts.0.into_iter().map(secret).collect();
        Self { by_name, expires_at, redactor, known: OnceLock::new() }
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

    /// What puts tokens in place of these secrets in the trace of one run. The search is built once for all runs that
    /// share these secrets, under the first key.
    pub fn tokenizer(&self, key: &TokenKey, policy: Arc<Policy>) -> Tokenizer {
        let build = || Arc::new(Known::new(key, self.by_name.values().map(Secret::expose)));
        let (id, known) = self.known.get_or_init(|| (key.id().to_owned(), build()));
        let known = if id == key.id() { Arc::clone(known) } else { build() };
        Tokenizer::with(key, known, policy)
    }

    /// `{{secret:name}}` replaced by the value, for a request to `host` (as [`HostPattern::allows`] takes it); none
    /// when there is no handle. Of a header, check afterwards that it still is one: a value may have any characters.
    ///
    /// # Errors
    /// [`HandleError`], which names the handle: nothing may be sent then.
    pub fn expand(&self, text: &[u8], host: &str) -> Result<Option<Zeroizing<Vec<u8>>>, HandleError> {
        handles::expand(self, text, host)
    }

    /// Bytes held, about. The search for tokens, which may come later, is as large as that of the redactor, and holds
    /// each value and its token besides.
    pub(crate) fn weight(&self) -> usize {
        let entry = |(name, secret): (&String, &Secret)| 2 * name.len() + 3 * secret.value.len() + 384;
        self.by_name.iter().map(entry).sum::<usize>() + 2 * self.redactor.memory() + 256
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
