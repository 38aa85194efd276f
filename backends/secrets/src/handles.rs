//! Handles: a guest writes `{{secret:name}}` into a request, and the value takes its place on the way out.

use zeroize::Zeroizing;

use crate::secrets::Secrets;
use crate::texts::MAX_NAME_BYTES;

const BEGIN: &[u8] = b"{{secret:";
const END: &[u8] = b"}}";

/// Bytes by which handles may lengthen one text: 80,000 handles fit into a body of 1 MiB, and each may stand for a
/// value of 100 KiB.
pub const MAX_GROWTH: usize = 1024 * 1024;

/// Why a text with handles may not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// There is no secret of that name.
    #[error("{{{{secret:{name}}}}} names no secret of this install")]
    Unknown {
        /// As the guest wrote it.
        name: String,
    },
    /// The secret does not name the host.
    #[error("{{{{secret:{name}}}}} may not be sent to this host: the secret does not name it")]
    Host {
        /// The secret.
        name: String,
    },
    /// The secrets have expired while the call ran.
    #[error("{{{{secret:{name}}}}} has expired")]
    Expired {
        /// The secret.
        name: String,
    },
    /// The values would make the text too long.
    #[error("handles would lengthen the text by more than {MAX_GROWTH} bytes")]
    TooLarge,
}

/// Whether a handle can have this name: a brace would end it or make two readings possible.
pub(crate) fn can_name(name: &str) -> bool {
    !name.contains(['{', '}'])
}

/// What a guest gets for a secret that names hosts.
pub(crate) fn handle(name: &str) -> String {
    format!("{{{{secret:{name}}}}}")
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The text before the first handle, the handle's name, and the text after it. A beginning without an end within the
/// length of a name is text.
fn next_handle(text: &[u8]) -> Option<(&[u8], &str, &[u8])> {
    let mut from = 0;
    loop {
        let at = from + find(text.get(from..)?, BEGIN)?;
        let after = text.get(at + BEGIN.len()..)?;
        let near = after.get(..MAX_NAME_BYTES + END.len()).unwrap_or(after);
        let name = find(near, END).and_then(|end| near.get(..end));
        if let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok())
            && can_name(name)
        {
            return Some((text.get(..at)?, name, after.get(name.len() + END.len()..)?));
        }
        from = at + BEGIN.len();
    }
}

pub(crate) fn expand(
    secrets: &Secrets,
    text: &[u8],
    host: &str,
) -> Result<Option<Zeroizing<Vec<u8>>>, HandleError> {
    if next_handle(text).is_none() {
        return Ok(None);
    }
    // Two passes, so that the buffer has its size at once: one that grows leaves copies of values behind.
    let mut parts: Vec<&[u8]> = Vec::new();
    let (mut rest, mut length) = (text, 0usize);
    let now = std::time::SystemTime::now();
    while let Some((before, name, after)) = next_handle(rest) {
        let named = || name.to_owned();
        let secret = secrets.get(name).ok_or_else(|| HandleError::Unknown { name: named() })?;
        if secrets.is_expired(now) {
            return Err(HandleError::Expired { name: named() });
        }
        if !secret.may_go_to(host) {
            return Err(HandleError::Host { name: named() });
        }
        length += before.len() + secret.expose().len();
        if length > text.len() + MAX_GROWTH {
            return Err(HandleError::TooLarge);
        }
        parts.push(before);
        parts.push(secret.expose().as_bytes());
        rest = after;
    }
    if length + rest.len() > text.len() + MAX_GROWTH {
        return Err(HandleError::TooLarge);
    }
    let mut expanded = Zeroizing::new(Vec::with_capacity(length + rest.len()));
    for part in parts {
        expanded.extend_from_slice(part);
    }
    expanded.extend_from_slice(rest);
    Ok(Some(expanded))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::SecretTexts;

    fn secrets(expires_at: Option<SystemTime>) -> Secrets {
        let mut texts = SecretTexts::new();
        texts.insert("plain", "readable").unwrap();
        texts.insert_for_hosts("key", "s3cr3t", &["api.example.com"]).unwrap();
        texts.insert_for_hosts("big", &"x".repeat(100_000), &["api.example.com"]).unwrap();
        texts.insert_for_hosts("nested", "{{secret:key}}", &["api.example.com"]).unwrap();
        Secrets::new(texts, expires_at)
    }

    fn expand(text: &str, host: &str) -> Result<Option<String>, HandleError> {
        let expanded = secrets(None).expand(text.as_bytes(), host)?;
        Ok(expanded.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()))
    }

    #[test]
    fn a_guest_reads_a_value_or_a_handle_and_the_handle_becomes_the_value() {
        let secrets = secrets(None);
        assert_eq!(secrets.get("plain").unwrap().for_guest(), "readable");
        assert_eq!(secrets.get("key").unwrap().for_guest(), "{{secret:key}}");
        assert_eq!(secrets.names().collect::<Vec<_>>(), ["big", "key", "nested", "plain"]);
        let sent = expand("Bearer {{secret:key}}, {{secret:key}}!", "API.example.com:443").unwrap();
        assert_eq!(sent.as_deref(), Some("Bearer s3cr3t, s3cr3t!"));
        assert!(!format!("{secrets:?} {:?}", secrets.get("key")).contains("s3cr3t"));
    }

    #[test]
    fn a_value_that_looks_like_a_handle_is_not_looked_into() {
        assert_eq!(expand("{{secret:nested}}", "api.example.com").unwrap().unwrap(), "{{secret:key}}");
    }

    #[test]
    fn text_without_a_handle_is_left_alone() {
        let long = format!("{{{{secret:{}}}}}", "n".repeat(129));
        for text in ["", "x", "{{secret:", "{{secret:key}", "{{ secret:key }}", "{secret:key}", &long] {
            assert_eq!(expand(text, "elsewhere").unwrap(), None, "{text}");
        }
        let unfinished = "{{secret:{{secret:key}}";
        assert_eq!(expand(unfinished, "api.example.com").unwrap().unwrap(), "{{secret:s3cr3t");
    }

    #[test]
    fn a_handle_is_refused_where_it_may_not_go() {
        for host in ["evil.org", "api.example.com.evil.org", ""] {
            let error = expand("a {{secret:key}}", host).unwrap_err();
            assert_eq!(error, HandleError::Host { name: "key".to_owned() });
            assert!(!error.to_string().contains("s3cr3t"));
        }
        // It can be read, so that the extension sends it itself; it names no hosts.
        let error = expand("{{secret:plain}}", "api.example.com").unwrap_err();
        assert_eq!(
            error.to_string(),
            "{{secret:plain}} may not be sent to this host: the secret does not name it"
        );
        for name in ["", "none", "KEY", " key"] {
            let error = expand(&format!("{{{{secret:{name}}}}}"), "api.example.com").unwrap_err();
            assert_eq!(error, HandleError::Unknown { name: name.to_owned() });
        }
    }

    #[test]
    fn an_expired_handle_is_refused() {
        let secrets = secrets(Some(SystemTime::now() - Duration::from_secs(1)));
        let error = secrets.expand(b"{{secret:key}}", "api.example.com").unwrap_err();
        assert_eq!(error, HandleError::Expired { name: "key".to_owned() });
    }

    #[test]
    fn many_handles_of_a_large_value_do_not_fill_the_memory() {
        let error = expand(&"{{secret:big}}".repeat(80_000), "api.example.com").unwrap_err();
        assert_eq!(error, HandleError::TooLarge);
    }
}
