//! Recorded runs: switching recording on and off, and reading what was recorded. Every reading is audited before anything is answered.

use bytes::Bytes;
use longshore_bundle::BundleKey;
use longshore_proto::install::Recording;
use longshore_proto::{ContentHash, ExecutionId, TenantId};
use longshore_registry::AuditKind;
use longshore_trace::file::Exported;
use longshore_trace::payloads::{self, PayloadError};
use longshore_trace::store::{Filter, TraceStore, TraceStoreError};
use longshore_trace::{Packed, Trace};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::api::{
    ApiCode, InstallView, MAX_ARCHIVE_BYTES, MAX_MOMENT_MS, MAX_RECORDING_MS, RecordingRequest,
    TraceImported, TraceList, TracesQuery,
};
use crate::app::Parts;
use crate::bundles::limit;
use crate::http::{Actor, Failure};
use crate::installs::{now_ms, registry_failed, view};
use crate::ledger::event;

impl Parts {
    /// Switches recording of an install on, or off.
    ///
    /// # Errors
    /// There is no such install, or a value is outside its range.
    pub async fn record(
        &self,
        tenant: &TenantId,
        reference: &str,
        request: Option<&RecordingRequest>,
        actor: &Actor,
    ) -> Result<InstallView, Failure> {
        let recording = request.map(|request| checked(request, actor)).transpose()?;
        let extension = self.find(tenant, reference)?.extension.clone();
        let changing = self.changing.lock().await;
        let before = self.installs.get(tenant, &extension).await.map_err(|e| registry_failed(&e))?;
        let mut wanted = before.clone();
        wanted.recording = recording;
        let change = self.put(Some(before), wanted, actor).await?;
        drop(changing);
        Ok(view(&change.install))
    }

    /// A page of a tenant's recorded runs.
    ///
    /// # Errors
    /// A value of the query is none, the audit cannot be written, or Redis fails.
    pub async fn list_traces(
        &self,
        tenant: &TenantId,
        query: TracesQuery,
        actor: &Actor,
    ) -> Result<TraceList, Failure> {
        let most = limit(query.limit)?;
        let cursor = query.cursor.as_deref().map(str::parse).transpose();
        let cursor = cursor.map_err(|_: TraceStoreError| {
            Failure::invalid("cursor is not what `next` of a page of this list said")
        })?;
        let filter = Filter {
            extension: query.extension,
            since_ms: moment("since_ms", query.since_ms)?,
            until_ms: moment("until_ms", query.until_ms)?,
            request_id: text("request_id", query.request_id, 256)?,
            outcome: text("outcome", query.outcome, 64)?,
            failed: query.failed,
            content_hash: query.content_hash,
        };
        self.audited(AuditKind::TraceRead, tenant, None, "list", actor).await?;
        let page = self.trace_store()?.list(tenant, &filter, cursor.as_ref(), most).await;
        let page = page.map_err(|error| failed(&error))?;
        Ok(TraceList { traces: page.traces, next: page.next.map(|cursor| cursor.to_string()) })
    }

    /// A packed trace, proven.
    ///
    /// # Errors
    /// There is none, it is damaged, the audit cannot be written, or Redis fails.
    pub async fn trace(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        attempt: Option<u32>,
        actor: &Actor,
    ) -> Result<Bytes, Failure> {
        self.audited(AuditKind::TraceRead, tenant, Some(execution), "trace", actor).await?;
        Ok(self.fetch_trace(tenant, execution, attempt).await?.0)
    }

    async fn fetch_trace(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        attempt: Option<u32>,
    ) -> Result<(Bytes, Trace), Failure> {
        let bytes = self.trace_store()?.fetch(tenant, execution, attempt).await.map_err(|e| failed(&e))?;
        let packed = bytes.clone();
        let unpacked = tokio::task::spawn_blocking(move || longshore_trace::unpack(&packed));
        let trace = unpacked.await.map_err(|error| Failure::internal(&error))?;
        let trace = trace.map_err(|damage| failed(&damage.into()))?;
        if trace.tenant() != tenant || trace.execution() != execution {
            return Err(not_found(execution));
        }
        Ok((bytes, trace))
    }

    /// A payload that a tenant's trace names.
    ///
    /// # Errors
    /// The trace does not name it, it is gone or damaged, or a server fails.
    pub async fn trace_payload(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        sha256: ContentHash,
        attempt: Option<u32>,
        actor: &Actor,
    ) -> Result<Bytes, Failure> {
        self.audited(AuditKind::TraceExported, tenant, Some(execution), "payload", actor).await?;
        let (_, trace) = self.fetch_trace(tenant, execution, attempt).await?;
        let stored = trace.stored_payloads().map_err(|damage| failed(&damage.into()))?;
        let Some(length) = stored.get(&sha256) else {
            let message = format!("the trace of {execution} names no payload {sha256}");
            return Err(Failure::new(ApiCode::TraceNotFound, message));
        };
        payloads::get(self.bundles.store(), tenant, sha256, Some(*length))
            .await
            .map_err(|e| payload_failed(&e))
    }

