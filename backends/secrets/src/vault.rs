//! Vault's transit engine: the platform encrypts, a worker asks Vault to decrypt (interop 7).

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use longshore_proto::call::SecretEnvelope;
use longshore_service::upstream::Upstream;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::OpenError;
use crate::opener::OpenerError;
use crate::texts::SecretTexts;

/// How long Vault may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of Vault's answer: the base64 of the largest envelope fits twice.
const MAX_ANSWER: usize = 1024 * 1024;
/// Bytes of a token file; Vault's longest tokens (batch, with many policies) are a few KiB.
const MAX_TOKEN: u64 = 16 * 1024;
/// Everything but what RFC 3986 leaves unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How Vault is reached.
#[derive(Debug, Clone)]
pub struct VaultConfig {
    /// `http(s)://host[:port][/prefix]`.
    pub addr: Url,
    /// Holds the token; read anew for every call, because an agent renews it.
    pub token_file: PathBuf,
    /// Vault Enterprise's namespace.
    pub namespace: Option<String>,
    /// Where the transit engine is mounted, unless the envelope says.
    pub mount: String,
}

/// A client of one Vault.
pub(crate) struct Vault {
    upstream: Upstream,
    base: String,
    token_file: PathBuf,
    namespace: Option<HeaderValue>,
    mount: String,
}

#[derive(Serialize)]
struct Question<'a> {
    ciphertext: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    plaintext: String,
}

impl Vault {
    pub(crate) fn new(config: VaultConfig) -> Result<Self, OpenerError> {
        let addr = &config.addr;
        if !matches!(addr.scheme(), "http" | "https") || !addr.has_host() {
            return Err(OpenerError::VaultAddress("it is no http:// or https:// URL"));
        }
        if !addr.username().is_empty() || addr.password().is_some() {
            return Err(OpenerError::VaultAddress("it contains a user"));
        }
        if addr.query().is_some() || addr.fragment().is_some() {
            return Err(OpenerError::VaultAddress("it has a query or a fragment"));
        }
        let namespace = config.namespace.filter(|namespace| !namespace.trim().is_empty());
        let namespace = namespace.map(|namespace| HeaderValue::try_from(namespace.trim())).transpose();
        let namespace = namespace.map_err(|_| OpenerError::VaultNamespace)?;
        let mut path = String::new();
        push_path(&mut path, &config.mount, "mount").map_err(|_| OpenerError::VaultMount)?;
        let upstream = Upstream::new().map_err(OpenerError::Client)?;
        let base = addr.as_str().trim_end_matches('/').to_owned();
        Ok(Self { upstream, base, token_file: config.token_file, namespace, mount: config.mount })
    }

    /// The mount of an envelope.
    fn mount<'a>(&'a self, envelope: &'a SecretEnvelope) -> &'a str {
        envelope.mount.as_deref().filter(|mount| !mount.trim().is_empty()).unwrap_or(&self.mount)
    }

    fn url(&self, envelope: &SecretEnvelope) -> Result<String, OpenError> {
        let key = envelope.key_path.as_deref().unwrap_or_default().trim();
        if key.trim_matches('/').is_empty() {
            return Err(OpenError::KeyPathMissing);
        }
        let mut url = format!("{}/v1", self.base);
        push_path(&mut url, self.mount(envelope), "mount")?;
        url.push_str("/decrypt");
        push_path(&mut url, key, "key_path")?;
        Ok(url)
    }

