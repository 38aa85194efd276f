//! One connection, made when it is needed and thrown away when it fails.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::sync::Mutex;

/// The scripts' texts.
const PUBLISH: &str = include_str!("publish.lua");
const REMOVE: &str = include_str!("remove.lua");

/// Connects on demand.
pub(super) struct Connector {
    client: Client,
    timeout: Duration,
    live: Mutex<Option<Live>>,
}

/// A connection whose server knows the scripts.
#[derive(Clone)]
pub(super) struct Live {
    pub connection: MultiplexedConnection,
    /// How the server calls them.
    pub publish: String,
    pub remove: String,
}

impl Connector {
    pub(super) fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout, live: Mutex::new(None) }
    }

    pub(super) async fn get(&self) -> Result<Live, RedisError> {
        let mut kept = self.live.lock().await;
        if let Some(live) = &*kept {
            return Ok(live.clone());
        }
        // Without these every command fails after 500 ms (redis-rs' default), a large trace on a busy server too.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let (publish, remove) = redis::pipe()
            .cmd("SCRIPT")
            .arg("LOAD")
            .arg(PUBLISH)
            .cmd("SCRIPT")
            .arg("LOAD")
            .arg(REMOVE)
            .query_async(&mut connection)
            .await?;
        Ok(kept.insert(Live { connection, publish, remove }).clone())
    }

    /// The next one who asks gets a new connection. After any failure: a server that restarted, or whose scripts
    /// were flushed, does not know them any more.
    pub(super) async fn forget(&self) {
        *self.live.lock().await = None;
    }
}
