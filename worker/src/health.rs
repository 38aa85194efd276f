//! `/healthz` of a worker (interop 4.4, and NATS).

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use longshore_bundle::BundleStore;
use longshore_service::config::ByteSize;
use longshore_service::nats::Watcher;
use serde_json::{Value, json};

use crate::admit::Admission;

/// The reference's limit for asking the store.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// What `/healthz` answers: 200 if the cache folder can be written, else 503.
pub fn report(
    cache_root: PathBuf,
    cache_max: ByteSize,
    store: Arc<dyn BundleStore>,
    link: Watcher,
    admission: Arc<Admission>,
) -> impl Fn() -> Pin<Box<dyn Future<Output = (bool, Value)> + Send>> + Send + Sync + 'static {
    move || {
        let (root, store, link, admission) =
            (cache_root.clone(), Arc::clone(&store), link.clone(), Arc::clone(&admission));
        Box::pin(async move {
            let writable = tokio::task::spawn_blocking(move || is_writable(&root)).await.unwrap_or(false);
            let reached = tokio::time::timeout(PROBE_LIMIT, store.probe()).await.is_ok_and(|r| r.is_ok());
            let report = json!({
                "cache_writable": writable,
                "bundle_store": if reached { "ok" } else { "bundle_store_unreachable" },
                "ext_cache_max_bytes": cache_max.bytes().to_string(),
                "nats": if link.is_connected() { "ok" } else { "disconnected" },
                "running": admission.running(),
            });
            (writable, report)
        })
    }
}

fn is_writable(root: &Path) -> bool {
    tempfile::Builder::new().prefix(".health").tempfile_in(root).is_ok()
}
