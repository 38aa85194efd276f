//! Connections by tenant: how many there may be, and which of them wait for the next request.
//!
//! Own code over hyper's connections rather than hyper-util's client: that client cannot be told to give up an idle
//! connection, and a tenant whose permits all sit in idle connections to yesterday's hosts has to be able to reach
//! today's. It also would need one client for every tenant and list, each with idle timers of its own.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use longshore_proto::TenantId;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::body::SentBody;
use crate::rules::EgressRules;
use crate::target::Target;

/// Idle connections of all tenants. Each holds a file descriptor, of which a process commonly has 1024 to begin with.
const IDLE_TOTAL: usize = 256;
/// How long a connection that has just ended an answer may take until it takes a request: one turn of its task.
const SETTLE: Duration = Duration::from_millis(100);

/// What a pooled connection may be used for again: the same target under the same install list, since that list had its
/// say about the address behind it. The tenant is a level above.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) install: Option<EgressRules>,
    pub(crate) target: Target,
}

/// A connection. Its task holds the socket and the permit; dropping this ends the task.
pub(crate) struct Conn {
    pub(crate) sender: SendRequest<SentBody>,
    pub(crate) task: AbortHandle,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection in use, and where it goes afterwards.
pub(crate) struct Lease {
    pub(crate) conn: Conn,
    key: Key,
    tenant: Arc<Tenant>,
    shared: Arc<Shared>,
}

/// What a request gets.
pub(crate) enum Claim {
    /// An idle connection.
    Idle(Conn),
    /// Leave to make one.
    New(OwnedSemaphorePermit),
}

/// The connections of all tenants.
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    /// Connections of one tenant.
    limit: usize,
    /// How long a connection is kept idle.
    keep: Duration,
    idle: AtomicUsize,
    tenants: Mutex<Tenants>,
}

#[derive(Default)]
struct Tenants {
    all: HashMap<TenantId, Arc<Tenant>>,
    sweeping: bool,
}

pub(crate) struct Tenant {
    permits: Arc<Semaphore>,
    /// Newest last.
    idle: Mutex<VecDeque<Idle>>,
    returned: Notify,
}

struct Idle {
    key: Key,
    conn: Conn,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(limit: usize, keep: Duration) -> Self {
        let shared =
            Shared { limit: limit.max(1), keep, idle: AtomicUsize::new(0), tenants: Mutex::default() };
        Self(Arc::new(shared))
    }

    /// The tenant's part of the pool. It is forgotten when the tenant has had no connection for a while.
    pub(crate) fn tenant(&self, id: &TenantId) -> Arc<Tenant> {
        let mut tenants = self.0.tenants.lock();
        if let Some(tenant) = tenants.all.get(id) {
            return tenant.clone();
        }
        let tenant = Arc::new(Tenant {
            permits: Arc::new(Semaphore::new(self.0.limit)),
            idle: Mutex::default(),
            returned: Notify::new(),
        });
        tenants.all.insert(id.clone(), tenant.clone());
        if !tenants.sweeping {
            tenants.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
        tenant
    }

    /// An idle connection for this key or leave to make one, unless `until` comes first. Idle connections of the
    /// tenant's to other places give way, the oldest first.
    pub(crate) async fn claim(&self, tenant: &Tenant, key: &Key, until: Instant) -> Option<Claim> {
        loop {
            // In line before looking, so that what comes back in between is not missed.
            let mut returned = pin!(tenant.returned.notified());
            returned.as_mut().enable();
            while let Some(mut conn) = self.0.take(tenant, key) {
                if let Ok(Ok(())) = timeout(SETTLE, conn.sender.ready()).await {
                    return Some(Claim::Idle(conn));
                }
            }
            if let Ok(permit) = tenant.permits.clone().try_acquire_owned() {
                return Some(Claim::New(permit));
            }
            self.0.give_up_oldest(tenant);
            let permit = async {
                tokio::select! {
                    permit = tenant.permits.clone().acquire_owned() => permit.ok(),
                    () = &mut returned => None,
                }
            };
            match timeout_at(until, permit).await {
                Ok(Some(permit)) => return Some(Claim::New(permit)),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn lease(&self, conn: Conn, tenant: Arc<Tenant>, key: Key) -> Lease {
        Lease { conn, key, tenant, shared: self.0.clone() }
    }
}

impl Lease {
    /// Keeps the connection for the next request, unless the house is full.
    pub(crate) fn give_back(self) {
        let Self { conn, key, tenant, shared } = self;
        if conn.sender.is_closed() {
            return;
        }
        if shared.idle.fetch_add(1, Relaxed) >= IDLE_TOTAL {
            shared.idle.fetch_sub(1, Relaxed);
            return;
        }
        tenant.idle.lock().push_back(Idle { key, conn, since: Instant::now() });
        tenant.returned.notify_one();
    }
}

impl Shared {
    /// The newest idle connection for this key: the one that the server is least likely to be closing.
    fn take(&self, tenant: &Tenant, key: &Key) -> Option<Conn> {
        let mut idle = tenant.idle.lock();
        let at = idle.iter().rposition(|i| i.key == *key)?;
        let taken = idle.remove(at)?;
        self.idle.fetch_sub(1, Relaxed);
        Some(taken.conn)
    }

    fn give_up_oldest(&self, tenant: &Tenant) {
        if tenant.idle.lock().pop_front().is_some() {
            self.idle.fetch_sub(1, Relaxed);
        }
    }

    /// Closes what has been idle for too long and forgets tenants without connections; whether any is left.
    fn purge(&self) -> bool {
        let now = Instant::now();
        let mut tenants = self.tenants.lock();
        tenants.all.retain(|_, tenant| {
            let mut idle = tenant.idle.lock();
            let before = idle.len();
            idle.retain(|i| !i.conn.sender.is_closed() && now.duration_since(i.since) < self.keep);
            self.idle.fetch_sub(before - idle.len(), Relaxed);
            let used = tenant.permits.available_permits() < self.limit || Arc::strong_count(tenant) > 1;
            !idle.is_empty() || used
        });
        tenants.sweeping = !tenants.all.is_empty();
        tenants.sweeping
    }
}

async fn sweep(shared: std::sync::Weak<Shared>) {
    let Some(keep) = shared.upgrade().map(|s| s.keep) else { return };
    loop {
        tokio::time::sleep(keep / 2).await;
        match shared.upgrade() {
            Some(shared) if shared.purge() => {}
            _ => return,
        }
    }
}
