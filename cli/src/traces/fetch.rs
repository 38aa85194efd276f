//! A recorded run with everything that belongs to it: from the fleet, or from a file.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use longshore_proto::{ContentHash, ExecutionId, TenantId};
use longshore_replay::Recorded;
use longshore_trace::file::{Exported, FileError, MAX_FILE_BYTES};
use longshore_trace::payloads::MAX_PAYLOAD_BYTES;
use longshore_trace::{Damage, MAX_PACKED_BYTES, Trace};

use super::vault::Vault;
use crate::exit::{Exit, Failure, ReplayExit};
use crate::fleet::AdminClient;
use crate::fleet::client::Route;

/// Bundles that the service takes are smaller.
const MAX_BUNDLE_BYTES: u64 = longshore_admin::api::MAX_ARCHIVE_BYTES;

/// Why a trace cannot be used.
pub fn damaged(what: &str, damage: &Damage) -> Failure {
    Failure::invalid("trace_unusable", format!("{what} cannot be used: {damage}"))
        .hint("nothing of it was used; where the run is still in its fleet, `longshore export ID -o FILE` makes a new file")
        .replay(ReplayExit::Unusable)
}

/// The same failure, as `replay` tells it: whether the run is gone or unusable, or the tool did not get to it.
pub fn as_replay(failure: Failure) -> Failure {
    if failure.replay.is_some() {
        return failure;
    }
    let status = failure.details.as_ref().and_then(|details| details.get("status")?.as_u64()).unwrap_or(0);
    // The service's word about this trace; not one about the token, the address or itself.
    let of_trace = match failure.exit {
        Exit::NotFound | Exit::Invalid => true,
        Exit::Failed => (400..500).contains(&status),
        Exit::Ok | Exit::Usage | Exit::Unreachable | Exit::NotPermitted => false,
    };
    failure.replay(if of_trace { ReplayExit::Unusable } else { ReplayExit::ToolFailed })
}

/// A run from the fleet: what is in the vault is not fetched again.
///
/// # Errors
/// It is gone or damaged, or those of the admin API.
pub async fn run(
    client: &AdminClient,
    vault: Option<&Vault>,
    tenant: &TenantId,
    execution: ExecutionId,
    attempt: Option<u32>,
) -> Result<(Exported, Trace), Failure> {
    let name = format!("the trace of {execution}");
    let kept = vault.and_then(|vault| vault.trace(tenant, execution, attempt));
    let known = kept.and_then(|packed| longshore_trace::unpack(&packed).ok().map(|trace| (packed, trace)));
    let (packed, trace) = match known {
        Some(known) => known,
        None => {
            let id = execution.to_string();
            let route = Route::of_tenant(tenant, ["traces", &id]).with_some("attempt", attempt);
            let packed =
                client.bytes(route, MAX_PACKED_BYTES).await.map_err(|failure| gone(failure, &id, tenant))?;
            let trace = longshore_trace::unpack(&packed).map_err(|damage| damaged(&name, &damage))?;
            (packed, trace)
        }
    };
    if trace.execution() != execution {
        let message = format!("{name} is that of {}", trace.execution());
        return Err(Failure::invalid("trace_unusable", message).replay(ReplayExit::Unusable));
    }
    if let Some(vault) = vault {
        vault.keep_trace(tenant, execution, attempt, &packed);
    }
    let stored = trace.stored_payloads().map_err(|damage| damaged(&name, &damage))?;
    let id = execution.to_string();
    let mut payloads = BTreeMap::new();
    for sha256 in stored.into_keys() {
        let hex = sha256.hex();
        let route = Route::of_tenant(tenant, ["traces", &id, "payloads", &hex]);
        payloads.insert(sha256, object(client, vault, sha256, route, MAX_PAYLOAD_BYTES).await?);
    }
    let route = Route::of_tenant(tenant, ["traces", &id, "bundle"]).with_some("attempt", attempt);
    let hash = trace.header().run.context.content_hash;
    let bundle = object(client, vault, hash, route, MAX_BUNDLE_BYTES).await?;
    let exported = Exported { trace: packed, payloads, bundle: Some(bundle) };
    exported.check().map_err(|damage| damaged(&name, &damage))?;
    Ok((exported, trace))
}

