//! How fast a tenant may call an extension through this gateway: a token bucket each, as the generic cell rate algorithm
//! keeps it, in one moment of time a bucket: when it will be full again.
//!
//! The existing platform's gateway has 60 calls at once and one a second. That is meant for a page's clicks; this route
//! is an API too, so the defaults are 200 at once and 100 a second. Each gateway counts for itself: what several let
//! through is the sum.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use longshore_proto::{ExtensionId, TenantId};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Buckets kept at most: some 10 MB. A full bucket is as good as none and is dropped first; while more than these are in use,
/// calls of others pass without being counted, because refusing them would let some tenants lock others out.
const MAX_BUCKETS: usize = 65_536;

/// Full buckets are looked for at most this often: it takes a walk through all.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Whose bucket. Without an extension: the tenant's questions for extensions that it does not have.
type Key = (TenantId, Option<ExtensionId>);

/// See the module.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// Time between two calls in the long run; None: no limit.
    interval: Option<Duration>,
    /// How far ahead of time a bucket may be.
    ahead: Duration,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    full_at: HashMap<Key, Instant>,
    swept: Instant,
}

impl RateLimit {
    /// `rate` a second, 0 for as many as come; `burst` at once.
    pub(crate) fn new(rate: u32, burst: NonZeroU32) -> Self {
        let interval = NonZeroU32::new(rate).map(|rate| Duration::from_secs(1) / rate.get());
        let ahead = interval.unwrap_or_default().saturating_mul(burst.get() - 1);
        let buckets = Buckets { full_at: HashMap::new(), swept: Instant::now() };
        Self { interval, ahead, buckets: Mutex::new(buckets) }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// Too early: how long to wait.
    pub(crate) fn take(&self, tenant: &TenantId, extension: Option<&ExtensionId>) -> Result<(), Duration> {
        self.count(tenant, extension, true)
    }

    /// Whether a call would be too early, without counting one.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) fn look(&self, tenant: &TenantId, extension: Option<&ExtensionId>) -> Result<(), Duration> {
        self.count(tenant, extension, false)
    }

    fn count(&self, tenant: &TenantId, extension: Option<&ExtensionId>, take: bool) -> Result<(), Duration> {
        let Some(interval) = self.interval else { return Ok(()) };
        let now = Instant::now();
        let key = (tenant.clone(), extension.cloned());
        let mut buckets = self.buckets.lock();
        let full_at = buckets.full_at.get(&key).copied().map_or(now, |at| at.max(now));
        let early = (full_at - now).saturating_sub(self.ahead);
        if !early.is_zero() {
            return Err(early);
        }
        if take && buckets.room(&key, now) {
            buckets.full_at.insert(key, full_at + interval);
        }
        Ok(())
    }

    /// Buckets in use.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.buckets.lock().full_at.len()
    }
}

impl Buckets {
    fn room(&mut self, key: &Key, now: Instant) -> bool {
        if self.full_at.len() < MAX_BUCKETS || self.full_at.contains_key(key) {
            return true;
        }
        if now - self.swept < SWEEP_EVERY {
            return false;
        }
        self.swept = now;
        self.full_at.retain(|_, full_at| *full_at > now);
        self.full_at.len() < MAX_BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rate: u32, burst: u32) -> RateLimit {
        RateLimit::new(rate, NonZeroU32::new(burst).unwrap())
    }

    fn ids(tenant: &str, extension: &str) -> (TenantId, ExtensionId) {
        (tenant.parse().unwrap(), extension.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let limit = limit(2, 3);
        let (tenant, extension) = ids("t", "e");
        let take = || limit.take(&tenant, Some(&extension));
        for _ in 0..3 {
            take().unwrap();
        }
        assert_eq!(take(), Err(Duration::from_millis(500)));
        assert_eq!(limit.look(&tenant, Some(&extension)), Err(Duration::from_millis(500)));
        tokio::time::advance(Duration::from_millis(500)).await;
        take().unwrap();
        assert!(take().is_err());
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..3 {
            take().unwrap();
        }
        assert!(take().is_err(), "a bucket holds no more than its burst");
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_and_extensions_do_not_share_a_bucket() {
        let limit = limit(1, 1);
        let (tenant, extension) = ids("t", "e");
        limit.take(&tenant, Some(&extension)).unwrap();
        assert!(limit.take(&tenant, Some(&extension)).is_err());
        limit.take(&ids("u", "e").0, Some(&extension)).unwrap();
        limit.take(&tenant, Some(&ids("t", "f").1)).unwrap();
        limit.look(&tenant, None).unwrap();
        limit.take(&tenant, None).unwrap();
        assert!(limit.look(&tenant, None).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_of_nothing_limits_nothing_and_keeps_nothing() {
        let limit = limit(0, 1);
        let (tenant, extension) = ids("t", "e");
        for _ in 0..1_000 {
            limit.take(&tenant, Some(&extension)).unwrap();
        }
        assert_eq!(limit.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn buckets_are_bounded_and_full_ones_go_first() {
        let limit = limit(1, 1);
        let (_, extension) = ids("t", "e");
        for n in 0..MAX_BUCKETS + 10 {
            limit.take(&format!("t{n}").parse().unwrap(), Some(&extension)).unwrap();
        }
        assert_eq!(limit.len(), MAX_BUCKETS);
        tokio::time::advance(Duration::from_secs(2)).await;
        limit.take(&"other".parse().unwrap(), Some(&extension)).unwrap();
        assert_eq!(limit.len(), 1);
    }
}
