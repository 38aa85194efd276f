//! The scheduler interface over the bucket.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use longshore_proto::{PoolName, Run, RunHttp};
use longshore_service::nats::Watcher;
use uuid::Builder;

use super::key::InstallKey;
use super::kv::{KvError, ScheduleStore, Written};
use super::record::{RECORD_VERSION, Record};
use crate::model::{
    EndpointInfo, NewSchedule, Schedule, ScheduleChange, Schedules, SchedulesError, Scope, WriteError,
};
use crate::validate::{self, Faults};
use crate::{MAX_SCHEDULES, unix_ms};

/// The longest record that is written; see the bucket's own limit, which is above it.
const MAX_RECORD_BYTES: usize = 900 * 1024;

/// How often a change is tried again when the schedule has changed in between.
const ATTEMPTS: usize = 8;

/// What a standalone backend needs to know.
#[derive(Debug, Clone)]
pub struct StandaloneConfig {
    /// How far apart two runs must be (`LONGSHORE_SCHEDULE_MIN_INTERVAL_MS`).
    pub min_interval: Duration,
    /// The workers that run what this worker's guests schedule: its own pool.
    pub pool: PoolName,
}

/// Schedules in JetStream, fired by the gateways.
pub struct NatsSchedules {
    store: ScheduleStore,
    config: StandaloneConfig,
}

impl NatsSchedules {
    /// A backend on this connection. The client must make its inboxes where its user may listen
    /// ([`longshore_service::nats::Options::inbox_prefix`]). The bucket is opened when it is first needed; gateways make it.
    pub fn new(client: async_nats::Client, link: Watcher, config: StandaloneConfig) -> Self {
        Self { store: ScheduleStore::new(client, link), config }
    }

    async fn add(&self, install: &InstallKey, record: &Record) -> Result<(), WriteError> {
        let key = install.schedule(&record.id).ok_or_else(|| WriteError::new("no such install"))?;
        let too_many =
            || WriteError::new(format!("quota exceeded: an install has at most {MAX_SCHEDULES} schedules"));
        let before = self.store.list(&install.all()).await.map_err(WriteError::internal)?;
        if before.len() >= MAX_SCHEDULES {
            return Err(too_many());
        }
        match self.store.add(&key, record).await.map_err(WriteError::internal)? {
            Written::Done(_) => {}
            // 122 random bits twice.
            Written::Conflict => return Err(WriteError::internal("an id was used twice")),
        }
        // Others may have been made since it was counted. Whoever finds more than the limit takes its own back: at worst
        // several do where one would have fitted.
        let after = self.store.list(&install.all()).await.map_err(WriteError::internal)?;
        if after.len() > MAX_SCHEDULES {
            self.store.remove(&key).await.map_err(WriteError::internal)?;
            return Err(too_many());
        }
        Ok(())
    }
}

fn install_key(scope: &Scope<'_>) -> Option<InstallKey> {
    InstallKey::new(&scope.run.context.tenant, scope.install)
}

fn readable(error: KvError) -> SchedulesError {
    SchedulesError::Internal(error.into())
}

fn not_found() -> WriteError {
    WriteError::new("schedule not found")
}

/// What later runs need of the run that makes or changes a schedule. Its secrets are kept as they came, so only sealed ones are.
fn snapshot(run: &Run) -> Result<Run, WriteError> {
    if run.secret_envelope.as_ref().is_some_and(longshore_secrets::is_plain) {
        return Err(WriteError::new("the call's secrets are not sealed, and are not kept in the clear"));
    }
    let mut run = run.clone();
    run.context.request_id = None;
    run.context.trigger = None;
    run.http = RunHttp {
        method: String::new(),
        url: String::new(),
        headers: Vec::new(),
        scheme: None,
        authority: None,
    };
    run.user = None;
    Ok(run)
}

fn checked_size(record: &Record) -> Result<(), WriteError> {
    let bytes = record.encode().map_err(WriteError::internal)?.len();
    if bytes <= MAX_RECORD_BYTES {
        return Ok(());
    }
    let text =
        format!("with config and secrets the schedule takes {bytes} bytes; {MAX_RECORD_BYTES} are allowed");
    Err(WriteError::fields(BTreeMap::from([("payload".to_owned(), text)])))
}

#[async_trait]
impl Schedules for NatsSchedules {
    async fn list(&self, scope: &Scope<'_>) -> Result<Vec<Schedule>, SchedulesError> {
        let install = install_key(scope).ok_or(SchedulesError::Denied)?;
        let records = self.store.list(&install.all()).await.map_err(readable)?;
        Ok(records.iter().map(|(_, record, _)| record.shown()).collect())
    }

    async fn get(&self, scope: &Scope<'_>, id: &str) -> Result<Option<Schedule>, SchedulesError> {
        let install = install_key(scope).ok_or(SchedulesError::Denied)?;
        let Some(key) = install.schedule(id) else { return Ok(None) };
        let found = self.store.read(&key).await.map_err(readable)?;
        Ok(found.map(|(record, _)| record.shown()))
    }

