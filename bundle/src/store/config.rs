//! Which store, from the variables that existing deployments set.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use super::{BundleStore, DirStore, S3Store};

/// Where the store is. The fields are the values of `BUNDLE_STORE_BASE`, `S3_ENDPOINT`, `S3_ACCESS_KEY` /
/// `MINIO_ACCESS_KEY`, `S3_SECRET_KEY` / `MINIO_SECRET_KEY` and `S3_REGION` (interop 5.4).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreConfig {
    /// `http(s)://host[:port]/bucket[/prefix]`, `s3://bucket[/prefix]`, `/folder` or `file:///folder`.
    pub base: String,
    /// For `s3://`: the server, `http(s)://host[:port]`; AWS's own for the region if absent. Ignored otherwise.
    pub endpoint: Option<String>,
    /// With the secret key: requests are signed. Without both: unsigned.
    pub access_key: Option<String>,
    /// With the access key.
    pub secret_key: Option<String>,
    /// `us-east-1` if absent, which is what servers other than AWS expect.
    pub region: Option<String>,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |key: &Option<String>| key.as_ref().map(|_| "<set>");
        f.debug_struct("StoreConfig")
            .field("base", &Url::parse(&self.base).map_or_else(|_| self.base.clone(), |url| shown(&url)))
            .field("endpoint", &self.endpoint)
            .field("access_key", &hidden(&self.access_key))
            .field("secret_key", &hidden(&self.secret_key))
            .field("region", &self.region)
            .finish()
    }
}

/// Why the variables name no store. Each text names the variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreConfigError {
    /// Not set.
    #[error("BUNDLE_STORE_BASE is empty: set it to http://host:port/bucket, s3://bucket or a folder")]
    Empty,
    /// Neither an absolute folder nor a URL.
    #[error(
        "BUNDLE_STORE_BASE `{0}` is neither http(s)://host/bucket, nor s3://bucket, nor an absolute folder, nor file:///folder"
    )]
    Base(String),
    /// `S3_ENDPOINT` is no URL.
    #[error("S3_ENDPOINT `{0}` is no http(s)://host[:port]")]
    Endpoint(String),
    /// Credentials in a URL end up in logs.
    #[error("{0} holds credentials in the URL: use S3_ACCESS_KEY and S3_SECRET_KEY")]
    CredentialsInUrl(&'static str),
    /// A query or fragment cannot be kept in front of a key.
    #[error("BUNDLE_STORE_BASE has a query or fragment")]
    Query,
    /// One of the two keys.
    #[error("S3_ACCESS_KEY and S3_SECRET_KEY must be set both or not at all: {0} is missing")]
    HalfKey(&'static str),
    /// The bucket or the prefix has a character that cannot be in a path.
    #[error("BUNDLE_STORE_BASE: bucket and prefix are made of A-Z a-z 0-9 . _ - only, not `{0}`")]
    Path(String),
}

/// Where objects are on an S3 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// None for AWS itself.
    pub endpoint: Option<String>,
    pub bucket: String,
    /// Empty, or with a trailing `/`.
    pub prefix: String,
}

/// A parsed configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Dir(PathBuf),
    S3 { place: Place, signed: bool },
}

/// A URL as it may be logged.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if !url.username().is_empty() || url.password().is_some() {
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    url.set_query(None);
    url.into()
}

