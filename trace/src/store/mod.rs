//! Traces in Redis: a stream for each tenant, in which a trace is a few neighbouring entries, and an index that knows
//! which.
//!
//! A trace is there, whole, with its row in the index, which a script writes when its entries are in the stream. The script takes the oldest
//! traces away by bytes, by entries and by age, so that what is counted is what is there. A stream for each run costs 2.8 times the
//! memory for a run without host calls, 1.9 times for one with four, and as much for one with forty; seven fields for
//! each record cost 1.2, 1.7 and 3.8 times (`tests/memory.rs` measures it).

mod connection;
mod keys;
mod list;
mod settings;

use std::sync::Arc;

use bytes::Bytes;
use longshore_proto::trace::Summary;
use longshore_proto::{ExecutionId, ExtensionId, TenantId};
use redis::RedisError;
use redis::streams::{StreamId as Entry, StreamRangeReply};
use sha2::{Digest as _, Sha256};

pub use list::{Cursor, Filter, Page};
pub use settings::TraceSettings;

use crate::container::MAX_PACKED_BYTES;
use crate::damage::Damage;
use crate::pack::Packed;
use connection::{Connector, Live};
use keys::{Keys, Row};

/// Bytes of one entry. Nodes of a stream hold 4 KiB by default and larger entries one by one; one of megabytes would
/// hold up everybody else's commands.
const CHUNK: usize = 64 << 10;

/// Entries that are read at once.
const READ: usize = 16;

/// How many older attempts of a run are looked for when the newest is gone.
const ATTEMPTS: u32 = 16;

/// Traces that one call of the script adds, and their bytes: while it makes room for them, Redis serves nobody else. Their number is what a
/// call's own cost is spread over: alone, a trace kept Redis busy for about 90 µs, mostly with commands that one call needs once.
const GROUP: (usize, u64) = (64, 1 << 20);

/// A trace that is to be added.
struct New<'p> {
    /// Its place among those that are published.
    at: usize,
    packed: &'p Packed,
    rest: Vec<u8>,
    cost: u64,
    entries: u64,
    /// Its entries, once they are in the stream.
    ids: Vec<String>,
}

/// Traces of one tenant that are added at once. They fit together, so that none makes room by taking another away.
struct Group<'p> {
    tenant: &'p TenantId,
    traces: Vec<New<'p>>,
    cost: u64,
    entries: u64,
}

impl<'p> Group<'p> {
    fn of(tenant: &'p TenantId, first: New<'p>) -> Self {
        let (cost, entries) = (first.cost, first.entries);
        Self { tenant, traces: vec![first], cost, entries }
    }

    fn takes(&self, new: &New<'p>, settings: &TraceSettings) -> bool {
        let (cost, entries) = (self.cost + new.cost, self.entries + new.entries);
        self.traces.len() < GROUP.0
            && cost <= GROUP.1.min(settings.max_bytes.bytes())
            && entries <= settings.max_entries.get()
    }

    fn add(&mut self, new: New<'p>) {
        self.cost += new.cost;
        self.entries += new.entries;
        self.traces.push(new);
    }
}

/// Why traces could not be kept or had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TraceStoreError {
    /// There is none, or no longer.
    #[error("there is no recorded run {execution} of this tenant: it was not recorded, or has expired")]
    NotFound {
        /// Asked for.
        execution: ExecutionId,
    },
    /// There is one, but not all of it.
    #[error("the recorded run is damaged")]
    Damaged(#[source] Damage),
    /// It alone is more than a tenant may have.
    #[error("a recorded run of {bytes} bytes is more than a tenant may keep ({limit}): raise {setting}")]
    TooLarge {
        /// What it costs.
        bytes: u64,
        /// What there is.
        limit: u64,
        /// The setting.
        setting: &'static str,
    },
    /// A text is no cursor of [`TraceStore::list`].
    #[error("`{0}` is no cursor of a list of recorded runs")]
    Cursor(String),
    /// Redis does not answer, or refuses. Only the kind of error: its text may hold the address, and with it the
    /// password.
    #[error("Redis (RUNNER_DEBUG_REDIS_URL) failed: {0}")]
    Redis(String),
}

impl From<RedisError> for TraceStoreError {
    fn from(error: RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        Self::Redis(format!("{:?} {code}", error.kind()).trim_end().to_owned())
    }
}