    /// Has the envelope opened.
    pub(crate) async fn open(&self, envelope: &SecretEnvelope) -> Result<SecretTexts, OpenError> {
        let url = self.url(envelope)?;
        let question = Question { ciphertext: &envelope.ciphertext_b64 };
        // A struct of one text is always JSON.
        let body = serde_json::to_vec(&question).unwrap_or_default();
        let mut request = Request::post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("X-Vault-Token", self.token().await?)
            // What Vault's own clients send: a proxy in front may insist, and no browser can be made to.
            .header("X-Vault-Request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        // The address and the escaped segments are a URI, but for one over 64 KiB.
        let request = request.body(Bytes::from(body)).map_err(|_| OpenError::Path { field: "key_path" })?;
        let answer = self.upstream.send(request, TIMEOUT, MAX_ANSWER).await;
        let (head, body) = answer.map_err(|error| OpenError::Vault(Arc::new(error)))?.into_parts();
        let read = read(&body);
        // The client's buffer may be shared with the rest of the connection's; what is ours alone is wiped.
        if let Ok(mut bytes) = body.try_into_mut() {
            bytes.as_mut().zeroize();
        }
        if !head.status.is_success() {
            return Err(OpenError::VaultStatus(head.status.as_u16()));
        }
        let plaintext = read.ok_or(OpenError::VaultAnswer)?;
        let json = BASE64.decode(plaintext.trim()).map(Zeroizing::new);
        let json = json.map_err(|_| OpenError::VaultPlaintext)?;
        SecretTexts::parse(&json).map_err(OpenError::VaultTexts)
    }

    async fn token(&self) -> Result<HeaderValue, OpenError> {
        let path = self.token_file.clone();
        let text = tokio::task::spawn_blocking(move || read_token(&path)).await;
        let text = text.map_err(|_| OpenError::Interrupted)?;
        let text = text.map_err(|error| OpenError::Token(Arc::new(error)))?;
        let token = HeaderValue::from_bytes(text.trim_ascii()).ok().filter(|token| !token.is_empty());
        let mut token = token.ok_or(OpenError::NoToken)?;
        token.set_sensitive(true);
        Ok(token)
    }
}

fn read(body: &[u8]) -> Option<Zeroizing<String>> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    Some(Zeroizing::new(answer.data.plaintext))
}

fn read_token(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_TOKEN as usize + 2));
    file.take(MAX_TOKEN + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_TOKEN {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a token file is at most 16 KiB"));
    }
    Ok(text)
}

/// Appends a path segment by segment. `..` would lead to another engine with the worker's token.
fn push_path(url: &mut String, path: &str, field: &'static str) -> Result<(), OpenError> {
    let path = path.trim().trim_matches('/');
    for segment in path.split('/') {
        if matches!(segment, "" | "." | "..") || segment.chars().any(char::is_control) {
            return Err(OpenError::Path { field });
        }
        // Writing to a String cannot fail.
        let _ = write!(url, "/{}", percent_encode(segment.as_bytes(), SEGMENT));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(addr: &str, mount: Option<&str>, key: Option<&str>) -> Result<String, OpenError> {
        let config = VaultConfig {
            addr: addr.parse().unwrap(),
            token_file: PathBuf::new(),
            namespace: None,
            mount: "transit".to_owned(),
        };
        let envelope = SecretEnvelope {
            ciphertext_b64: "vault:v1:x".to_owned(),
            algorithm: None,
            version: None,
            expires_at: None,
            key_path: key.map(str::to_owned),
            mount: mount.map(str::to_owned),
        };
        Vault::new(config).unwrap().url(&envelope)
    }

    #[test]
    fn the_path_is_made_of_mount_and_key_with_every_segment_escaped() {
        let cases = [
            ("http://v:8200", None, "k", "http://v:8200/v1/transit/decrypt/k"),
            ("http://v:8200/", Some(" "), "/k/", "http://v:8200/v1/transit/decrypt/k"),
            ("https://v/prefix/", Some("a/b"), "t/k", "https://v/prefix/v1/a/b/decrypt/t/k"),
            ("http://v", Some("/m/"), "a b?c#d%2e", "http://v/v1/m/decrypt/a%20b%3Fc%23d%252e"),
            ("http://v", None, "ü", "http://v/v1/transit/decrypt/%C3%BC"),
        ];
        for (addr, mount, key, expected) in cases {
            assert_eq!(url(addr, mount, Some(key)).unwrap(), expected);
        }
    }

    #[test]
    fn a_path_that_would_leave_the_engine_is_refused() {
        for key in ["..", "../x", "a/../b", ".", "a//b", "a\nb"] {
            assert!(
                matches!(url("http://v", None, Some(key)), Err(OpenError::Path { field: "key_path" })),
                "{key}"
            );
            assert!(
                matches!(url("http://v", Some(key), Some("k")), Err(OpenError::Path { field: "mount" })),
                "{key}"
            );
        }
        for key in [None, Some(""), Some(" "), Some("/")] {
            assert!(matches!(url("http://v", None, key), Err(OpenError::KeyPathMissing)));
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused_at_the_start() {
        for addr in ["ftp://v", "unix:/run/v", "http://u:p@v", "http://v?x", "http://v#x"] {
            let config = VaultConfig {
                addr: addr.parse().unwrap(),
                token_file: PathBuf::new(),
                namespace: None,
                mount: "transit".to_owned(),
            };
            assert!(matches!(Vault::new(config), Err(OpenerError::VaultAddress(_))), "{addr}");
        }
    }
}
