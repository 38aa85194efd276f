//! Announcements, each second and at once when something changes, and the way out.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use longshore_proto::frame::WorkerAnnouncement;
use longshore_proto::subject;
use longshore_proto::wire::{self, PROTOCOL_VERSION};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Admission;

/// Every shim's picture of the fleet is at most this old.
const EVERY: Duration = Duration::from_secs(1);
/// A shim may not have heard `leaving` yet and still send: stay subscribed so long after saying it.
const STAY: Duration = Duration::from_secs(3);
/// Answers that nobody acknowledges: their shim is gone.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Announces until `closed`.
pub async fn announcements(admission: Arc<Admission>, closed: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut link = admission.link.receiver();
    let mut cpu = CpuMeter::default();
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            _ = tick.tick() => {}
            () = admission.announce_now.notified() => {}
            // At once after a reconnect: shims count silence from theirs.
            changed = link.changed() => if changed.is_err() { return },
        }
        admission.announce(cpu.load_percent());
    }
}

impl Admission {
    fn announce(&self, load_percent: u32) {
        let announcement = {
            let table = self.table.lock();
            self.metrics.table(&table);
            WorkerAnnouncement {
                v: PROTOCOL_VERSION,
                worker: self.boot,
                pool: self.config.pool.clone(),
                name: self.config.name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                number: self.announced.fetch_add(1, Relaxed) + 1,
                slots: self.config.table.slots,
                free: table.free(),
                load_percent,
                leaving: table.is_leaving(),
                unwell: table.unwell(),
            }
        };
        if let Ok(payload) = wire::encode(&announcement) {
            self.publish(&subject::fleet_worker(&self.config.pool, self.boot), payload.into());
        }
    }

    /// Leaves without losing a call (design, step 7): says so, refuses what still comes, finishes what runs, waits
    /// until the answers are acknowledged, and stays for 3 s in any case. Returns when the subscriptions may go.
    pub async fn leave(&self) {
        let said = Instant::now();
        self.table.lock().leave();
        self.announce_now.notify_one();
        tracing::info!(running = self.running(), "leaving: no new calls");
        self.tracker.close();
        self.tracker.wait().await;
        let finished = Instant::now();
        while finished.elapsed() < ACKNOWLEDGE && self.table.lock().unacknowledged() > 0 {
            tokio::time::sleep(POLL).await;
        }
        tokio::time::sleep_until(said + STAY).await;
        let unacknowledged = self.table.lock().unacknowledged();
        if unacknowledged > 0 {
            tracing::warn!(unacknowledged, "leaving with answers that no shim has acknowledged");
        }
    }
}

/// CPU time of this process per wall time, since it was last asked.
#[derive(Default)]
struct CpuMeter {
    last: Option<(std::time::Instant, Duration)>,
}

impl CpuMeter {
    fn load_percent(&mut self) -> u32 {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu =
            Duration::new(u64::try_from(cpu.tv_sec).unwrap_or(0), u32::try_from(cpu.tv_nsec).unwrap_or(0));
        let now = std::time::Instant::now();
        let Some((then, before)) = self.last.replace((now, cpu)) else { return 0 };
        let wall = now.duration_since(then).as_millis().max(1);
        let used = cpu.saturating_sub(before).as_millis();
        u32::try_from(used * 100 / wall).unwrap_or(u32::MAX)
    }
}