impl From<Damage> for TraceStoreError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// Where traces are kept. Cheap to clone; one connection for all clones, made when it is needed.
#[derive(Clone)]
pub struct TraceStore {
    connector: Arc<Connector>,
    settings: TraceSettings,
}

impl std::fmt::Debug for TraceStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceStore").field("prefix", &self.settings.prefix).finish_non_exhaustive()
    }
}

impl TraceStore {
    /// On a server. Nothing is asked of it yet.
    pub fn new(client: redis::Client, settings: &TraceSettings) -> Self {
        let connector = Connector::new(client, settings.timeout.get());
        Self { connector: Arc::new(connector), settings: settings.clone() }
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), TraceStoreError> {
        let mut live = self.connector.get().await?;
        let pong: Result<(), _> = redis::cmd("PING").query_async(&mut live.connection).await;
        self.kept(pong).await
    }

    /// Keeps a trace: false where that attempt of that run is there already, so that it may be tried again.
    ///
    /// # Errors
    /// It is too large, or Redis fails; then nobody knows whether it is kept.
    pub async fn publish(&self, packed: &Packed) -> Result<bool, TraceStoreError> {
        let mut results = self.publish_all(std::slice::from_ref(packed)).await?;
        results.pop().unwrap_or_else(|| Err(TraceStoreError::Redis("no answer".to_owned())))
    }

    /// [`Self::publish`] for several at once, in one round trip; a result for each.
    ///
    /// # Errors
    /// Redis fails: nobody knows which are kept.
    pub async fn publish_all(
        &self,
        traces: &[Packed],
    ) -> Result<Vec<Result<bool, TraceStoreError>>, TraceStoreError> {
        let mut live = self.connector.get().await?;
        // What is refused here has no command and so no answer.
        let mut results = Vec::with_capacity(traces.len());
        let mut groups: Vec<Group<'_>> = Vec::new();
        for (at, packed) in traces.iter().enumerate() {
            let new = self.new_trace(at, packed);
            results.push(new.as_ref().map(|_| false).map_err(TraceStoreError::clone));
            let Ok(new) = new else { continue };
            match groups.iter_mut().rev().find(|group| group.tenant == &packed.tenant) {
                Some(group) if group.takes(&new, &self.settings) => group.add(new),
                _ => groups.push(Group::of(&packed.tenant, new)),
            }
        }
        if groups.is_empty() {
            return Ok(results);
        }
        let refused = self.write(&mut live, &mut groups, &mut results).await;
        // After any refusal: the server may have restarted, and know the scripts no more.
        if self.kept(refused).await? {
            self.connector.forget().await;
        }
        Ok(results)
    }

