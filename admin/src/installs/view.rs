//! An install as it is shown.

use longshore_proto::install::{Install, InstalledVersion};
use longshore_proto::manifest::Endpoint;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::{InstallView, RecordingView, VersionView};

/// All of it but the secrets' values.
pub fn view(install: &Install) -> InstallView {
    InstallView {
        install_id: install.install_id.clone(),
        tenant: install.tenant.to_string(),
        extension: install.extension.to_string(),
        name: install.version.name.clone(),
        publisher: install.version.publisher.clone(),
        slug: install.version.slug(),
        enabled: install.enabled,
        version: version(&install.version),
        previous: install.previous.iter().map(version).collect(),
        granted: install.capabilities.iter().map(|capability| capability.to_string()).collect(),
        config: install.config.clone(),
        secret_names: install.secret_names.clone(),
        limits: install.limits.into(),
        egress: install.egress.clone(),
        pool: install.pool.to_string(),
        weight: install.weight,
        capture: install.capture.as_str().to_owned(),
        recording: recording(install),
        hosts: install.hosts.clone(),
        created_at: install.created_at.clone(),
        updated_at: install.updated_at.clone(),
    }
}

/// A recording that has not ended; one that has is as good as none, and goes with the next change.
fn recording(install: &Install) -> Option<RecordingView> {
    let recording = install.recording.as_ref()?;
    if recording.until_ms <= super::now_ms() {
        return None;
    }
    let until = OffsetDateTime::from_unix_timestamp_nanos(i128::from(recording.until_ms) * 1_000_000).ok()?;
    Some(RecordingView {
        until: until.format(&Rfc3339).ok()?,
        sample: f64::from(recording.sample_ppm) / 1_000_000.0,
        errors_only: recording.errors_only,
        by: recording.by.clone(),
    })
}

fn version(version: &InstalledVersion) -> VersionView {
    let endpoint = |endpoint: &Endpoint| {
        let idempotent = if endpoint.idempotent { " idempotent" } else { "" };
        format!("{} {}{idempotent}", endpoint.method, endpoint.path)
    };
    VersionView {
        content_hash: version.content_hash.to_string(),
        version_id: version.version_id.clone(),
        version: version.version.clone(),
        requested: version.requested.clone(),
        endpoints: version.endpoints.iter().flatten().map(endpoint).collect(),
        ui_entry: version.ui.as_ref().map(|ui| ui.entry.clone()),
        ui_hooks: version.ui.as_ref().map(|ui| ui.hooks.clone()).unwrap_or_default(),
        signed_by: version.signed_by.clone(),
        installed_at: version.installed_at.clone(),
    }
}
