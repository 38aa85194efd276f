//! What is kept of a schedule, and how it may change. Pure: the store writes what these functions give, by
//! compare-and-set.

use chrono::{DateTime, SecondsFormat};
use longshore_proto::{PoolName, Run, TenantId};
use serde::{Deserialize, Serialize};

use crate::model::Schedule;
use crate::timetable::{self, Timetable};

/// The version that this build writes. A later one is left alone: it may mean something that this build would destroy.
pub(crate) const RECORD_VERSION: u16 = 1;

/// The longest error text that is kept.
const MAX_ERROR_CHARS: usize = 500;

/// A stored schedule, with what its runs need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of the writer.
    pub v: u16,
    /// Whose.
    pub tenant: TenantId,
    /// Of which install.
    pub install: String,
    /// A UUID.
    pub id: String,
    /// `GET` or `POST`.
    pub method: String,
    /// The endpoint's path.
    pub path: String,
    /// For people.
    #[serde(default)]
    pub name: Option<String>,
    /// Five fields.
    pub cron: String,
    /// IANA.
    pub timezone: String,
    /// Whether it fires.
    pub enabled: bool,
    /// JSON text.
    #[serde(default)]
    pub payload: Option<String>,
    /// When it was made; all times are milliseconds since 1970.
    pub created_ms: i64,
    /// When it is due; absent while disabled. What is past is due now.
    #[serde(default)]
    pub next_ms: Option<i64>,
    /// The due time that was taken last. A change of the schedule does not make it due again, whatever the clock of the
    /// worker says that writes the change.
    #[serde(default)]
    pub last_due_ms: Option<i64>,
    /// The run that is under way.
    #[serde(default)]
    pub running: Option<Claim>,
    /// The run before.
    #[serde(default)]
    pub last: Option<LastRun>,
    /// Which workers run it.
    #[serde(default)]
    pub pool: PoolName,
    /// What a run needs, of the run that made or last changed the schedule: context, rights, limits, sealed secrets. No
    /// request, no user. It goes when installs have a registry and are looked up when a schedule fires.
    pub run: Run,
}

/// A due time that somebody has taken, before its call is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The gateway.
    pub holder: String,
    /// Counts the holder's claims: one that was given back and the next of the same time are two.
    pub number: u64,
    /// Which due time.
    pub due_ms: i64,
    /// When it was taken, by the holder's clock; for people and `last-run-at`.
    pub at_ms: i64,
    /// How long after this the run has certainly ended. No machine's clock is compared with another's: whoever finds the claim counts from
    /// then.
    pub budget_ms: u64,
}