    /// The bundle that a recorded run ran.
    ///
    /// # Errors
    /// There is no such trace, the bundle is gone or damaged, or a server fails.
    pub async fn trace_bundle(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        attempt: Option<u32>,
        actor: &Actor,
    ) -> Result<Bytes, Failure> {
        self.audited(AuditKind::TraceExported, tenant, Some(execution), "bundle", actor).await?;
        let (_, trace) = self.fetch_trace(tenant, execution, attempt).await?;
        let context = &trace.header().run.context;
        let key = BundleKey {
            tenant: tenant.clone(),
            extension: context.extension.clone(),
            hash: context.content_hash,
        };
        let gone = |why: &str| {
            let message = format!("the bundle {} of that run {why}", key.hash);
            Failure::new(ApiCode::BundleNotFound, message)
        };
        let opened = match self.bundles.store().open(&key).await {
            Ok(opened) => opened,
            Err(longshore_bundle::StoreError::NotFound) => return Err(gone("is not in the store any more")),
            Err(error) => return Err(Failure::unavailable("the bundle store", &error)),
        };
        let mut archive = Vec::new();
        let read = opened.body.take(MAX_ARCHIVE_BYTES + 1).read_to_end(&mut archive).await;
        read.map_err(|error| Failure::unavailable("the bundle store", &error))?;
        if trace.check_bundle(&archive).is_err() {
            return Err(gone("was damaged or replaced in the store"));
        }
        Ok(archive.into())
    }

    /// Puts an exported run back, with its payloads and its bundle.
    ///
    /// # Errors
    /// It is another tenant's, damaged, or a server fails.
    pub async fn import_trace(
        &self,
        tenant: &TenantId,
        file: Bytes,
        actor: &Actor,
    ) -> Result<TraceImported, Failure> {
        let store = self.trace_store()?;
        let opening = tokio::task::spawn_blocking(move || {
            let (exported, _) = longshore_trace::file::read_bytes(&file)?;
            let (packed, trace) = Packed::open(exported.trace.clone())?;
            Ok::<_, longshore_trace::Damage>((exported, packed, trace))
        });
        let opened = opening.await.map_err(|error| Failure::internal(&error))?;
        let (exported, packed, trace) = opened.map_err(|damage| {
            Failure::new(ApiCode::InvalidTrace, format!("the file cannot be used: {damage}"))
        })?;
        if trace.tenant() != tenant {
            let message =
                format!("the run is not one of tenant {tenant}: import it for the tenant that it belongs to");
            return Err(Failure::new(ApiCode::InvalidTrace, message));
        }
        let execution = trace.execution();
        let imported = event(AuditKind::TraceImported, actor).tenant(tenant);
        let imported = imported.extension(&trace.header().run.context.extension);
        self.ledger.record(imported.details(json!({ "execution": execution.to_string() }))).await?;
        let Exported { payloads, bundle, .. } = exported;
        for bytes in payloads.into_values() {
            payloads::put(self.bundles.store(), tenant, bytes).await.map_err(|e| payload_failed(&e))?;
        }
        if let Some(bundle) = bundle {
            let context = &trace.header().run.context;
            let key = BundleKey {
                tenant: tenant.clone(),
                extension: context.extension.clone(),
                hash: context.content_hash,
            };
            if !self.bundles.exists(&key).await? {
                let content = longshore_bundle::Content::Bytes(bundle);
                let put = self.bundles.store().put(&key, content).await;
                put.map_err(|error| Failure::unavailable("the bundle store", &error))?;
            }
        }
        let stored = store.publish(&packed).await.map_err(|error| failed(&error))?;
        Ok(TraceImported { execution: execution.to_string(), attempt: packed.summary.attempt, stored })
    }

    fn trace_store(&self) -> Result<&TraceStore, Failure> {
        self.traces.as_ref().ok_or_else(|| {
            let message =
                "no runs are recorded in this fleet: RUNNER_DEBUG_REDIS_URL of the admin service is not set";
            Failure::new(ApiCode::Unavailable, message)
        })
    }

