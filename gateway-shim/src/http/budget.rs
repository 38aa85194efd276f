//! How much of other people's bodies this process holds: a total, and a quarter of it for one tenant.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

/// What a request counts for besides its body: its header, its parsed form, its tasks. It also bounds the number of
/// requests (65,536 at the default total, a quarter of them for one tenant), which connections alone do not with
/// HTTP/2.
pub(crate) const REQUEST_COST: usize = 4 * 1024;

/// No tenant holds more than this part of the total.
const TENANT_DIVISOR: usize = 4;

/// The bytes in use.
#[derive(Debug)]
pub struct BodyBudget {
    used: Mutex<Used>,
    freed: Notify,
    total: usize,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    /// Entries go with their last byte, so there are at most as many as requests.
    tenants: HashMap<Arc<str>, usize>,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All tenants together.
    #[error("this gateway holds as many request bytes as it may")]
    Total,
    /// This one.
    #[error("this tenant's calls hold a quarter of the request bytes that this gateway may hold")]
    Tenant,
}

impl BodyBudget {
    /// At most `total` bytes; `gauge` shows those in use.
    pub fn new(total: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { used: Mutex::default(), freed: Notify::new(), total, gauge })
    }

    /// A request begins; it holds nothing yet.
    pub(crate) fn open(self: &Arc<Self>, tenant: &str) -> Held {
        Held { budget: self.clone(), tenant: tenant.into(), bytes: 0 }
    }

    fn take(&self, tenant: &Arc<str>, bytes: usize) -> Result<(), Full> {
        let mut used = self.used.lock();
        let theirs = used.tenants.get(tenant).copied().unwrap_or(0);
        if theirs + bytes > self.total / TENANT_DIVISOR {
            return Err(Full::Tenant);
        }
        if used.total + bytes > self.total {
            return Err(Full::Total);
        }
        self.add(&mut used, tenant, bytes);
        Ok(())
    }

    fn add(&self, used: &mut Used, tenant: &Arc<str>, bytes: usize) {
        if bytes == 0 {
            return;
        }
        used.total += bytes;
        match used.tenants.get_mut(tenant) {
            Some(theirs) => *theirs += bytes,
            None => drop(used.tenants.insert(tenant.clone(), bytes)),
        }
        self.gauge.set(i64::try_from(used.total).unwrap_or(i64::MAX));
    }

    fn give_back(&self, tenant: &Arc<str>, bytes: usize) {
        if bytes == 0 {
            return;
        }
        {
            let mut used = self.used.lock();
            used.total = used.total.saturating_sub(bytes);
            if let Some(theirs) = used.tenants.get_mut(tenant) {
                *theirs = theirs.saturating_sub(bytes);
                if *theirs == 0 {
                    used.tenants.remove(tenant);
                }
            }
            self.gauge.set(i64::try_from(used.total).unwrap_or(i64::MAX));
        }
        self.freed.notify_waiters();
    }
}

/// What one request holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<BodyBudget>,
    tenant: Arc<str>,
    bytes: usize,
}

impl Held {
    /// Takes more, waiting at most `patience` for others to give back. Those who wait keep what they have: should they
    /// all wait for each other, the first that gives up frees the rest.
    pub(crate) async fn grow(&mut self, bytes: usize, patience: Duration) -> Result<(), Full> {
        let give_up = tokio::time::Instant::now() + patience;
        loop {
            // Made before the attempt, so that what is freed in between is noticed.
            let freed = self.budget.freed.notified();
            let Err(full) = self.budget.take(&self.tenant, bytes) else {
                self.bytes += bytes;
                return Ok(());
            };
            if tokio::time::timeout_at(give_up, freed).await.is_err() {
                return Err(full);
            }
        }
    }

    /// Now holds exactly `bytes`, whether there is room or not: a response that has arrived is held, and what it takes
    /// keeps new requests out.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            let mut used = self.budget.used.lock();
            self.budget.add(&mut used, &self.tenant, bytes - self.bytes);
        } else {
            self.budget.give_back(&self.tenant, self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(&self.tenant, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[tokio::test]
    async fn a_tenant_gets_a_quarter_and_others_the_rest() {
        let budget = BodyBudget::new(400, Gauge::default());
        let mut a = budget.open("a");
        a.grow(100, NOW).await.unwrap();
        assert_eq!(budget.open("a").grow(1, NOW).await, Err(Full::Tenant));
        let mut others = Vec::new();
        for tenant in ["b", "c", "d"] {
            let mut held = budget.open(tenant);
            held.grow(100, NOW).await.unwrap();
            others.push(held);
        }
        assert_eq!(budget.open("e").grow(1, NOW).await, Err(Full::Total));
        drop(a);
        budget.open("e").grow(100, NOW).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_gets_what_another_gives_back() {
        let budget = BodyBudget::new(400, Gauge::default());
        let mut first = budget.open("a");
        first.grow(100, NOW).await.unwrap();
        let mut second = budget.open("a");
        let waiting = second.grow(60, Duration::from_secs(60));
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        first.set(50);
        assert!(futures::poll!(&mut waiting).is_pending(), "50 are not enough");
        drop(first);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn everything_is_given_back_and_no_tenant_is_remembered() {
        let gauge = Gauge::default();
        let budget = BodyBudget::new(400, gauge.clone());
        let mut held = budget.open("a");
        held.grow(100, NOW).await.unwrap();
        held.set(1_000);
        assert_eq!(gauge.get(), 1_000, "a response is held even where there is no room");
        assert_eq!(budget.open("b").grow(1, NOW).await, Err(Full::Total));
        drop(held);
        assert_eq!(gauge.get(), 0);
        assert!(budget.used.lock().tenants.is_empty());
    }
}