    /// Writes entries, then rows, then takes back what is nobody's; whether the server has refused anything.
    async fn write(
        &self,
        live: &mut Live,
        groups: &mut [Group<'_>],
        results: &mut [Result<bool, TraceStoreError>],
    ) -> Result<bool, RedisError> {
        let mut refused = self.write_entries(live, groups, results).await?;
        let mut rows = redis::Pipeline::with_capacity(groups.len());
        rows.ignore_errors();
        groups.iter().for_each(|group| self.add_rows(&mut rows, live, group));
        let answers: Vec<Result<Vec<u32>, RedisError>> = rows.query_async(&mut live.connection).await?;
        let mut nobodys = redis::pipe();
        for (group, answer) in groups.iter().zip(answers) {
            let answer = answer.map_err(TraceStoreError::from);
            refused |= answer.is_err();
            let stream = self.keys(group.tenant).stream;
            let written = group.traces.iter().filter(|new| !new.ids.is_empty());
            for (nth, new) in written.enumerate() {
                let added = answer.as_ref().map(|added| added.get(nth) == Some(&1));
                if !matches!(added, Ok(true)) {
                    nobodys.cmd("XDEL").arg(&stream).arg(&new.ids).ignore();
                }
                if let Some(result) = results.get_mut(new.at) {
                    *result = added.map_err(TraceStoreError::clone);
                }
            }
        }
        if !nobodys.is_empty() {
            let () = nobodys.query_async(&mut live.connection).await?;
        }
        Ok(refused)
    }

    /// Writes the entries of all traces. Those of one are neighbours, or are not written.
    async fn write_entries(
        &self,
        live: &mut Live,
        groups: &mut [Group<'_>],
        results: &mut [Result<bool, TraceStoreError>],
    ) -> Result<bool, RedisError> {
        let mut pipeline = redis::Pipeline::new();
        pipeline.ignore_errors();
        // Which answer has the ids of which trace.
        let mut answers_of = Vec::new();
        for (in_group, group) in groups.iter().enumerate() {
            let stream = self.keys(group.tenant).stream;
            for (nth, New { packed, entries, .. }) in group.traces.iter().enumerate() {
                let several = *entries > 1;
                if several {
                    pipeline.cmd("MULTI");
                }
                let name = keys::name(packed.summary.execution, packed.summary.attempt);
                for (at, chunk) in packed.bytes.chunks(CHUNK).enumerate() {
                    let mut command = redis::Cmd::with_capacity(9, chunk.len() + 256);
                    command.arg("XADD").arg(&stream).arg("*").arg("x").arg(&name);
                    command
                        .arg("n")
                        .arg(format_args!("{}/{entries}", at + 1).to_string())
                        .arg("d")
                        .arg(chunk);
                    pipeline.add_command(command);
                }
                if several {
                    pipeline.cmd("EXEC");
                }
                answers_of.push((in_group, nth, pipeline.len() - 1));
            }
        }
        let answers: Vec<Result<redis::Value, RedisError>> =
            pipeline.query_async(&mut live.connection).await?;
        let mut answers = answers.into_iter().enumerate();
        let mut refused = false;
        for (in_group, nth, at) in answers_of {
            let answer = answers.find(|(found, _)| *found == at);
            let ids = answer.map_or(Ok(redis::Value::Nil), |(_, answer)| answer).and_then(ids_of);
            let new = groups.get_mut(in_group).and_then(|group| group.traces.get_mut(nth));
            let Some(new) = new else { continue };
            match ids {
                Ok(ids) => new.ids = ids,
                Err(error) => {
                    refused = true;
                    if let Some(result) = results.get_mut(new.at) {
                        *result = Err(error.into());
                    }
                }
            }
        }
        Ok(refused)
    }

    fn new_trace<'p>(&self, at: usize, packed: &'p Packed) -> Result<New<'p>, TraceStoreError> {
        let Packed { bytes, summary, .. } = packed;
        let rest = Row::rest(bytes, summary).map_err(|_| Damage::Index { reason: "too long".to_owned() })?;
        let cost = (bytes.len() + rest.len()) as u64;
        let entries = bytes.len().div_ceil(CHUNK) as u64;
        let (max_bytes, max_entries) = (self.settings.max_bytes.bytes(), self.settings.max_entries.get());
        let too_large = |limit, setting| TraceStoreError::TooLarge { bytes: cost, limit, setting };
        if cost > max_bytes {
            return Err(too_large(max_bytes, "LONGSHORE_TRACE_MAX_BYTES"));
        }
        if entries > max_entries {
            return Err(too_large(max_entries.saturating_mul(CHUNK as u64), "LONGSHORE_TRACE_MAX_ENTRIES"));
        }
        Ok(New { at, packed, rest, cost, entries, ids: Vec::new() })
    }

    fn add_rows(&self, pipeline: &mut redis::Pipeline, live: &Live, group: &Group<'_>) {
        let keys = self.keys(group.tenant);
        let command = pipeline.cmd("EVALSHA").arg(&live.publish).arg(4).arg(&keys.all());
        command
            .arg(self.settings.max_entries.get())
            .arg(self.settings.max_bytes.bytes())
            .arg(u64::try_from(self.settings.ttl.get().as_millis()).unwrap_or(u64::MAX));
        for New { packed: Packed { summary, .. }, rest, cost, ids, .. } in &group.traces {
            let (Some(first), Some(last)) = (ids.first(), ids.last()) else { continue };
            let mut row = format!("{first} {last} {} {cost} ", ids.len()).into_bytes();
            row.extend_from_slice(rest);
            command.arg(keys::name(summary.execution, summary.attempt)).arg(summary.started_at_ms);
            command.arg(cost).arg(row);
        }
    }

    /// What the list says of one run: of an attempt, or of its newest.
    ///
    /// # Errors
    /// There is none, or Redis fails.
    pub async fn summary(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        attempt: Option<u32>,
    ) -> Result<Summary, TraceStoreError> {
        let mut live = self.connector.get().await?;
        let found = self.row(&mut live, &self.keys(tenant), execution, attempt).await;
        Ok(self.checked(found).await?.summary)
    }

