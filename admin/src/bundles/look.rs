//! What is in an archive, by the author's rules: whatever installs it gets every mistake shown.

use bytes::Bytes;
use longshore_bundle::ArchiveLimits;
use longshore_bundle::archive::UnpackError;
use longshore_bundle::author::{Severity, review};
use longshore_proto::ContentHash;
use longshore_proto::manifest::Manifest;

use super::Bundles;
use super::spool::Spooled;
use crate::api::ApiCode;
use crate::http::Failure;

/// Problems that one answer lists.
const MAX_SHOWN: usize = 50;

/// Bytes of manifests that are remembered.
const REMEMBERED: u64 = 16 << 20;

/// A valid bundle.
#[derive(Debug, Clone)]
pub struct Looked {
    /// Its manifest.
    pub manifest: Manifest,
    /// The manifest as it is in the archive.
    pub manifest_json: Bytes,
    /// Whether it has a component.
    pub has_component: bool,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

impl Looked {
    /// The manifest as JSON; it was read before, so it is some.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.manifest_json).unwrap_or_default()
    }
}

impl Bundles {
    /// Looks into an archive, one at a time. The same bytes are looked at once.
    pub(super) async fn look(&self, spooled: &Spooled) -> Result<Looked, Failure> {
        if let Some(looked) = self.looked.get(&spooled.hash).await {
            return Ok(looked);
        }
        let _turn = self.looks.acquire().await.map_err(|error| Failure::internal(&error))?;
        let path = spooled.path().to_owned();
        let work = tokio::task::spawn_blocking(move || {
            let archive =
                std::fs::read(&path).map_err(|e| Failure::unavailable("the temporary folder", &e))?;
            look(&archive)
        });
        let looked = work.await.map_err(|error| Failure::internal(&error))??;
        self.looked.insert(spooled.hash, looked.clone()).await;
        Ok(looked)
    }
}

/// Remembers what archives were found to be; each counts with its manifest as text, as read and with its warnings.
pub(super) fn cache() -> moka::future::Cache<ContentHash, Looked> {
    let weigher = |_: &ContentHash, looked: &Looked| {
        let warnings: usize = looked.warnings.iter().map(String::len).sum();
        u32::try_from(4 * looked.manifest_json.len() + warnings).unwrap_or(u32::MAX)
    };
    moka::future::Cache::builder().max_capacity(REMEMBERED).weigher(weigher).build()
}

fn look(archive: &[u8]) -> Result<Looked, Failure> {
    let invalid = |message: String| Failure::new(ApiCode::InvalidBundle, message);
    let reviewed = match review(archive, &ArchiveLimits::default()) {
        Ok(reviewed) => reviewed,
        Err(UnpackError::Refused(reason)) => {
            return Err(invalid(format!(
                "the archive is refused: {}",
                longshore_service::errors::chain(&reason)
            )));
        }
        Err(error @ UnpackError::Io(_)) => return Err(Failure::internal(&error)),
    };
    let shown = |severity: Severity| {
        let of_it = reviewed.problems.iter().filter(move |problem| problem.severity == severity);
        of_it.take(MAX_SHOWN).map(ToString::to_string)
    };
    let Some(manifest) = reviewed.manifest.clone() else {
        let errors: Vec<String> = shown(Severity::Error).collect();
        return Err(invalid(format!("the bundle cannot be used: {}", errors.join("; "))));
    };
    let mut warnings: Vec<String> = shown(Severity::Warning).collect();
    let (hidden, links) = (reviewed.report.hidden, reviewed.report.links);
    if hidden > 0 || links > 0 {
        warnings
            .push(format!("{hidden} hidden entries and {links} links are in the archive and are skipped"));
    }
    Ok(Looked {
        manifest,
        manifest_json: reviewed.manifest_json.into(),
        has_component: reviewed.component.is_some(),
        warnings,
    })
}

#[cfg(test)]
mod tests {
    use longshore_bundle::archive::pack_files;

    use super::*;

    #[test]
    fn every_mistake_is_in_the_answer() {
        let manifest =
            r#"{"name":"a.b","version":"one","nonsense":1,"ui":{"type":"iframe","entry":"ui/index.html"}}"#;
        let archive = pack_files([("manifest.json", manifest)], 3).unwrap();
        let failure = look(&archive).unwrap_err();
        assert_eq!(failure.code, ApiCode::InvalidBundle);
        for part in ["version", "nonsense"] {
            assert!(failure.message.contains(part), "{part}: {}", failure.message);
        }
    }

    #[test]
    fn what_is_no_archive_is_refused_in_words() {
        for bytes in [&b""[..], b"PK\x03\x04", &[0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0]] {
            let failure = look(bytes).unwrap_err();
            assert_eq!(failure.code, ApiCode::InvalidBundle, "{}", failure.message);
        }
    }
}
