//! Key-value storage of an install: one seam ([`Storage`]), two backends, one conformance suite that both pass.
//!
//! | | [`on_platform`] | [`on_jetstream`] |
//! | --- | --- | --- |
//! | where | the platform's internal API (interop 6.3) | the bucket `longshore-storage` of NATS JetStream |
//! | value | at most 49,149 bytes (64 KiB of JSON, as base64) | at most 65,536 bytes |
//! | quotas | the platform's (429, `denied`) | [`Quotas`] (`denied`) |
//! | revision | counts the writes of an entry | the sequence in the bucket: grows, not by one |
//! | "only if nothing is there" (revision 0) | the platform has no such condition: whatever it answers, usually `conflict` | atomic |
//! | order of a list | the platform's database's | the bytes of the key |
//! | time to live | not in the platform's client | 60 s to 30 days, and a default for a whole fleet |
//!
//! Names and sizes are looked at before any backend sees them: a namespace has 1 to 128 characters, a key 1 to 256 and
//! no `/`, as JavaScript counts them, because the platform does; neither has control characters.
//!
//! # The bucket
//! One stream, `KV_longshore-storage`, file storage, history 1, full means that new entries are refused. It is made by
//! the first process that needs it, NATS 2.12 or later. An entry lies at
//! `$KV.longshore-storage.v.<tenant>.<install>.<namespace>.<key>`, what its install has at
//! `$KV.longshore-storage.u.<tenant>.<install>`. Each part is one token: itself if it consists of `[A-Za-z0-9_-]`,
//! otherwise `=` and its base64url. So no namespace, key or install id reaches into another's place, and the common case
//! can be read in `nats kv ls longshore-storage`. To remove everything of an install: `nats stream purge
//! KV_longshore-storage --subject '$KV.longshore-storage.*.<tenant>.<install>.>'`, and again without the `.>`.
//!
//! # Writes and quotas
//! The install's record says what it has (namespaces, their keys and bytes, entries in blocks of [`BLOCK`] bytes) except
//! for one entry, which it names; a write is a new record that names the entry, and then the entry, each on the condition
//! that the record is still the one that its writer knows (`jetstream/usage.rs`). So the count is exact whoever crashes
//! when, however many workers write; nothing is reserved and nothing drifts. A worker that dies in between costs the
//! install's next writer up to two seconds.
//!
//! Rejected: counting before each write (no limit under concurrency); reserving before the write and giving back after
//! a failure (leaks on each crash); JetStream's atomic batches (NATS 2.12), which stage each batch in files of its own.
//! Measured on two busy cores, one server, file storage: 2.3 to 15 ms for a batch of two, 72 to 430 a second for the
//! whole fleet. This way: 0.8 ms a write, 3,400 a second.
//!
//! Because every write depends on what was read before it ("write whatever is there" too: it reads and tries again, for
//! at most the 5 s of an operation), a write that arrives late, after its caller was told that the storage does not
//! answer, cannot undo a later one. It may still have happened: `internal` after a write means "unknown", as with any
//! database. Writers of one install take turns; those of different installs do not meet.
//!
//! Entries with a time to live leave without a record; the record knows when (`jetstream/usage.rs`) and is
//! late by at most 10 minutes, 3 hours or 3 days (lives up to an hour, a day, a month), on the safe side. If the record is missing, cannot be read, or is full and was last
//! counted more than an hour ago (somebody may have removed entries by hand), the entries are counted anew; the write
//! waits for it within its 5 s, the count goes on without it.
//!
//! # Consistency
//! Reads ask the leader of the stream (`$JS.API.STREAM.MSG.GET`), not any replica (`DIRECT.GET`): every answered write
//! is seen by every later read, with one server and with five. Measured: 147 us against 70 us for 100 bytes, 20,000/s
//! against 47,000/s. Besides, a direct get sends the stored bytes as they are to any reply subject that the asker names:
//! whoever may ask could thereby make the server publish a forged call on `exec.<pool>`. The leader's answer is JSON
//! around the value, which no receiver takes for a message. For the same reason nothing here uses a consumer: the right
//! to make one is the right to have stored bytes delivered anywhere.
//!
//! A list asks for the subjects of the namespace and then for the values of its page, 16 at a time: 7 ms for a page of a
//! namespace with 300 keys, 16 ms with 5,111. Counting 5,411 entries anew takes 0.3 s.
//!
//! Acknowledged writes are on disk when JetStream syncs (every 2 minutes unless `sync_interval` says otherwise): a
//! power failure of a single server may lose the last of them, entry and record together.
//!
//! # NATS away
//! Nothing is sent while the client is disconnected (it would keep the write and send it much later): the operation
//! fails at once, others within 5 s. It heals by itself, also when the bucket has gone: it is made again, empty.

mod checked;
mod error;
mod jetstream;
mod platform;
mod types;

use std::sync::Arc;

use longshore_platform::Platform;

pub use error::{Cause, Invalid, QuotaKind, Refusal, StorageCase, StorageError};
pub use jetstream::{BLOCK, BucketError, BucketSettings, JetStreamSettings, Quotas};
pub use types::{
    Entry, INSTALL_BYTES, KEY_CHARACTERS, NAMESPACE_CHARACTERS, PAGE, PutEntry, Scope, Storage, TTL_MAX,
    TTL_MIN, VALUE_BYTES,
};

/// The storage of an existing platform.
pub fn on_platform(platform: Platform) -> Arc<dyn Storage> {
    Arc::new(checked::Checked(platform::OnPlatform(platform)))
}

/// Another backend behind the checks of names and sizes that all have: a tool's, a test's.
pub fn checked(backend: impl Storage + 'static) -> Arc<dyn Storage> {
    Arc::new(checked::Checked(backend))
}

/// Storage on the JetStream of `client`. Sends nothing yet: the bucket is made by the first operation, or by
/// [`Storage::prepare`].
///
/// The client's inbox prefix must be one that its user may subscribe to, and the user needs the rights that
/// `deploy/nats.conf` gives to `worker`.
///
/// # Errors
/// None today; the client library's way to a stream's name can fail.
pub async fn on_jetstream(
    client: async_nats::Client,
    settings: JetStreamSettings,
) -> Result<Arc<dyn Storage>, BucketError> {
    Ok(Arc::new(checked::Checked(jetstream::JetStream::new(client, settings).await?)))
}
