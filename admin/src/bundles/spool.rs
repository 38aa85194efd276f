//! An archive on its way: to a temporary file, bounded and hashed as it comes.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use longshore_bundle::Opened;
use longshore_proto::ContentHash;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio_util::io::ReaderStream;

use crate::api::{ApiCode, MAX_ARCHIVE_BYTES};
use crate::http::Failure;

/// How long the next part may take.
const IDLE: Duration = Duration::from_secs(30);

/// How much is written at a time.
const BLOCK: usize = 1 << 20;

/// A received archive; gone with this value.
pub struct Spooled {
    file: NamedTempFile,
    /// Its bytes.
    pub size: u64,
    /// Their hash.
    pub hash: ContentHash,
}

fn disk(error: &std::io::Error) -> Failure {
    Failure::unavailable("the temporary folder of the admin service", error)
}

impl Spooled {
    /// Receives one.
    pub async fn receive<E: std::fmt::Display>(
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Self, Failure> {
        let mut file = NamedTempFile::with_prefix("longshore-bundle-").map_err(|e| disk(&e))?;
        let (mut hasher, mut size, mut block) = (Sha256::new(), 0_u64, Vec::with_capacity(BLOCK));
        tokio::pin!(body);
        loop {
            let next = tokio::time::timeout(IDLE, body.next());
            let part = match next.await {
                Ok(Some(Ok(part))) => Some(part),
                Ok(None) => None,
                Ok(Some(Err(_))) => return Err(Failure::invalid("the archive ended early: send it again")),
                Err(_) => {
                    let message = format!("no byte of the archive came for {} s", IDLE.as_secs());
                    return Err(Failure::new(ApiCode::Timeout, message));
                }
            };
            let last = part.is_none();
            if let Some(part) = part {
                size = size.saturating_add(part.len() as u64);
                if size > MAX_ARCHIVE_BYTES {
                    let message = format!("an archive has at most {MAX_ARCHIVE_BYTES} bytes (200 MiB)");
                    return Err(Failure::new(ApiCode::TooLarge, message));
                }
                block.extend_from_slice(&part);
            }
            if block.len() >= BLOCK || last {
                // Hashing a megabyte takes a millisecond, which is too long between two turns of everybody else.
                let work = tokio::task::spawn_blocking(move || {
                    hasher.update(&block);
                    let written = file.write_all(&block);
                    block.clear();
                    (file, hasher, block, written)
                });
                let written;
                (file, hasher, block, written) = work.await.map_err(|error| Failure::internal(&error))?;
                written.map_err(|error| disk(&error))?;
            }
            if last {
                let hash = ContentHash::from_bytes(hasher.finalize().into());
                return Ok(Self { file, size, hash });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// An opened object as a body.
pub fn chunks(opened: Opened) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    ReaderStream::with_capacity(opened.body, 128 << 10)
}

#[cfg(test)]
mod tests {
    use longshore_bundle::archive::content_hash;

    use super::*;

    async fn receive(parts: Vec<Result<Bytes, String>>) -> Result<Spooled, Failure> {
        Spooled::receive(futures::stream::iter(parts)).await
    }

    #[tokio::test]
    async fn what_comes_in_parts_is_one_file_with_its_hash_and_leaves_nothing_behind() {
        let bytes = vec![7; 3 << 20];
        let parts = bytes.chunks(700_001).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        let spooled = receive(parts).await.unwrap();
        assert_eq!((spooled.size, spooled.hash), (3 << 20, content_hash(&bytes)));
        assert_eq!(std::fs::read(spooled.path()).unwrap(), bytes);
        let path = spooled.path().to_owned();
        drop(spooled);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_or_never_ends_is_refused() {
        let broken = receive(vec![Ok(Bytes::from_static(b"x")), Err("reset".to_owned())]).await;
        assert_eq!(broken.err().unwrap().code, ApiCode::InvalidRequest);
        let endless = futures::stream::repeat(Bytes::from(vec![0; 8 << 20])).map(Ok::<_, String>);
        assert_eq!(Spooled::receive(endless).await.err().unwrap().code, ApiCode::TooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_sender_is_not_waited_for_for_ever() {
        let silent = futures::stream::pending::<Result<Bytes, String>>();
        assert_eq!(Spooled::receive(silent).await.err().unwrap().code, ApiCode::Timeout);
    }
}
