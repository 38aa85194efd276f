//! The bundle store, and whether a bundle is at its key with the hash that its install names: `extract_failed` and `archive_hash_mismatch`.

use std::time::Duration;

use longshore_bundle::author::list;
use longshore_bundle::{ArchiveLimits, BundleKey, BundleStore, Opened, StoreConfig, StoreError};
use longshore_proto::ContentHash;
use longshore_service::errors::chain;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use super::finding::Finding;

/// What the programs give a store for a small question.
const LIMIT: Duration = Duration::from_secs(10);
/// 200 MiB over a slow line.
const READ_LIMIT: Duration = Duration::from_secs(120);
/// What workers fetch at most.
const MAX_BYTES: u64 = 200 << 20;

/// Whether the store answers, and its bucket is there.
pub async fn store(store: &dyn BundleStore) -> Finding {
    match tokio::time::timeout(LIMIT, store.probe()).await {
        Ok(Ok(())) => Finding::ok("store", store.describe()),
        Ok(Err(error)) => judge(store, &error),
        Err(_) => Finding::wrong(
            "store",
            "store_unreachable",
            format!("{}: no answer", store.describe()),
            UNREACHABLE,
        ),
    }
}

/// What the guide calls "error sending request for url".
const UNREACHABLE: &str = "start it (`longshore dev`, `docker compose up minio`), or correct BUNDLE_STORE_BASE; from a container the host is host.docker.internal";

fn judge(store: &dyn BundleStore, error: &StoreError) -> Finding {
    let message = format!("{}: {}", store.describe(), chain(error));
    match error {
        StoreError::NotFound => {
            Finding::wrong("store", "no_bucket", message, "make the bucket, or correct BUNDLE_STORE_BASE")
        }
        StoreError::Refused { code, .. } if code.starts_with("NoSuchBucket") => Finding::wrong(
            "store",
            "no_bucket",
            message,
            "make the bucket: `mc mb STORE/extensions`; `longshore dev` and compose make it themselves",
        ),
        StoreError::Refused { status: 401 | 403, .. } => Finding::wrong(
            "store",
            "store_refused",
            message,
            "S3_ACCESS_KEY and S3_SECRET_KEY must be the store's; a clock that is off by minutes is refused too",
        ),
        StoreError::Refused { .. } => {
            Finding::wrong("store", "store_refused", message, "the store's own log says why")
        }
        StoreError::Unreachable { .. } => Finding::wrong("store", "store_unreachable", message, UNREACHABLE),
        StoreError::Folder { .. } => {
            Finding::wrong("store", "no_bucket", message, "make the folder, and let the programs read it")
        }
    }
}

/// The store that is configured.
///
/// # Errors
/// What is wrong with the variables.
pub fn open(config: &StoreConfig) -> Result<std::sync::Arc<dyn BundleStore>, Finding> {
    config.open().map_err(|error| {
        Finding::wrong(
            "store",
            "store_settings",
            chain(&error).to_string(),
            "correct the variable; `worker --help` says what is expected",
        )
    })
}

/// Whether a bundle is at its key, has its hash, and can be unpacked: who uploads by hand may upload anything.
pub async fn bundle(store: &dyn BundleStore, key: &BundleKey) -> Finding {
    let url = store.url(&key.object_key());
    let reading = async {
        let opened = store.open(key).await?;
        Ok::<_, StoreError>(look(opened).await)
    };
    match tokio::time::timeout(READ_LIMIT, reading).await {
        Ok(Ok(Ok(Looked { hash, size, refused: None }))) if hash == key.hash => {
            Finding::ok("bundle", format!("{url} ({}), its hash is right", crate::output::bytes(size)))
        }
        Ok(Ok(Ok(Looked { hash, refused: Some(why), .. }))) if hash == key.hash => Finding::wrong(
            "bundle",
            "extract_failed",
            format!("{url} has its hash, and cannot be unpacked: {why}"),
            "it was broken before it was uploaded: pack and install it again, `longshore install DIR`",
        ),
        Ok(Ok(Ok(Looked { hash, .. }))) => Finding::wrong(
            "bundle",
            "archive_hash_mismatch",
            format!("{url} has the hash {hash}, and its install names {}", key.hash),
            "what is stored is another bundle, or damaged: install the one that is meant again, `longshore install BUNDLE`",
        ),
        Ok(Ok(Err(error))) => Finding::wrong(
            "bundle",
            "extract_failed",
            format!("{url} breaks off: {error}"),
            "see the store's line",
        ),
        Ok(Err(StoreError::NotFound)) => Finding::wrong(
            "bundle",
            "extract_failed",
            format!("there is nothing at {url}"),
            "upload it: `longshore install BUNDLE` does; by hand the key is tenants/{tenant}/extensions/{id}/sha256/{hash}/bundle.tar.zst",
        ),
        Ok(Err(error)) => judge(store, &error),
        Err(_) => Finding::wrong(
            "bundle",
            "extract_failed",
            format!("{url} was not read in {} s", READ_LIMIT.as_secs()),
            "see the store's line",
        ),
    }
}

/// What an object is.
struct Looked {
    hash: ContentHash,
    size: u64,
    /// Why it is no bundle.
    refused: Option<String>,
}