fn gone(failure: Failure, execution: &str, tenant: &TenantId) -> Failure {
    if failure.exit != Exit::NotFound {
        return failure;
    }
    failure.hint(format!(
        "`longshore traces --tenant {tenant}` lists what has been recorded; {execution} may have expired"
    ))
}

/// A payload or a bundle.
async fn object(
    client: &AdminClient,
    vault: Option<&Vault>,
    sha256: ContentHash,
    route: Route<'_>,
    most: u64,
) -> Result<Bytes, Failure> {
    if let Some(kept) = vault.and_then(|vault| vault.object(sha256)) {
        return Ok(kept);
    }
    let bytes = client.bytes(route, usize::try_from(most).unwrap_or(usize::MAX)).await?;
    if let Some(vault) = vault {
        vault.keep_object(sha256, &bytes);
    }
    Ok(bytes)
}

/// A run from a file. Nothing else is touched.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn file(path: &Path) -> Result<(Exported, Trace), Failure> {
    let what = crate::output::printable(path.display().to_string());
    let file = std::fs::File::open(path).map_err(|error| {
        Failure::not_found("file_not_found", format!("{what} cannot be read: {error}"))
            .hint("an id of a run has 32 of 0-9 a-f; a file is made by `longshore export ID -o FILE`")
            .replay(ReplayExit::Unusable)
    })?;
    let too_large = file.metadata().is_ok_and(|about| about.len() > MAX_FILE_BYTES);
    if too_large {
        let damage = Damage::TooLarge { what: "bytes of the file", limit: MAX_FILE_BYTES };
        return Err(damaged(&what, &damage));
    }
    longshore_trace::file::read(file).map_err(|error| match error {
        FileError::Damaged(damage) => damaged(&what, &damage),
        FileError::Io(error) => {
            Failure::new(Exit::Failed, "failed", format!("{what} cannot be read: {error}"))
                .replay(ReplayExit::Unusable)
        }
    })
}

/// The run as a replayer takes it.
///
/// # Errors
/// The bundle is not there.
pub fn recorded(exported: Exported, trace: Trace) -> Result<Recorded, Failure> {
    let Some(bundle) = exported.bundle else {
        return Err(Failure::invalid(
            "trace_unusable",
            "the file has no bundle: the run can be read, but not replayed",
        )
        .hint("export it again where the bundle still is: `longshore export ID -o FILE`")
        .replay(ReplayExit::Unusable));
    };
    Ok(Recorded { trace, payloads: exported.payloads, bundle })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_says_whether_the_trace_or_the_tool_is_to_blame() {
        let code = |failure: Failure| as_replay(failure).number();
        assert_eq!(code(Failure::not_found("trace_not_found", "x")), 2);
        assert_eq!(code(Failure::invalid("trace_damaged", "x")), 2);
        let refused = |status: u16| Failure::new(Exit::Failed, "x", "x").details(json!({ "status": status }));
        assert_eq!((code(refused(410)), code(refused(500))), (2, 3));
        for exit in [Exit::Unreachable, Exit::NotPermitted, Exit::Usage, Exit::Failed] {
            assert_eq!(code(Failure::new(exit, "x", "x")), 3, "{exit:?}");
        }
        assert_eq!(code(Failure::usage("x").replay(ReplayExit::Unusable)), 2);
    }

    #[test]
    fn a_file_that_is_none_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.lstrace");
        assert_eq!(file(&path).unwrap_err().number(), 2);
        for bytes in [&b""[..], b"what somebody has written", &[0; 2_048]] {
            std::fs::write(&path, bytes).unwrap();
            let failure = file(&path).unwrap_err();
            assert_eq!(failure.number(), 2, "{failure}");
            assert!(failure.message.contains("cannot be used"), "{failure}");
        }
        assert_eq!(file(dir.path()).unwrap_err().number(), 2);
    }
}
