//! S3 and what speaks like it, signed; or plain HTTP, unsigned.

use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls;

use super::config::Place;
use super::{BundleStore, Content, ObjectInfo, ObjectPage, Opened, PAGE, StoreError};
use crate::key::ObjectKey;

/// A machine that does not take a connection within 3 s is away; waiting longer only holds calls up.
const CONNECT: Duration = Duration::from_secs(3);
/// Until the first byte of the answer. The body has limits of its own (`CacheConfig`).
const READ: Duration = Duration::from_secs(10);
/// One operation with its retries, without the body.
const OPERATION: Duration = Duration::from_secs(25);
/// Uploads send up to 200 MiB before the first byte of the answer comes.
const UPLOAD: Duration = Duration::from_secs(300);
/// The first try and two more.
const ATTEMPTS: u32 = 3;

/// Objects on an S3 server (path style), or on a plain HTTP server.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    place: Place,
    signed: bool,
}

impl S3Store {
    pub(super) fn new(place: Place, keys: Option<(&str, &str)>, region: &str) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .read_timeout(READ)
            .operation_attempt_timeout(READ + CONNECT)
            .operation_timeout(OPERATION)
            .build();
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new(region.to_owned()))
            // Virtual-host style needs DNS for every bucket, which no development server has.
            .force_path_style(true)
            .timeout_config(timeouts)
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(ATTEMPTS)
                    .with_initial_backoff(Duration::from_millis(100))
                    .with_max_backoff(Duration::from_secs(1)),
            )
            // Reads are watched by the cache, which counts silence, not throughput.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // The bundle's own SHA-256 is checked anyway, and older S3 servers refuse the trailing checksums that
            // the SDK sends by default.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = &place.endpoint {
            config = config.endpoint_url(endpoint);
        }
        config = match keys {
            Some((access, secret)) => {
                config.credentials_provider(Credentials::new(access, secret, None, None, "longshore"))
            }
            None => config.allow_no_auth(),
        };
        Self { client: Client::from_conf(config.build()), place, signed: keys.is_some() }
    }

    /// Bucket and key of an object. A base without a bucket borrows the key's first segment: path style puts them
    /// together again as base + key.
    fn at(&self, key: &ObjectKey) -> (String, String) {
        let key = format!("{}{key}", self.place.prefix);
        if !self.place.bucket.is_empty() {
            return (self.place.bucket.clone(), key);
        }
        match key.split_once('/') {
            Some((bucket, rest)) => (bucket.to_owned(), rest.to_owned()),
            None => (key, String::new()),
        }
    }
}

/// How our keys and the bucket's go together: what a bucket's key has in front of ours, and what ours has in front of the bucket's.
struct Listing {
    /// The configured prefix.
    before: String,
    /// The borrowed bucket's name and `/`.
    borrowed: &'static str,
}

impl S3Store {
    /// A base without a bucket keeps everything below `tenants/` in a bucket of that name; other prefixes are not listed there.
    fn listing(&self) -> (String, Listing) {
        let (bucket, borrowed) = match self.place.bucket.as_str() {
            "" => ("tenants".to_owned(), "tenants/"),
            bucket => (bucket.to_owned(), ""),
        };
        (bucket, Listing { before: self.place.prefix.clone(), borrowed })
    }
}

/// The bucket's key or prefix for one of ours; none: not in this bucket.
fn own_key(listing: &Listing, ours: &str) -> Option<String> {
    let rest = ours.strip_prefix(listing.borrowed).or_else(|| ours.is_empty().then_some(""))?;
    Some(format!("{}{rest}", listing.before))
}

/// Our key for one of the bucket's.
fn outer_key(listing: &Listing, theirs: &str) -> Option<String> {
    let rest = theirs.strip_prefix(&listing.before)?;
    Some(format!("{}{rest}", listing.borrowed))
}

/// Sorts an SDK error: only a 404 is a "no such object", and not where its code speaks of the bucket.
fn store_error<E>(error: SdkError<E>) -> StoreError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default().to_owned();
    match status {
        Some(404) if code != "NoSuchBucket" => StoreError::NotFound,
        Some(status) if status >= 300 => StoreError::Refused { status, code },
        _ => StoreError::unreachable(error),
    }
}

