//! The development S3 endpoint, spoken to by a real S3 client and by hand.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use longshore_cli::dev::s3::{ACCESS_KEY, BUCKET, S3Endpoint, SECRET_KEY};
use tokio::net::TcpListener;

/// As long as a real one: UUIDs for tenant and extension. Its metadata file in s3s-fs would have too long a name.
const KEY: &str = "tenants/0c7cd7d8-2a0b-4a4c-9f3c-2b1a5a1d9e10/extensions/3b8b0204-25d9-57d0-951b-3ed518145469/sha256/\
                   e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/bundle.tar.zst";

struct Store {
    endpoint: S3Endpoint,
    _dir: tempfile::TempDir,
}

impl Store {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { endpoint: S3Endpoint::start(listener, dir.path()).unwrap(), _dir: dir }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.endpoint.address())
    }

    fn client(&self, secret: &str) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new("us-east-1"))
            .force_path_style(true)
            .endpoint_url(self.url(""))
            .credentials_provider(Credentials::new(ACCESS_KEY, secret, None, None, "test"));
        Client::from_conf(config.build())
    }
}

async fn plain(method: &str, url: &str, body: &'static str) -> (StatusCode, Bytes) {
    let client: Http<_, Full<Bytes>> = Http::builder(TokioExecutor::new()).build_http();
    let request =
        Request::builder().method(method).uri(url).body(Full::new(Bytes::from_static(body.as_bytes())));
    let response = client.request(request.unwrap()).await.unwrap();
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes())
}

async fn read(client: &Client, key: &str) -> Bytes {
    let found = client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
    found.body.collect().await.unwrap().into_bytes()
}

#[tokio::test]
async fn the_health_probe_of_the_guide_needs_no_signature() {
    let store = Store::start().await;
    assert_eq!(plain("GET", &store.url("/minio/health/live"), "").await.0, StatusCode::OK);
    let (other, _) = plain("PUT", &store.url("/minio/health/live"), "").await;
    assert_eq!(other, StatusCode::FORBIDDEN, "it is no way around the signature");
}

#[tokio::test]
async fn unsigned_and_wrongly_signed_requests_are_refused() {
    let store = Store::start().await;
    store.client(SECRET_KEY).put_object().bucket(BUCKET).key(KEY).send().await.unwrap();
    for method in ["GET", "PUT"] {
        let (status, _) = plain(method, &store.url(&format!("/{BUCKET}/{KEY}")), "").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method}");
    }
    let refused = store.client("wrong").get_object().bucket(BUCKET).key(KEY).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("SignatureDoesNotMatch"));
}

#[tokio::test]
async fn a_bucket_that_exists_is_its_makers_own() {
    let store = Store::start().await;
    let client = store.client(SECRET_KEY);
    let existing = client.create_bucket().bucket(BUCKET).send().await.unwrap_err();
    assert_eq!(existing.code(), Some("BucketAlreadyOwnedByYou"));
    client.create_bucket().bucket("another").send().await.unwrap();
    let buckets = client.list_buckets().send().await.unwrap();
    let mut names: Vec<_> = buckets.buckets().iter().map(|b| b.name().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["another", BUCKET]);
}

#[tokio::test]
async fn a_bundle_is_put_replaced_listed_read_and_deleted() {
    let store = Store::start().await;
    let client = store.client(SECRET_KEY);
    for content in ["first", "second"] {
        let body = ByteStream::from_static(content.as_bytes());
        client.put_object().bucket(BUCKET).key(KEY).body(body).send().await.unwrap();
        assert_eq!(read(&client, KEY).await, content);
    }
    let listed = client.list_objects_v2().bucket(BUCKET).prefix("tenants/").send().await.unwrap();
    assert_eq!(listed.contents().iter().map(|o| o.key().unwrap()).collect::<Vec<_>>(), [KEY]);
    assert_eq!(client.head_object().bucket(BUCKET).key(KEY).send().await.unwrap().content_length(), Some(6));
    client.delete_object().bucket(BUCKET).key(KEY).send().await.unwrap();
    let gone = client.get_object().bucket(BUCKET).key(KEY).send().await.unwrap_err();
    assert_eq!(gone.code(), Some("NoSuchKey"));
}

#[tokio::test]
async fn a_presigned_url_takes_an_upload_and_gives_it_back() {
    let store = Store::start().await;
    let client = store.client(SECRET_KEY);
    let minute = || PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let put = client.put_object().bucket(BUCKET).key(KEY).presigned(minute()).await.unwrap();
    assert_eq!(plain("PUT", put.uri(), "by hand").await.0, StatusCode::OK);
    let get = client.get_object().bucket(BUCKET).key(KEY).presigned(minute()).await.unwrap();
    assert_eq!(plain("GET", get.uri(), "").await, (StatusCode::OK, Bytes::from_static(b"by hand")));
}

#[tokio::test]
async fn a_large_upload_in_parts_becomes_one_object() {
    let store = Store::start().await;
    let client = store.client(SECRET_KEY);
    let begun = client.create_multipart_upload().bucket(BUCKET).key(KEY).send().await.unwrap();
    assert_eq!(begun.key(), Some(KEY));
    let id = begun.upload_id().unwrap();
    let parts = [Bytes::from(vec![1; 5 << 20]), Bytes::from_static(b"end")];
    let mut done = CompletedMultipartUpload::builder();
    for (number, part) in (1..).zip(&parts) {
        let body = ByteStream::from(part.clone());
        let sent = client.upload_part().bucket(BUCKET).key(KEY).upload_id(id).part_number(number).body(body);
        let etag = sent.send().await.unwrap().e_tag.unwrap();
        done = done.parts(CompletedPart::builder().part_number(number).e_tag(etag).build());
    }
    let complete = client.complete_multipart_upload().bucket(BUCKET).key(KEY).upload_id(id);
    complete.multipart_upload(done.build()).send().await.unwrap();
    assert_eq!(read(&client, KEY).await, parts.concat());
    let again = client.abort_multipart_upload().bucket(BUCKET).key(KEY).upload_id(id).send().await;
    assert_eq!(again.unwrap_err().code(), Some("NoSuchUpload"));
}

#[tokio::test]
async fn keys_that_would_leave_the_bucket_and_unknown_buckets_are_refused() {
    let store = Store::start().await;
    let client = store.client(SECRET_KEY);
    for key in ["a//b", "a/./b", "a/../../b", "a/"] {
        let refused = client.put_object().bucket(BUCKET).key(key).send().await;
        assert!(refused.is_err(), "{key}");
    }
    let nowhere = client.put_object().bucket("nowhere").key(KEY).send().await.unwrap_err();
    assert_eq!(nowhere.code(), Some("NoSuchBucket"));
}
