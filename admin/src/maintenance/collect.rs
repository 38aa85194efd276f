//! The collection: bundles that no install refers to, what an upload left half done, recordings that are too old.
//!
//! An object goes only if the store says how old it is and it is older than the retention, and, for a bundle, if the registry itself (not what
//! this process has heard) says that no install of the tenant and extension runs it or may roll back to it. A record that cannot be
//! read, or a registry that does not answer, keeps everything; and so does a registry that has no install of the tenant at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longshore_bundle::BundleKey;
use longshore_bundle::store::ObjectInfo;
use longshore_proto::TenantId;
use longshore_registry::{AuditKind, InstallsError};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::objects::count;
use crate::api::{ApiCode, GcResponse, Removed};
use crate::app::Parts;
use crate::bundles::{Kind, found, store_failed};
use crate::http::{Actor, Failure};
use crate::ledger::event;

/// Keys that an answer lists.
const MAX_KEYS: usize = 1000;

/// Objects that one collection removes; the next one goes on.
const MAX_REMOVED: usize = 100_000;

/// What an upload that is still going on has written is younger than this.
const STAGING: Duration = Duration::from_secs(86_400);

/// What is looked at.
const PREFIXES: [&str; 4] = ["tenants/", "artifacts/", "payloads/", "traces/"];

/// What is kept for how long.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Everything but staging and payloads of recorded runs.
    pub keep: Duration,
    /// Payloads of recorded runs, from their last use on: after that no trace is left that names them.
    pub traces: Duration,
}

/// Why an object goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// Nothing refers to it whatever the registry says.
    Old,
    /// If no install refers to this bundle.
    Unused(BundleKey),
}

fn verdict(object: &ObjectInfo, now: SystemTime, retention: &Retention) -> Verdict {
    let age = object.modified.and_then(|modified| now.duration_since(modified).ok());
    let older = |than: Duration| age.is_some_and(|age| age > than);
    if let Some(bundle) = found(&object.key) {
        let known = bundle.kind != Kind::Other;
        return if known && older(retention.keep) { Verdict::Unused(bundle.key) } else { Verdict::Keep };
    }
    let key = object.key.as_str();
    let name = key.rsplit('/').next().unwrap_or_default();
    let staging = key.contains("/_staging/") || name.starts_with(".put-");
    let kept = if key.starts_with("traces/") { retention.traces } else { retention.keep };
    let recorded = PREFIXES.iter().any(|prefix| *prefix != "tenants/" && key.starts_with(prefix));
    if (staging && older(STAGING)) || (recorded && older(kept)) { Verdict::Old } else { Verdict::Keep }
}

impl Parts {
    /// Collects, or says what it would.
    ///
    /// # Errors
    /// Another one is going on; the store cannot be listed; the audit stream does not take it.
    pub async fn collect(&self, dry_run: bool, actor: &Actor) -> Result<GcResponse, Failure> {
        let Ok(_collecting) = self.collecting.try_lock() else {
            return Err(Failure::new(
                ApiCode::Conflict,
                "a collection is going on: try again when it has ended",
            ));
        };
        let mut answer = GcResponse {
            dry_run,
            removed: Removed::default(),
            keys: Vec::new(),
            more: 0,
            seen: 0,
            left: Vec::new(),
        };
        let mut candidates = Vec::new();
        let mut known: HashMap<BundleKey, bool> = HashMap::new();
        let mut ours: HashMap<TenantId, bool> = HashMap::new();
        for (object, bundle) in self.candidates(&mut answer).await? {
            // Asked once a bundle here, so that only what will be done is recorded; and again when it is done.
            if let Some(key) = &bundle {
                let ours = match ours.get(&key.tenant) {
                    Some(ours) => *ours,
                    None => {
                        let has = self.has_installs(&key.tenant)?;
                        ours.insert(key.tenant.clone(), has);
                        has
                    }
                };
                if !ours {
                    continue;
                }
                let kept = match known.get(key) {
                    Some(kept) => *kept,
                    None => {
                        let kept = self.is_used(key).await? || self.archive_is_young(key).await?;
                        known.insert(key.clone(), kept);
                        kept
                    }
                };
                if kept {
                    continue;
                }
            }
            candidates.push((object, bundle));
        }
        if candidates.is_empty() {
            return Ok(answer);
        }
        if !dry_run {
            let keys: Vec<&str> =
                candidates.iter().map(|(object, _)| object.key.as_str()).take(100).collect();
            let details = json!({ "objects": candidates.len(), "keys": keys });
            self.ledger.record(event(AuditKind::GcRan, actor).details(details)).await?;
        }
        for (object, bundle) in candidates {
            if let Err(failure) = self.take(&object, bundle.as_ref(), &mut answer).await {
                tracing::warn!(key = %object.key, cause = failure.cause.as_deref(), "an object could not be collected");
                if answer.left.len() < MAX_KEYS {
                    answer.left.push(format!("{}: {}", object.key, failure.message));
                }
            }
        }
        Ok(answer)
    }