/// Reads an object once, through a file that has no name: it may be 200 MiB.
async fn look(opened: Opened) -> std::io::Result<Looked> {
    let mut reader = opened.body.take(MAX_BYTES + 1);
    let mut file = tokio::fs::File::from_std(tempfile::tempfile()?);
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        let read = reader.read(&mut buffer).await?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        hasher.update(part);
        file.write_all(part).await?;
        size += part.len() as u64;
    }
    if size > MAX_BYTES {
        return Err(std::io::Error::other("it is over 200 MiB"));
    }
    file.rewind().await?;
    let file = file.into_std().await;
    let listing =
        tokio::task::spawn_blocking(move || list(std::io::BufReader::new(file), &ArchiveLimits::default()));
    let refused = match listing.await.map_err(std::io::Error::other)? {
        Ok((entries, _)) if entries.iter().any(|entry| entry.path == "manifest.json") => None,
        Ok(_) => Some("it has no manifest.json".to_owned()),
        Err(error) => Some(chain(&error).to_string()),
    };
    let digest: [u8; 32] = hasher.finalize().into();
    Ok(Looked { hash: ContentHash::from_bytes(digest), size, refused })
}

/// Whether the signature beside it is there; what it is worth, gateways and workers decide with their keys.
pub async fn signature(store: &dyn BundleStore, key: &BundleKey, signed_by: Option<&str>) -> Finding {
    let there = tokio::time::timeout(LIMIT, store.exists_object(&key.signature_key())).await;
    match (there, signed_by) {
        (Ok(Ok(true)), Some(signer)) => Finding::ok("signature", format!("by {signer}")),
        (Ok(Ok(true)), None) => Finding::warning(
            "signature",
            "signature_unknown",
            "there is one that nobody verified when it was installed",
            "`longshore verify BUNDLE` says what it is worth; install it again where SIGNING_TRUST_BUNDLE is set",
        ),
        (Ok(Ok(false)), _) => Finding::warning(
            "signature",
            "unsigned",
            "none: fleets with LONGSHORE_SIGNATURE_POLICY=require refuse the bundle",
            "`longshore sign BUNDLE --key FILE`, then install it again",
        ),
        (Ok(Err(_)) | Err(_), _) => Finding::skipped("signature", "the store did not answer"),
    }
}

#[cfg(test)]
mod tests {
    use longshore_bundle::Content;
    use longshore_bundle::store::DirStore;

    use super::super::finding::State;
    use super::*;

    fn key(content: &[u8]) -> BundleKey {
        BundleKey {
            tenant: "t-1".parse().unwrap(),
            extension: "e-1".parse().unwrap(),
            hash: longshore_bundle::archive::content_hash(content),
        }
    }

    #[tokio::test]
    async fn a_bundle_at_its_key_with_its_hash_is_ok() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DirStore::new(dir.path());
        let archive = longshore_bundle::archive::pack_files([("manifest.json", "{}")], 3).unwrap();
        folder.put(&key(&archive), Content::Bytes(archive.clone().into())).await.unwrap();
        let finding = bundle(&folder, &key(&archive)).await;
        assert_eq!(finding.state, State::Ok, "{}", finding.message);
        assert_eq!(store(&folder).await.state, State::Ok);
        assert_eq!(signature(&folder, &key(&archive), None).await.code, "unsigned");
    }

    #[tokio::test]
    async fn what_has_its_hash_and_is_no_bundle_cannot_be_extracted() {
        let other = longshore_bundle::archive::pack_files([("readme.txt", "x")], 3).unwrap();
        for bytes in [b"bundle", &b"PK\x03\x04"[..], b"", &other] {
            let dir = tempfile::tempdir().unwrap();
            let folder = DirStore::new(dir.path());
            folder.put(&key(bytes), Content::Bytes(bytes.to_vec().into())).await.unwrap();
            let finding = bundle(&folder, &key(bytes)).await;
            assert_eq!(
                (finding.state, finding.code),
                (State::Wrong, "extract_failed"),
                "{}",
                finding.message
            );
        }
    }

    #[tokio::test]
    async fn another_bundle_at_the_key_is_a_hash_mismatch_that_names_both_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DirStore::new(dir.path());
        folder.put(&key(b"bundle"), Content::Bytes("damaged".into())).await.unwrap();
        let finding = bundle(&folder, &key(b"bundle")).await;
        assert_eq!(finding.code, "archive_hash_mismatch");
        for hash in [key(b"bundle").hash, key(b"damaged").hash] {
            assert!(finding.message.contains(&hash.to_string()), "{}", finding.message);
        }
    }

    #[tokio::test]
    async fn nothing_at_the_key_is_what_the_guide_calls_extract_failed() {
        let dir = tempfile::tempdir().unwrap();
        let finding = bundle(&DirStore::new(dir.path()), &key(b"bundle")).await;
        assert_eq!(finding.code, "extract_failed");
        assert!(finding.message.contains("tenants/t-1/extensions/e-1/sha256/"), "{}", finding.message);
    }

    #[tokio::test]
    async fn a_folder_without_the_bucket_and_a_closed_port_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let missing = store(&DirStore::new(dir.path().join("extensions"))).await;
        assert_eq!((missing.code, missing.state), ("no_bucket", State::Wrong));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = StoreConfig { base: format!("http://{free}/extensions"), ..StoreConfig::default() };
        let finding = store(&*open(&config).unwrap()).await;
        assert_eq!(finding.code, "store_unreachable", "{}", finding.message);
    }

    #[test]
    fn a_store_that_refuses_is_told_by_its_reason() {
        let folder = DirStore::new("/x");
        let code =
            |status, code: &str| judge(&folder, &StoreError::Refused { status, code: code.into() }).code;
        assert_eq!(code(404, "NoSuchBucket extensions"), "no_bucket");
        assert_eq!(code(403, "InvalidAccessKeyId"), "store_refused");
        let bad = StoreConfig { base: "extensions".into(), ..StoreConfig::default() };
        assert_eq!(open(&bad).map(|_| ()).unwrap_err().code, "store_settings");
    }
}
