//! Debug events in Redis: a stream for each tenant and extension.

use std::time::Duration;

use longshore_proto::{ExtensionId, TenantId};

use crate::config::EventSettings;

/// All of it; a scan of a million keys takes a second or two.
const REMOVAL: Duration = Duration::from_secs(30);

/// Keys that one turn of a scan looks at.
const COUNT: usize = 1000;

/// Why streams are left. Never holds the address, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Redis does not answer, or refuses.
    #[error("Redis (RUNNER_DEBUG_REDIS_URL) failed: {0}")]
    Redis(String),
    /// It takes too long.
    #[error("Redis (RUNNER_DEBUG_REDIS_URL) was not done within {} s", REMOVAL.as_secs())]
    Timeout,
}

/// Only the kind of error: its text may hold the address.
fn failed(error: &redis::RedisError) -> TraceError {
    TraceError::Redis(format!("{:?}", error.kind()))
}

/// Removes streams of a tenant, or of one of its extensions; how many there were. Without Redis there are none.
///
/// # Errors
/// Redis does not answer.
pub async fn remove(
    events: &EventSettings,
    tenant: &TenantId,
    extension: Option<&ExtensionId>,
) -> Result<u64, TraceError> {
    let Some(client) = events.client() else { return Ok(0) };
    let client = client.map_err(|error| failed(&error))?;
    let pattern = events.pattern(tenant.as_str(), extension.map(ExtensionId::as_str));
    match tokio::time::timeout(REMOVAL, scan(client, &pattern)).await {
        Ok(removed) => removed.map_err(|error| failed(&error)),
        Err(_) => Err(TraceError::Timeout),
    }
}

async fn scan(client: redis::Client, pattern: &str) -> Result<u64, redis::RedisError> {
    let mut connection = client.get_multiplexed_async_connection().await?;
    let (mut cursor, mut removed) = (0_u64, 0_u64);
    loop {
        let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(COUNT)
            .arg("TYPE")
            .arg("stream")
            .query_async(&mut connection)
            .await?;
        if !keys.is_empty() {
            let gone: u64 = redis::cmd("DEL").arg(keys).query_async(&mut connection).await?;
            removed = removed.saturating_add(gone);
        }
        cursor = next;
        if cursor == 0 {
            return Ok(removed);
        }
    }
}
