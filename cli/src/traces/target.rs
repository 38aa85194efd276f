//! Which extension: `TENANT/EXT`, or the extension alone with `--tenant`.

use longshore_admin::api::{InstallView, RecordingView};
use longshore_proto::TenantId;

use crate::exit::{Exit, Failure};
use crate::fleet::client::Route;
use crate::fleet::{AdminClient, TenantArgs};
use crate::output::printable;
use crate::traces::values::show_share;

/// What was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose.
    pub tenant: TenantId,
    /// Install id, registry id, name or `publisher.name`.
    pub extension: String,
}

impl Target {
    /// Reads `TENANT/EXT` or `EXT`.
    ///
    /// # Errors
    /// No tenant is named, two are, or a part is missing.
    pub fn of(text: &str, client: &AdminClient, tenant: &TenantArgs) -> Result<Self, Failure> {
        let Some((named, extension)) = text.split_once('/') else {
            return Self::checked(client.place().tenant(tenant)?, text);
        };
        // A tenant of the environment is a default; one of the line is what is meant.
        let named =
            named.parse().map_err(|error| Failure::usage(format!("{named:?} is no tenant: {error}")))?;
        Self::checked(named, extension)
    }

    fn checked(tenant: TenantId, extension: &str) -> Result<Self, Failure> {
        if extension.is_empty() || extension.contains('/') {
            return Err(Failure::usage("expected TENANT/EXTENSION, or the extension alone with --tenant")
                .hint("`longshore list --all-tenants` shows both"));
        }
        Ok(Self { tenant, extension: extension.to_owned() })
    }
}

/// `until 2026-01-31T12:00:00Z, 5 % of runs, failed ones only`.
pub fn words(recording: &RecordingView) -> String {
    let mut words = format!("until {}", printable(&recording.until));
    if recording.sample < 1.0 {
        words.push_str(&format!(", {} of runs", show_share(recording.sample)));
    }
    if recording.errors_only {
        words.push_str(", failed ones only");
    }
    words
}

/// The install of a reference, where the token may see it. A token that only reads traces may not: then the reference has to be the registry id.
///
/// # Errors
/// Those of the admin API but that.
pub async fn install(client: &AdminClient, target: &Target) -> Result<Option<InstallView>, Failure> {
    let route = Route::of_tenant(&target.tenant, ["installs", &target.extension]);
    match client.get::<InstallView>(route).await {
        Ok(install) => Ok(Some(install)),
        Err(failure) if failure.exit == Exit::NotPermitted && failure.code != "no_token" => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The registry id of a reference, as traces and events name extensions. What is not installed (any more) still has traces: it is taken as it is.
///
/// # Errors
/// Those of the admin API but that there is none, or that the token may not look.
pub async fn extension_id(client: &AdminClient, target: &Target) -> Result<String, Failure> {
    match install(client, target).await {
        Ok(found) => Ok(found.map_or_else(|| target.extension.clone(), |found| found.extension)),
        Err(failure) if failure.exit == Exit::NotFound => Ok(target.extension.clone()),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_two_parts_that_are_not_empty() {
        let tenant: TenantId = "t".parse().unwrap();
        assert_eq!(Target::checked(tenant.clone(), "com.x").unwrap().extension, "com.x");
        for bad in ["", "a/b"] {
            assert_eq!(Target::checked(tenant.clone(), bad).unwrap_err().exit, Exit::Usage, "{bad:?}");
        }
    }

    #[test]
    fn a_recording_says_its_end_and_what_is_left_out() {
        let recording = |sample, errors_only| {
            let until = "2026-01-31T12:00:00Z".to_owned();
            words(&RecordingView { until, sample, errors_only, by: "x".to_owned() })
        };
        assert_eq!(recording(1.0, false), "until 2026-01-31T12:00:00Z");
        assert_eq!(recording(0.05, true), "until 2026-01-31T12:00:00Z, 5 % of runs, failed ones only");
    }
}