#[async_trait]
impl BundleStore for S3Store {
    async fn exists_object(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        let (bucket, key) = self.at(key);
        match self.client.head_object().bucket(bucket).key(key).send().await.map_err(store_error) {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn open_object(&self, key: &ObjectKey) -> Result<Opened, StoreError> {
        let (bucket, key) = self.at(key);
        let found = self.client.get_object().bucket(bucket).key(key).send().await.map_err(store_error)?;
        let len = found.content_length().and_then(|len| u64::try_from(len).ok());
        Ok(Opened { len, body: Box::pin(found.body.into_async_read()) })
    }

    async fn put_object(&self, key: &ObjectKey, content: Content) -> Result<(), StoreError> {
        let (bucket, key) = self.at(key);
        let body = match content {
            Content::Bytes(bytes) => ByteStream::from(bytes),
            Content::File(path) => ByteStream::from_path(path).await.map_err(StoreError::unreachable)?,
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .read_timeout(UPLOAD)
            .operation_attempt_timeout(UPLOAD)
            .operation_timeout(UPLOAD)
            .build();
        let put = self.client.put_object().bucket(bucket).key(key).body(body).customize();
        let put = put.config_override(aws_sdk_s3::Config::builder().timeout_config(timeouts));
        put.send().await.map(drop).map_err(store_error)
    }

    async fn list_objects(&self, prefix: &str, after: Option<&str>) -> Result<ObjectPage, StoreError> {
        let (bucket, own) = self.listing();
        let (Some(prefix), after) = (own_key(&own, prefix), after.and_then(|after| own_key(&own, after)))
        else {
            return Ok(ObjectPage::default());
        };
        let request = self.client.list_objects_v2().bucket(bucket).prefix(prefix).set_start_after(after);
        let max = i32::try_from(PAGE).unwrap_or(i32::MAX);
        let found = request.max_keys(max).send().await.map_err(store_error)?;
        let mut page = ObjectPage::default();
        let mut last = None;
        for object in found.contents() {
            let Some(key) = object.key() else { continue };
            let Some(key) = outer_key(&own, key) else { continue };
            if let Ok(key) = ObjectKey::new(key.clone()) {
                let size = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
                let modified = object.last_modified().and_then(|time| (*time).try_into().ok());
                page.objects.push(ObjectInfo { key, size, modified });
            }
            last = Some(key);
        }
        if found.is_truncated() == Some(true) {
            page.next = last;
        }
        Ok(page)
    }

    async fn delete_object(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let (bucket, key) = self.at(key);
        match self.client.delete_object().bucket(bucket).key(key).send().await.map_err(store_error) {
            Ok(_) | Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A bucket that the keys may read but not list answers 403: the bundles in it can still be had, so for an
    /// orchestrator a probe is a hint, not a verdict.
    async fn probe(&self) -> Result<(), StoreError> {
        let bucket = if self.place.bucket.is_empty() { "tenants" } else { &self.place.bucket };
        match self.client.head_bucket().bucket(bucket).send().await.map_err(store_error) {
            // A plain HTTP server knows no buckets: any answer shows that it is there.
            Err(StoreError::NotFound | StoreError::Refused { status: ..500, .. }) if !self.signed => Ok(()),
            Err(StoreError::NotFound) => {
                Err(StoreError::Refused { status: 404, code: format!("NoSuchBucket {bucket}") })
            }
            other => other.map(drop),
        }
    }

    async fn ensure_bucket(&self) -> Result<(), StoreError> {
        match self.client.create_bucket().bucket(&self.place.bucket).send().await.map_err(store_error) {
            Ok(_) => Ok(()),
            Err(StoreError::Refused { status: 409, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn describe(&self) -> String {
        let endpoint = self.place.endpoint.as_deref().unwrap_or("AWS S3");
        let Place { bucket, prefix, .. } = &self.place;
        let how = if self.signed { "signed" } else { "unsigned" };
        format!("{endpoint}/{bucket}/{prefix} ({how})")
    }

    fn url(&self, key: &ObjectKey) -> String {
        let (bucket, key) = self.at(key);
        match &self.place.endpoint {
            Some(endpoint) => format!("{endpoint}/{bucket}/{key}"),
            None => format!("s3://{bucket}/{key}"),
        }
    }
}
