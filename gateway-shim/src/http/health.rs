//! `/healthz` of the gateway (interop 4.4, and NATS).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Dispatch;

/// Asks whether the bundle store answers.
pub type Probe = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The reference's limit.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// Anyone may ask for health; the store is asked at most once in this time.
const PROBE_AGAIN: Duration = Duration::from_secs(1);

/// What [`longshore_service::admin_http::Admin::with_health`] wants: whether the answer is 200, and the JSON. The
/// status depends on the cache folder alone (interop 4.4) and the gateway has none, so it is always 200;
/// whether to send calls here is what `/readyz` says.
pub fn health<D: Dispatch>(
    dispatch: Arc<D>,
    bundle_store: Probe,
) -> impl Fn() -> Pin<Box<dyn Future<Output = (bool, Value)> + Send>> + Send + Sync + 'static {
    let known: Arc<Mutex<Option<(Instant, bool)>>> = Arc::default();
    move || {
        let (dispatch, bundle_store, known) = (dispatch.clone(), bundle_store.clone(), known.clone());
        Box::pin(async move {
            // Held during the probe: who comes meanwhile gets its result.
            let mut known = known.lock().await;
            let store = match *known {
                Some((at, good)) if at.elapsed() < PROBE_AGAIN => good,
                _ => {
                    let good = tokio::time::timeout(PROBE_LIMIT, bundle_store()).await.unwrap_or(false);
                    *known = Some((Instant::now(), good));
                    good
                }
            };
            drop(known);
            let fleet = dispatch.fleet();
            let report = json!({
                "cache_writable": true,
                "bundle_store": if store { "ok" } else { "bundle_store_unreachable" },
                "ext_cache_max_bytes": null,
                "nats": if fleet.nats_connected { "ok" } else { "disconnected" },
                "workers": fleet.workers,
            });
            (true, report)
        })
    }
}