    async fn audited(
        &self,
        kind: AuditKind,
        tenant: &TenantId,
        execution: Option<ExecutionId>,
        what: &str,
        actor: &Actor,
    ) -> Result<(), Failure> {
        let details = json!({ "what": what, "execution": execution.map(|id| id.to_string()) });
        self.ledger.record(event(kind, actor).tenant(tenant).details(details)).await
    }
}

/// A moment that a query names.
///
/// # Errors
/// It is after the last one that the document allows.
pub(crate) fn moment(name: &str, ms: Option<u64>) -> Result<Option<u64>, Failure> {
    match ms {
        Some(ms) if ms > MAX_MOMENT_MS => {
            Err(Failure::invalid(format!("{name} is {ms}; it must be at most {MAX_MOMENT_MS}")))
        }
        ms => Ok(ms),
    }
}

/// A text that a query names, as long as the document says at most.
fn text(name: &str, text: Option<String>, most: usize) -> Result<Option<String>, Failure> {
    match text {
        Some(text) if text.chars().count() > most => {
            Err(Failure::invalid(format!("{name} has more than {most} characters")))
        }
        text => Ok(text),
    }
}

fn checked(request: &RecordingRequest, actor: &Actor) -> Result<Recording, Failure> {
    let for_ms = request.for_ms;
    if !(1_000..=MAX_RECORDING_MS).contains(&for_ms) {
        let message = format!("for_ms is {for_ms}; it must be 1000 (a second) to {MAX_RECORDING_MS} (a day)");
        return Err(Failure::invalid(message));
    }
    let sample = request.sample.unwrap_or(1.0);
    if !(sample > 0.0 && sample <= 1.0) {
        return Err(Failure::invalid(format!("sample is {sample}; it must be more than 0 and at most 1")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a million")]
    let sample_ppm = (sample * 1_000_000.0).round().max(1.0) as u32;
    let until_ms = now_ms().saturating_add(for_ms);
    Ok(Recording { until_ms, sample_ppm, errors_only: request.errors_only, by: actor.0.clone() })
}

fn not_found(execution: ExecutionId) -> Failure {
    let message = TraceStoreError::NotFound { execution }.to_string();
    Failure::new(ApiCode::TraceNotFound, message)
}

fn failed(error: &TraceStoreError) -> Failure {
    match error {
        TraceStoreError::NotFound { execution } => not_found(*execution),
        TraceStoreError::Damaged(damage) => {
            Failure::new(ApiCode::InvalidTrace, format!("the recorded run cannot be used: {damage}"))
        }
        TraceStoreError::TooLarge { .. } => Failure::new(ApiCode::TooLarge, error.to_string()),
        TraceStoreError::Cursor(_) => Failure::invalid(error.to_string()),
        TraceStoreError::Redis(_) => Failure::unavailable("Redis", error),
    }
}

fn payload_failed(error: &PayloadError) -> Failure {
    match error {
        PayloadError::Damaged(damage) => {
            Failure::new(ApiCode::InvalidTrace, format!("the recorded run cannot be used: {damage}"))
        }
        other => Failure::unavailable("the bundle store", other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_as_late_as_the_document_says_and_no_later() {
        assert_eq!(MAX_MOMENT_MS, 9_223_372_036_854_775_807);
        for fine in [None, Some(0), Some(MAX_MOMENT_MS)] {
            assert_eq!(moment("until_ms", fine).unwrap(), fine);
        }
        for late in [MAX_MOMENT_MS + 1, u64::MAX] {
            let refused = moment("until_ms", Some(late)).unwrap_err();
            assert_eq!(refused.code, ApiCode::InvalidRequest);
            assert!(refused.message.starts_with("until_ms"), "{}", refused.message);
        }
    }

    fn asked(for_ms: u64, sample: Option<f64>) -> Result<Recording, Failure> {
        let request = RecordingRequest { for_ms, sample, errors_only: false };
        checked(&request, &Actor("me".to_owned()))
    }

    #[test]
    fn a_recording_lasts_a_second_to_a_day_and_samples_more_than_nothing() {
        assert_eq!(asked(60_000, None).unwrap().sample_ppm, 1_000_000);
        assert_eq!(asked(60_000, Some(0.05)).unwrap().sample_ppm, 50_000);
        assert_eq!(asked(60_000, Some(1e-12)).unwrap().sample_ppm, 1, "some share is never none");
        for wrong in [asked(999, None), asked(MAX_RECORDING_MS + 1, None)] {
            assert!(wrong.unwrap_err().message.contains("for_ms"));
        }
        for share in [0.0, -0.5, 1.01, f64::NAN] {
            assert!(asked(60_000, Some(share)).unwrap_err().message.contains("sample"), "{share}");
        }
    }
}
