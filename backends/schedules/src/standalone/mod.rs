//! Schedules in a JetStream KV bucket, for installs without a platform.

mod backend;
mod key;
mod kv;
mod record;

pub use backend::{NatsSchedules, StandaloneConfig};
pub use kv::{KvError, ScheduleStore, bucket_settings};
pub use record::{Claim, LastRun, LastStatus, Record};

pub(crate) use kv::{Bucket, Claimed, Ending, LEASES, Settled, Written};
pub(crate) use record::Seen;
#[cfg(test)]
pub(crate) use record::tests::record as record_for_tests;