    /// What is old enough, and what of that the registry has to be asked about.
    async fn candidates(
        &self,
        answer: &mut GcResponse,
    ) -> Result<Vec<(ObjectInfo, Option<BundleKey>)>, Failure> {
        let now = SystemTime::now();
        let mut candidates = Vec::new();
        for prefix in PREFIXES {
            let mut after = None;
            loop {
                let listed = self.bundles.store().list_objects(prefix, after.as_deref()).await;
                let page = listed.map_err(|error| store_failed(&error))?;
                for object in page.objects {
                    answer.seen += 1;
                    if candidates.len() >= MAX_REMOVED {
                        return Ok(candidates);
                    }
                    match verdict(&object, now, &self.retention) {
                        Verdict::Keep => {}
                        Verdict::Old => candidates.push((object, None)),
                        Verdict::Unused(key) => candidates.push((object, Some(key))),
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(candidates)
    }

    async fn take(
        &self,
        object: &ObjectInfo,
        bundle: Option<&BundleKey>,
        answer: &mut GcResponse,
    ) -> Result<(), Failure> {
        // Nothing is installed between the question and the removal.
        let _changing = self.changing.lock().await;
        if let Some(key) = bundle.filter(|_| !answer.dry_run)
            && (self.is_used(key).await? || self.archive_is_young(key).await?)
        {
            return Ok(());
        }
        if !answer.dry_run {
            self.bundles.store().delete_object(&object.key).await.map_err(|error| store_failed(&error))?;
        }
        count(object, &mut answer.removed);
        if answer.keys.len() < MAX_KEYS {
            answer.keys.push(object.key.to_string());
        } else {
            answer.more += 1;
        }
        Ok(())
    }

    /// Whether an install runs a bundle or may roll back to it, by the registry's own word.
    pub(crate) async fn is_used(&self, key: &BundleKey) -> Result<bool, Failure> {
        match self.installs.get(&key.tenant, &key.extension).await {
            Ok(install) => Ok(install.version.content_hash == key.hash
                || install.previous.iter().any(|earlier| earlier.content_hash == key.hash)),
            Err(InstallsError::NotFound { .. }) => Ok(false),
            // It may refer to anything.
            Err(InstallsError::Damaged(_)) => Ok(true),
            Err(error) => Err(crate::installs::registry_failed(&error)),
        }
    }

    /// Whether this registry is the one that knows who uses the tenant's bundles. A tenant without a single install here may be another
    /// platform's, which calls by `/v1/execute` and shares the store, or the registry may have been lost: what it does not say then proves
    /// nothing. Who has left is purged.
    fn has_installs(&self, tenant: &TenantId) -> Result<bool, Failure> {
        let page = self.installs.list(Some(tenant), None, 1);
        Ok(!page.map_err(|error| crate::installs::registry_failed(&error))?.installs.is_empty())
    }

    /// A young archive keeps what is beside it: a signature may have been there long before.
    async fn archive_is_young(&self, key: &BundleKey) -> Result<bool, Failure> {
        let archive = key.object_key();
        let page = self.bundles.store().list_objects(archive.as_str(), None).await;
        let page = page.map_err(|error| store_failed(&error))?;
        let Some(found) = page.objects.iter().find(|object| object.key == archive) else { return Ok(false) };
        Ok(verdict(found, SystemTime::now(), &self.retention) == Verdict::Keep)
    }
}

/// Collects once each `interval` until `stop`.
pub async fn run_daily(app: Arc<Parts>, interval: Duration, stop: CancellationToken) {
    let actor = Actor("the admin service's own clock".to_owned());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        match app.collect(false, &actor).await {
            Ok(done) => {
                tracing::info!(seen = done.seen, removed = ?done.removed, left = done.left.len(), "collection done");
            }
            Err(failure) => {
                let cause = failure.cause.as_deref();
                tracing::warn!(
                    code = failure.code.as_str(),
                    cause,
                    "the collection did not run; it is tried again"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_bundle::ObjectKey;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(key: &str, age: Option<Duration>) -> Verdict {
        let now = SystemTime::now();
        let object =
            ObjectInfo { key: ObjectKey::new(key).unwrap(), size: 1, modified: age.map(|age| now - age) };
        verdict(&object, now, &Retention { keep: 30 * DAY, traces: 7 * DAY })
    }

    #[test]
    fn only_what_is_old_enough_is_looked_at_further() {
        let bundle = format!("tenants/t/extensions/e/sha256/{}/", "ab".repeat(32));
        for name in ["bundle.tar.zst", "manifest.json", "bundle.sig"] {
            let key = format!("{bundle}{name}");
            assert!(matches!(at(&key, Some(31 * DAY)), Verdict::Unused(_)), "{key}");
            assert_eq!(at(&key, Some(29 * DAY)), Verdict::Keep, "{key}");
            assert_eq!(at(&key, None), Verdict::Keep, "the store does not say how old {key} is");
        }
        assert_eq!(at(&format!("{bundle}notes.txt"), Some(400 * DAY)), Verdict::Keep, "not ours");
    }

    #[test]
    fn leftovers_of_uploads_go_after_a_day_and_recordings_after_the_retention() {
        for key in [
            "tenants/t/_staging/1/bundle.tar.zst",
            "tenants/t/extensions/e/sha256/_staging/u/x",
            "tenants/t/.put-00",
        ] {
            assert_eq!(at(key, Some(2 * DAY)), Verdict::Old, "{key}");
            assert_eq!(at(key, Some(DAY / 2)), Verdict::Keep, "{key}");
        }
        assert_eq!(at("traces/t/payloads/x", Some(8 * DAY)), Verdict::Old, "its trace has expired");
        assert_eq!(at("traces/t/payloads/x", Some(6 * DAY)), Verdict::Keep);
        for key in ["payloads/t/x", "artifacts/f/x", "traces/t/x"] {
            assert_eq!(at(key, Some(31 * DAY)), Verdict::Old, "{key}");
            assert_eq!(at(key, Some(2 * DAY)), Verdict::Keep, "{key}");
        }
        for key in ["tenants/t/notes", "sha256/x", "other/x"] {
            assert_eq!(at(key, Some(400 * DAY)), Verdict::Keep, "{key} is not ours");
        }
    }
}