    async fn create(&self, scope: &Scope<'_>, new: NewSchedule) -> Result<String, WriteError> {
        let install = install_key(scope).ok_or_else(|| WriteError::new("no such install"))?;
        let now = unix_ms();
        let mut faults = Faults::default();
        let endpoint = faults.take("endpoint", validate::endpoint(&new.endpoint, scope.endpoints));
        let timezone = new.timezone.unwrap_or_else(|| "UTC".to_owned()).trim().to_owned();
        let table = validate::timetable(&new.cron, &timezone, self.config.min_interval, now, &mut faults);
        let name = faults.take("name", validate::name(new.name.as_deref().unwrap_or_default()));
        let payload = faults.take("payload", validate::payload(new.payload.as_deref().unwrap_or_default()));
        let (Some(endpoint), Some(table), Some(name), Some(payload)) = (endpoint, table, name, payload)
        else {
            return Err(WriteError::fields(faults.0));
        };
        let enabled = new.enabled.unwrap_or(true);
        let record = Record {
            v: RECORD_VERSION,
            tenant: scope.run.context.tenant.clone(),
            install: scope.install.to_owned(),
            id: Builder::from_random_bytes(rand::random()).into_uuid().to_string(),
            method: endpoint.method.to_ascii_uppercase(),
            path: endpoint.path.clone(),
            name,
            cron: new.cron.trim().to_owned(),
            timezone,
            enabled,
            payload,
            created_ms: now,
            next_ms: table.next_after(now).filter(|_| enabled),
            last_due_ms: None,
            running: None,
            last: None,
            pool: self.config.pool.clone(),
            run: snapshot(scope.run)?,
        };
        checked_size(&record)?;
        self.add(&install, &record).await?;
        Ok(record.id)
    }

    async fn update(&self, scope: &Scope<'_>, id: &str, change: ScheduleChange) -> Result<(), WriteError> {
        let install = install_key(scope).ok_or_else(|| WriteError::new("no such install"))?;
        let key = install.schedule(id).ok_or_else(not_found)?;
        for _ in 0..ATTEMPTS {
            let found = self.store.read(&key).await.map_err(WriteError::internal)?;
            let (record, revision) = found.ok_or_else(not_found)?;
            let changed = changed(record, scope, &change, &self.config)?;
            checked_size(&changed)?;
            match self.store.replace(&key, &changed, revision).await.map_err(WriteError::internal)? {
                Written::Done(_) => return Ok(()),
                Written::Conflict => {}
            }
        }
        Err(WriteError::internal(KvError::Contended))
    }

    async fn delete(&self, scope: &Scope<'_>, id: &str) -> Result<(), WriteError> {
        let install = install_key(scope).ok_or_else(|| WriteError::new("no such install"))?;
        let key = install.schedule(id).ok_or_else(not_found)?;
        let found = self.store.remove(&key).await.map_err(WriteError::internal)?;
        if found { Ok(()) } else { Err(not_found()) }
    }

    async fn endpoints(&self, scope: &Scope<'_>) -> Result<Vec<EndpointInfo>, SchedulesError> {
        Ok(validate::endpoint_infos(scope.install, scope.endpoints))
    }
}

/// The record after a change. A claim stays: the run that holds it ends as it would have.
fn changed(
    mut record: Record,
    scope: &Scope<'_>,
    change: &ScheduleChange,
    config: &StandaloneConfig,
) -> Result<Record, WriteError> {
    let now = unix_ms();
    let mut faults = Faults::default();
    if let Some(selector) = &change.endpoint
        && let Some(endpoint) = faults.take("endpoint", validate::endpoint(selector, scope.endpoints))
    {
        record.method = endpoint.method.to_ascii_uppercase();
        record.path = endpoint.path.clone();
    }
    if let Some(name) = &change.name
        && let Some(name) = faults.take("name", validate::name(name))
    {
        record.name = name;
    }
    if let Some(payload) = &change.payload
        && let Some(payload) = faults.take("payload", validate::payload(payload))
    {
        record.payload = payload;
    }
    let (cron, zone) = (record.cron.clone(), record.timezone.clone());
    record.cron = change.cron.as_deref().map_or_else(|| cron.clone(), |cron| cron.trim().to_owned());
    record.timezone = change.timezone.as_deref().map_or_else(|| zone.clone(), |zone| zone.trim().to_owned());
    let was_enabled = record.enabled;
    record.enabled = change.enabled.unwrap_or(was_enabled);
    let retimed = record.cron != cron || record.timezone != zone;
    if change.cron.is_some() || change.timezone.is_some() {
        validate::timetable(&record.cron, &record.timezone, config.min_interval, now, &mut faults);
    }
    if !faults.0.is_empty() {
        return Err(WriteError::fields(faults.0));
    }
    // A time that is due stays due through a change of anything else.
    if !record.enabled {
        record.next_ms = None;
    } else if retimed || !was_enabled || record.next_ms.is_none() {
        record.next_ms = record.next_after(now);
    }
    record.pool = config.pool.clone();
    record.run = snapshot(scope.run)?;
    Ok(record)
}