impl Claim {
    /// Whether both are the same claim.
    pub fn is_same(&self, other: &Self) -> bool {
        self.holder == other.holder && self.number == other.number
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// When it began.
    pub at_ms: i64,
    /// How it ended.
    pub status: LastStatus,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastStatus {
    /// The guest answered below 400.
    Success,
    /// Anything else.
    Failed,
}

/// As much of a record as firing needs to know of all schedules at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) revision: u64,
    pub(crate) tenant: String,
    /// `None` for a disabled one.
    pub(crate) next_ms: Option<i64>,
    pub(crate) running: Option<Claim>,
    pub(crate) timeout_ms: u64,
}

/// Why stored bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON of this shape.
    #[error("it is not as this build writes it")]
    Json(#[source] serde_json::Error),
    /// From a later build.
    #[error("it has version {0}, which is later than this build's")]
    Later(u16),
}

impl Record {
    pub(crate) fn decode(json: &[u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(json).map_err(RecordError::Json)?;
        if record.v > RECORD_VERSION { Err(RecordError::Later(record.v)) } else { Ok(record) }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    pub(crate) fn seen(&self, revision: u64) -> Seen {
        Seen {
            revision,
            tenant: self.tenant.as_str().to_owned(),
            next_ms: self.next_ms.filter(|_| self.enabled),
            running: self.running.clone(),
            timeout_ms: self.run.limits.timeout_ms,
        }
    }

    /// The next time after `now_ms` and after the last that was taken, for an enabled schedule.
    pub(crate) fn next_after(&self, now_ms: i64) -> Option<i64> {
        let now_ms = self.last_due_ms.map_or(now_ms, |last| last.max(now_ms));
        let zone = timetable::zone(&self.timezone).ok()?;
        Timetable::new(&self.cron, zone).ok()?.next_after(now_ms).filter(|_| self.enabled)
    }

    /// Takes the due time; `None` if it is not there to be taken. However many times were missed, the next one is after now:
    /// they are made up for by this one run.
    pub(crate) fn claim(&self, claim: &Claim) -> Option<Self> {
        let due = self.enabled && self.running.is_none() && self.next_ms == Some(claim.due_ms);
        due.then(|| Self {
            next_ms: self.next_after(claim.at_ms.max(claim.due_ms)),
            last_due_ms: Some(claim.due_ms),
            running: Some(claim.clone()),
            ..self.clone()
        })
    }

    /// Gives the due time back, for a claim whose call was never sent.
    pub(crate) fn release(&self, claim: &Claim) -> Option<Self> {
        self.holds(claim).then(|| Self {
            running: None,
            next_ms: if self.enabled { Some(claim.due_ms) } else { None },
            last_due_ms: Some(claim.due_ms - 1),
            ..self.clone()
        })
    }

    /// Ends the run that holds this claim.
    pub(crate) fn finish(&self, claim: &Claim, status: LastStatus, error: Option<&str>) -> Option<Self> {
        let error = error.map(|text| text.chars().take(MAX_ERROR_CHARS).collect());
        self.holds(claim).then(|| Self {
            running: None,
            last: Some(LastRun { at_ms: claim.at_ms, status, error }),
            ..self.clone()
        })
    }

    pub(crate) fn holds(&self, claim: &Claim) -> bool {
        self.running.as_ref().is_some_and(|running| running.is_same(claim))
    }

    /// As the guest sees it.
    pub(crate) fn shown(&self) -> Schedule {
        let last = self.last.as_ref();
        let at = self.running.as_ref().map(|r| r.at_ms).or_else(|| last.map(|l| l.at_ms));
        let status = match (&self.running, last) {
            (Some(_), _) => Some("running"),
            (None, Some(LastRun { status: LastStatus::Success, .. })) => Some("success"),
            (None, Some(LastRun { status: LastStatus::Failed, .. })) => Some("failed"),
            (None, None) => None,
        };
        Schedule {
            id: self.id.clone(),
            endpoint_path: self.path.clone(),
            endpoint_method: self.method.clone(),
            name: self.name.clone(),
            cron: self.cron.clone(),
            timezone: self.timezone.clone(),
            enabled: self.enabled,
            payload: self.payload.clone(),
            last_run_at: at.and_then(rfc3339),
            last_run_status: status.map(str::to_owned),
            last_error: last.filter(|_| self.running.is_none()).and_then(|l| l.error.clone()),
            created_at: rfc3339(self.created_ms),
        }
    }
}

fn rfc3339(ms: i64) -> Option<String> {
    Some(DateTime::from_timestamp_millis(ms)?.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
pub(crate) mod tests {
    use longshore_proto::{Limits, RunContext, RunHttp};

    use super::*;

    pub(crate) fn run(tenant: &str) -> Run {
        Run {
            context: RunContext {
                request_id: None,
                tenant: tenant.parse().unwrap(),
                extension: "e".parse().unwrap(),
                install_id: Some("i".into()),
                version_id: None,
                content_hash: "ab".repeat(32).parse().unwrap(),
                config: Default::default(),
                trigger: None,
            },
            http: RunHttp {
                method: "GET".into(),
                url: "/".into(),
                headers: vec![],
                scheme: None,
                authority: None,
            },
            limits: Limits::default(),
            capabilities: Default::default(),
            user: None,
            secret_envelope: None,
            egress: None,
            capture: Default::default(),
        }
    }

    pub(crate) fn record(next_ms: i64) -> Record {
        Record {
            v: RECORD_VERSION,
            tenant: "t".parse().unwrap(),
            install: "i".into(),
            id: "0f0e0d0c-0b0a-4908-8706-050403020100".into(),
            method: "POST".into(),
            path: "/x".into(),
            name: None,
            cron: "*/5 * * * *".into(),
            timezone: "UTC".into(),
            enabled: true,
            payload: None,
            created_ms: 0,
            next_ms: Some(next_ms),
            last_due_ms: None,
            running: None,
            last: None,
            pool: PoolName::default(),
            run: run("t"),
        }
    }

    fn claim(due_ms: i64, at_ms: i64) -> Claim {
        Claim { holder: "me".into(), number: due_ms as u64, due_ms, at_ms, budget_ms: 1_000 }
    }

    #[test]
    fn many_missed_times_are_one_run() {
        let hours_late = 7 * 3_600_000 + 60_000;
        let claimed = record(300_000).claim(&claim(300_000, hours_late)).unwrap();
        assert_eq!(claimed.next_ms, Some(7 * 3_600_000 + 300_000));
    }

    #[test]
    fn a_clock_that_is_behind_does_not_take_a_due_time_twice() {
        let claimed = record(300_000).claim(&claim(300_000, 100)).unwrap();
        assert_eq!(claimed.next_ms, Some(600_000));
    }

    #[test]
    fn a_change_by_a_slower_clock_does_not_make_a_due_time_due_again() {
        let mine = claim(300_000, 300_500);
        let taken = record(300_000).claim(&mine).unwrap();
        assert_eq!(taken.next_after(290_000), Some(600_000));
        assert_eq!(taken.release(&mine).unwrap().next_after(290_000), Some(300_000), "it was not run");
    }

    #[test]
    fn a_due_time_is_taken_once_and_only_while_it_is_due() {
        let due = record(300_000);
        let taken = due.claim(&claim(300_000, 300_001)).unwrap();
        assert_eq!(taken.claim(&claim(300_000, 300_001)), None);
        assert_eq!(taken.claim(&claim(600_000, 600_001)), None, "the run before has not ended");
        assert_eq!(due.claim(&claim(600_000, 600_001)), None);
        assert_eq!(Record { enabled: false, ..due }.claim(&claim(300_000, 300_001)), None);
    }

    #[test]
    fn only_the_claim_in_force_can_be_ended_or_given_back() {
        let mine = claim(300_000, 300_500);
        let taken = record(300_000).claim(&mine).unwrap();
        let others = Claim { holder: "other".into(), ..claim(300_000, 300_500) };
        assert_eq!(taken.finish(&others, LastStatus::Success, None), None);
        assert_eq!(taken.release(&claim(0, 0)), None);
        assert_eq!(taken.release(&mine).unwrap().next_ms, Some(300_000));
        let ended = taken.finish(&mine, LastStatus::Failed, Some(&"x".repeat(1_000))).unwrap();
        assert_eq!((ended.running.clone(), ended.next_ms), (None, Some(600_000)));
        assert_eq!(ended.last.as_ref().unwrap().error.as_ref().unwrap().len(), 500);
        assert_eq!(ended.finish(&mine, LastStatus::Success, None), None);
    }

    #[test]
    fn a_schedule_that_was_disabled_during_its_run_is_not_due_again() {
        let mine = claim(300_000, 300_500);
        let mut taken = record(300_000).claim(&mine).unwrap();
        (taken.enabled, taken.next_ms) = (false, None);
        assert_eq!(taken.release(&mine).unwrap().next_ms, None);
        assert_eq!(taken.finish(&mine, LastStatus::Success, None).unwrap().next_ms, None);
    }

    #[test]
    fn the_guest_sees_when_and_how_the_last_run_went() {
        let mine = claim(300_000, 300_500);
        let taken = record(300_000).claim(&mine).unwrap();
        let shown = taken.shown();
        assert_eq!(shown.last_run_status.as_deref(), Some("running"));
        assert_eq!(shown.last_run_at.as_deref(), Some("1970-01-01T00:05:00.500Z"));
        let shown = taken.finish(&mine, LastStatus::Failed, Some("why")).unwrap().shown();
        assert_eq!(shown.last_run_status.as_deref(), Some("failed"));
        assert_eq!(shown.last_error.as_deref(), Some("why"));
        assert_eq!(record(1).shown().last_run_at, None);
    }

    #[test]
    fn a_record_survives_its_encoding_and_a_later_one_is_left_alone() {
        let mine = claim(300_000, 300_500);
        let record = record(300_000).claim(&mine).unwrap();
        assert_eq!(Record::decode(&record.encode().unwrap()).unwrap(), record);
        let later = Record { v: 2, ..record };
        assert!(matches!(Record::decode(&later.encode().unwrap()), Err(RecordError::Later(2))));
        assert!(matches!(Record::decode(b"{}"), Err(RecordError::Json(_))));
    }
}
