//! Waiting for what does not announce itself.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// For everything that should take a moment; generous, since tests share the machine with compilers.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Asks every 10 ms until there is an answer; panics with the last reason when `limit` is over.
pub async fn until<T, E: Display>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) if began.elapsed() > limit => panic!("{what}: not within {limit:?}: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// What a future gives within `limit`; panics with `what` otherwise.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}