fn filled(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

impl StoreConfig {
    pub(super) fn keys(&self) -> Result<Option<(&str, &str)>, StoreConfigError> {
        match (filled(&self.access_key), filled(&self.secret_key)) {
            (Some(access), Some(secret)) => Ok(Some((access, secret))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(StoreConfigError::HalfKey("S3_SECRET_KEY")),
            (None, Some(_)) => Err(StoreConfigError::HalfKey("S3_ACCESS_KEY")),
        }
    }

    pub(super) fn parse(&self) -> Result<Parsed, StoreConfigError> {
        let base = self.base.trim();
        if base.is_empty() {
            return Err(StoreConfigError::Empty);
        }
        if base.starts_with('/') {
            return Ok(Parsed::Dir(base.into()));
        }
        let url = Url::parse(base).map_err(|_| StoreConfigError::Base(base.into()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(StoreConfigError::CredentialsInUrl("BUNDLE_STORE_BASE"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(StoreConfigError::Query);
        }
        let signed = self.keys()?.is_some();
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| StoreConfigError::Base(base.into()))?;
                Ok(Parsed::Dir(path))
            }
            "s3" => {
                let endpoint = match filled(&self.endpoint) {
                    None => None,
                    Some(text) => Some(origin_of_endpoint(text)?),
                };
                let bucket = url.host_str().unwrap_or_default();
                let place = place(endpoint, std::iter::once(bucket).chain(url.path().split('/')), base)?;
                Ok(Parsed::S3 { place, signed })
            }
            "http" | "https" => {
                let endpoint = Some(url.origin().ascii_serialization());
                if url.path().split('/').all(str::is_empty) {
                    // As the reference: without a bucket nothing can be signed, so the objects are read plainly at
                    // base + key. Path style makes that the bucket `tenants` with the rest as key.
                    return Ok(Parsed::S3 {
                        place: Place { endpoint, bucket: String::new(), prefix: String::new() },
                        signed: false,
                    });
                }
                Ok(Parsed::S3 { place: place(endpoint, url.path().split('/'), base)?, signed })
            }
            _ => Err(StoreConfigError::Base(base.into())),
        }
    }

    /// Makes the store. Nothing is connected yet: a store that is away at the start is no reason not to start.
    ///
    /// # Errors
    /// Values that name no store; says which variable.
    pub fn open(&self) -> Result<Arc<dyn BundleStore>, StoreConfigError> {
        match self.parse()? {
            Parsed::Dir(path) => Ok(Arc::new(DirStore::new(path))),
            Parsed::S3 { place, signed } => {
                let keys = if signed { self.keys()? } else { None };
                let region = filled(&self.region).unwrap_or("us-east-1");
                Ok(Arc::new(S3Store::new(place, keys, region)))
            }
        }
    }
}

fn origin_of_endpoint(text: &str) -> Result<String, StoreConfigError> {
    let url = Url::parse(text).map_err(|_| StoreConfigError::Endpoint(text.into()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(StoreConfigError::CredentialsInUrl("S3_ENDPOINT"));
    }
    if !matches!(url.scheme(), "http" | "https") || !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(StoreConfigError::Endpoint(text.into()));
    }
    Ok(url.origin().ascii_serialization())
}

fn place<'a>(
    endpoint: Option<String>,
    segments: impl Iterator<Item = &'a str>,
    base: &str,
) -> Result<Place, StoreConfigError> {
    let mut segments = segments.filter(|segment| !segment.is_empty());
    let bucket = segments.next().ok_or_else(|| StoreConfigError::Base(base.into()))?;
    let mut prefix = String::new();
    let checked = |segment: &str| {
        crate::key::ObjectKey::new(segment).map(drop).map_err(|_| StoreConfigError::Path(segment.into()))
    };
    checked(bucket)?;
    for segment in segments {
        checked(segment)?;
        prefix.push_str(segment);
        prefix.push('/');
    }
    Ok(Place { endpoint, bucket: bucket.into(), prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(base: &str) -> StoreConfig {
        StoreConfig { base: base.into(), ..StoreConfig::default() }
    }

    fn place_of(config: &StoreConfig) -> (Option<String>, String, String, bool) {
        match config.parse().unwrap() {
            Parsed::S3 { place, signed } => (place.endpoint, place.bucket, place.prefix, signed),
            Parsed::Dir(path) => panic!("{path:?}"),
        }
    }

    #[test]
    fn the_first_segment_of_an_http_base_is_the_bucket_and_the_rest_a_prefix() {
        let mut base = config("http://localhost:4569/extensions/");
        let endpoint = Some("http://localhost:4569".to_owned());
        assert_eq!(place_of(&base), (endpoint.clone(), "extensions".into(), String::new(), false));
        base.base = "http://localhost:4569/extensions/a//b".into();
        assert_eq!(place_of(&base), (endpoint, "extensions".into(), "a/b/".into(), false));
    }

    #[test]
    fn an_s3_base_takes_its_server_from_the_endpoint_or_is_aws() {
        let mut base = config("s3://extensions/eu");
        assert_eq!(place_of(&base), (None, "extensions".into(), "eu/".into(), false));
        base.endpoint = Some("https://minio.local/".into());
        base.access_key = Some("a".into());
        base.secret_key = Some("b".into());
        assert_eq!(
            place_of(&base),
            (Some("https://minio.local".into()), "extensions".into(), "eu/".into(), true)
        );
    }

    #[test]
    fn a_base_without_a_bucket_is_read_plainly_even_with_keys() {
        let mut base = config("http://files.local");
        base.access_key = Some("a".into());
        base.secret_key = Some("b".into());
        assert_eq!(place_of(&base), (Some("http://files.local".into()), String::new(), String::new(), false));
    }

    #[test]
    fn a_folder_is_named_by_path_or_file_url() {
        assert_eq!(config("/srv/b").parse(), Ok(Parsed::Dir("/srv/b".into())));
        assert_eq!(config("file:///srv/b%20c").parse(), Ok(Parsed::Dir("/srv/b c".into())));
    }

    #[test]
    fn a_value_that_names_no_store_says_which_variable_is_wrong() {
        use StoreConfigError as E;
        assert_eq!(config(" ").parse(), Err(E::Empty));
        for bad in ["bundles", "ftp://h/b", "s3://", "./x", "http://"] {
            assert_eq!(config(bad).parse(), Err(E::Base(bad.into())), "{bad}");
        }
        assert_eq!(config("http://u:p@h/b").parse(), Err(E::CredentialsInUrl("BUNDLE_STORE_BASE")));
        assert_eq!(config("http://h/b?x=1").parse(), Err(E::Query));
        assert!(matches!(config("http://h/b/%2e%2e%2f").parse(), Err(E::Path(_))));
        let mut half = config("http://h/b");
        half.access_key = Some("a".into());
        assert_eq!(half.parse(), Err(E::HalfKey("S3_SECRET_KEY")));
        let mut endpoint = config("s3://b");
        endpoint.endpoint = Some("minio:9000".into());
        assert!(matches!(endpoint.parse(), Err(E::Endpoint(_))));
    }

    #[test]
    fn no_print_of_a_configuration_holds_a_secret() {
        let config = StoreConfig {
            base: "http://user:pass-word@h/b".into(),
            access_key: Some("access-key".into()),
            secret_key: Some("secret-key".into()),
            ..StoreConfig::default()
        };
        let text = format!("{config:?} {}", config.open().map(|_| ()).unwrap_err());
        for secret in ["pass-word", "access-key", "secret-key"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