    /// The packed trace of a run: of an attempt, or of its newest. Its digest was checked; the rest is
    /// [`crate::unpack`]'s.
    ///
    /// # Errors
    /// There is none, entries are missing or are not those that were written, or Redis fails.
    pub async fn fetch(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        attempt: Option<u32>,
    ) -> Result<Bytes, TraceStoreError> {
        let mut live = self.connector.get().await?;
        let keys = self.keys(tenant);
        let bytes = async {
            let row = self.row(&mut live, &keys, execution, attempt).await?;
            read(&mut live, &keys, &row).await
        };
        let bytes = bytes.await;
        self.checked(bytes).await
    }

    async fn row(
        &self,
        live: &mut Live,
        keys: &Keys,
        execution: ExecutionId,
        attempt: Option<u32>,
    ) -> Result<Row, TraceStoreError> {
        let not_found = TraceStoreError::NotFound { execution };
        let mut wanted = redis::cmd("HMGET");
        wanted.arg(&keys.index);
        let row = if let Some(attempt) = attempt {
            wanted.arg(keys::name(execution, attempt));
            let [row]: [Option<Vec<u8>>; 1] = wanted.query_async(&mut live.connection).await?;
            row
        } else {
            wanted.arg(keys::name(execution, 1)).arg(execution.to_string());
            let (first, newest): (Option<Vec<u8>>, Option<u32>) =
                wanted.query_async(&mut live.connection).await?;
            match newest {
                None => first,
                Some(newest) => {
                    let mut older = redis::cmd("HMGET");
                    older.arg(&keys.index);
                    for attempt in (newest.saturating_sub(ATTEMPTS).max(1)..=newest).rev() {
                        older.arg(keys::name(execution, attempt));
                    }
                    let rows: Vec<Option<Vec<u8>>> = older.query_async(&mut live.connection).await?;
                    rows.into_iter().flatten().next().or(first)
                }
            }
        };
        let row = Row::parse(&row.ok_or(not_found)?)?;
        let found = row.summary.execution;
        if found != execution || attempt.is_some_and(|attempt| attempt != row.summary.attempt) {
            return Err(
                Damage::ForeignRun { expected: execution, found, attempt: row.summary.attempt }.into()
            );
        }
        Ok(row)
    }

    /// Removes all traces of a tenant; how many there were.
    ///
    /// # Errors
    /// Redis fails.
    pub async fn remove_tenant(&self, tenant: &TenantId) -> Result<u64, TraceStoreError> {
        let mut live = self.connector.get().await?;
        let keys = self.keys(tenant);
        let answer: Result<(u64, u64), _> = redis::pipe()
            .atomic()
            .cmd("ZCARD")
            .arg(&keys.list)
            .cmd("UNLINK")
            .arg(&keys.all())
            .query_async(&mut live.connection)
            .await;
        Ok(self.kept(answer).await?.0)
    }

    /// Removes the traces of one extension of a tenant; how many there were.
    ///
    /// # Errors
    /// Redis fails.
    pub async fn remove_extension(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
    ) -> Result<u64, TraceStoreError> {
        let filter = Filter { extension: Some(extension.clone()), ..Filter::default() };
        let mut removed = 0;
        let mut cursor: Option<Cursor> = None;
        loop {
            let page = self.list(tenant, &filter, cursor.as_ref(), list::MAX_PAGE).await?;
            let names = page.traces.iter().map(|summary| keys::name(summary.execution, summary.attempt));
            removed += self.remove_names(tenant, Which::All, names.collect()).await?;
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(removed),
            }
        }
    }

    /// Removes one attempt of a run; whether it was there.
    ///
    /// # Errors
    /// Redis fails.
    pub async fn remove(
        &self,
        tenant: &TenantId,
        execution: ExecutionId,
        attempt: u32,
    ) -> Result<bool, TraceStoreError> {
        Ok(self.remove_names(tenant, Which::All, vec![keys::name(execution, attempt)]).await? > 0)
    }

    async fn remove_names(
        &self,
        tenant: &TenantId,
        which: Which,
        names: Vec<String>,
    ) -> Result<u64, TraceStoreError> {
        if names.is_empty() {
            return Ok(0);
        }
        let mut live = self.connector.get().await?;
        let removed: Result<u64, _> = redis::cmd("EVALSHA")
            .arg(&live.remove)
            .arg(4)
            .arg(&self.keys(tenant).all())
            .arg(u8::from(which == Which::Gone))
            .arg(names)
            .query_async(&mut live.connection)
            .await;
        self.kept(removed).await
    }

    fn keys(&self, tenant: &TenantId) -> Keys {
        Keys::of(&self.settings.prefix, tenant)
    }

    /// After a failure the connection is made anew.
    async fn kept<T>(&self, answer: Result<T, RedisError>) -> Result<T, TraceStoreError> {
        self.checked(answer.map_err(TraceStoreError::from)).await
    }

    async fn checked<T>(&self, answer: Result<T, TraceStoreError>) -> Result<T, TraceStoreError> {
        if matches!(answer, Err(TraceStoreError::Redis(_))) {
            self.connector.forget().await;
        }
        answer
    }
}

