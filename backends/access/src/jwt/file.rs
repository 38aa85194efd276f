//! The file with the keys, read again when it has changed.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longshore_service::errors::chain;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::JwtError;
use super::keys::{Keys, MAX_FILE_BYTES};

/// How often the file is looked at, at most. An issuer publishes a new key long before it signs with it.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// By what a file is known to be another: a mounted secret is swapped by a link to a new file, with a time that may even be older.
type Stamp = (Option<SystemTime>, u64, u64);

pub(super) struct KeyFile {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    keys: Arc<Keys>,
    stamp: Option<Stamp>,
    looked: Instant,
    /// The trouble that was told last, so that it is told once and not each ten seconds.
    told: Option<String>,
}

impl KeyFile {
    pub(super) async fn open(path: PathBuf) -> Result<Self, JwtError> {
        let from = path.clone();
        let (stamp, keys) = on_blocking_thread(move || {
            let stamp = stamp(&from).map_err(|source| JwtError::Read { path: from.clone(), source })?;
            Ok((stamp, Arc::new(read(&from)?)))
        })
        .await?;
        tracing::info!(path = %path.display(), keys = keys.len(), "the issuer's keys are read");
        let state = State { keys, stamp: Some(stamp), looked: Instant::now(), told: None };
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// The keys in force. Who comes when it is time looks at the file, and the others go on with the keys there are.
    pub(super) async fn keys(&self) -> Arc<Keys> {
        let (keys, known) = {
            let mut state = self.state.lock();
            if state.looked.elapsed() < LOOK_AGAIN {
                return state.keys.clone();
            }
            state.looked = Instant::now();
            (state.keys.clone(), state.stamp)
        };
        let path = self.path.clone();
        let looked = on_blocking_thread(move || {
            // Before it is read: a change in between is then seen the next time.
            let stamp = stamp(&path).map_err(|source| JwtError::Read { path: path.clone(), source })?;
            if known == Some(stamp) { Ok(None) } else { Ok(Some((stamp, Arc::new(read(&path)?)))) }
        })
        .await;
        match looked {
            Ok(None) => keys,
            Ok(Some((stamp, keys))) => {
                tracing::info!(path = %self.path.display(), keys = keys.len(), "the issuer's keys have changed");
                let mut state = self.state.lock();
                (state.keys, state.stamp, state.told) = (keys.clone(), Some(stamp), None);
                keys
            }
            Err(error) => {
                // The keys stay: a file that is being replaced, or a mistake in it, must not lock everybody out. It is read again each time.
                let text = chain(&error).to_string();
                let mut state = self.state.lock();
                state.stamp = None;
                if state.told.as_ref() != Some(&text) {
                    tracing::error!(error = text, "the issuer's keys stay as they were");
                    state.told = Some(text);
                }
                keys
            }
        }
    }
}

async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JwtError> + Send + 'static,
) -> Result<T, JwtError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The runtime is ending, or the work panicked, which it cannot.
        Err(error) => Err(JwtError::Read { path: PathBuf::new(), source: std::io::Error::other(error) }),
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path)?;
    Ok((meta.modified().ok(), meta.len(), meta.ino()))
}

fn read(path: &Path) -> Result<Keys, JwtError> {
    let failed = |source| JwtError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        // A pipe would wait for somebody to write into it.
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut bytes = Vec::new();
    // One byte more than is taken, so that a file that is too large is told from one that just fits.
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Keys::parse(&bytes).map_err(|source| JwtError::Keys { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeysError;

    fn set(kids: &[&str]) -> String {
        let keys: Vec<_> = kids
            .iter()
            .map(|kid| {
                let x = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
                serde_json::json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
            })
            .collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_again_after_ten_seconds_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, set(&["a"])).unwrap();
        let file = KeyFile::open(path.clone()).await.unwrap();
        std::fs::write(&path, set(&["a", "b"])).unwrap();
        assert_eq!(file.keys().await.len(), 1, "not before it is time");
        tokio::time::advance(LOOK_AGAIN).await;
        assert_eq!(file.keys().await.len(), 2);
        for broken in [Some("{"), None] {
            match broken {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            tokio::time::advance(LOOK_AGAIN).await;
            assert_eq!(file.keys().await.len(), 2, "{broken:?}");
        }
        // A key that the issuer took back is gone.
        std::fs::write(&path, set(&["b"])).unwrap();
        tokio::time::advance(LOOK_AGAIN).await;
        let keys = file.keys().await;
        assert!(keys.get("a").is_none() && keys.get("b").is_some());
    }

    #[tokio::test]
    async fn without_keys_there_is_nothing_to_start_with() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.json");
        assert!(matches!(KeyFile::open(missing).await, Err(JwtError::Read { .. })));
        assert!(matches!(KeyFile::open(folder.path().to_owned()).await, Err(JwtError::Read { .. })));
        let broken = folder.path().join("broken.json");
        std::fs::write(&broken, vec![b' '; MAX_FILE_BYTES + 1]).unwrap();
        let error = KeyFile::open(broken).await.err().unwrap();
        assert!(matches!(error, JwtError::Keys { source: KeysError::TooLarge, .. }), "{error:?}");
    }
}