/// The ids in the answer to what wrote a trace.
fn ids_of(answer: redis::Value) -> Result<Vec<String>, RedisError> {
    let ids: Vec<String> = match answer {
        redis::Value::Array(_) => redis::FromRedisValue::from_redis_value(answer)?,
        id => vec![redis::FromRedisValue::from_redis_value(id)?],
    };
    Ok(ids)
}

/// Which of the named traces are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those without a first entry when the script runs: one may have been written since it was missed.
    Gone,
}

/// Reads the entries of a trace and proves that they are all of it and nothing else.
async fn read(live: &mut Live, keys: &Keys, row: &Row) -> Result<Bytes, TraceStoreError> {
    if row.bytes > MAX_PACKED_BYTES as u64 {
        return Err(Damage::packed_too_large().into());
    }
    let name = keys::name(row.summary.execution, row.summary.attempt);
    let mut bytes: Vec<u8> = Vec::with_capacity(usize::try_from(row.bytes).unwrap_or_default());
    let (mut found, mut from) = (0_u32, row.first.to_string());
    loop {
        let reply: StreamRangeReply = redis::cmd("XRANGE")
            .arg(&keys.stream)
            .arg(&from)
            .arg(row.last.to_string())
            .arg("COUNT")
            .arg(READ)
            .query_async(&mut live.connection)
            .await?;
        let full = reply.ids.len() == READ;
        for entry in reply.ids {
            found += 1;
            from = format!("({}", entry.id);
            bytes.extend_from_slice(&chunk(&entry, &name, found, row)?);
            if bytes.len() as u64 > row.bytes {
                return Err(Damage::Surplus { bytes: bytes.len() as u64 - row.bytes }.into());
            }
        }
        if !full {
            break;
        }
    }
    if found == 0 {
        let exists: bool = redis::cmd("EXISTS").arg(&keys.stream).query_async(&mut live.connection).await?;
        if !exists {
            return Err(Damage::StreamGone.into());
        }
    }
    if found < row.chunks {
        return Err(Damage::Trimmed { expected: row.chunks, found }.into());
    }
    if (bytes.len() as u64) < row.bytes {
        return Err(Damage::Truncated { expected: row.bytes, found: bytes.len() as u64 }.into());
    }
    match bytes.split_last_chunk::<32>() {
        Some((covered, digest)) if *digest == row.digest && Sha256::digest(covered).as_slice() == digest => {
            Ok(Bytes::from(bytes))
        }
        _ => Err(Damage::Digest.into()),
    }
}

/// The bytes of an entry that should be the `number`th of a trace. One in the wrong place is told as what it is:
/// entries before it are gone, or it is somebody else's.
fn chunk(entry: &Entry, name: &str, number: u32, row: &Row) -> Result<Vec<u8>, Damage> {
    let foreign = |reason: String| Damage::ForeignEntry { entry: entry.id.clone(), reason };
    let whose: Option<String> = entry.get("x");
    if whose.as_deref() != Some(name) {
        return Err(foreign(format!("it says `{}`", whose.unwrap_or_default().escape_debug())));
    }
    let at: Option<String> = entry.get("n");
    let place = at.as_deref().and_then(|at| at.split_once('/'));
    let place = place.and_then(|(at, of)| Some((at.parse::<u32>().ok()?, of.parse::<u32>().ok()?)));
    match place {
        Some((at, of)) if of == row.chunks && at == number => {}
        Some((at, of)) if of == row.chunks && at > number => {
            // How many are gone before it; those after it may be gone too.
            return Err(Damage::Trimmed { expected: of, found: of.saturating_sub(at - number) });
        }
        _ => return Err(foreign(format!("it is no part {number} of {}", row.chunks))),
    }
    entry.get("d").ok_or_else(|| foreign("it has no bytes".to_owned()))
}
