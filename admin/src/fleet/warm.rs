//! Making a bundle ready in every worker of a pool.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_proto::fleet::{ToWorkers, Warm, Warmed};
use longshore_proto::{BootId, ErrorCode, PoolName, subject, wire};
use tokio::time::Instant;

use super::{AskError, Asker, Heard};
use crate::api::{WarmReport, WarmState, WorkerWarm};

/// How often it is asked again: core NATS may lose the question, and a worker that is compiling four others already says so.
const AGAIN: Duration = Duration::from_secs(2);

/// How often it is looked whether those who are waited for are still there.
const LOOK: Duration = Duration::from_millis(250);

impl Asker {
    /// Has the workers of `pool` begin with a bundle that will probably be installed; nobody waits for their answers.
    ///
    /// # Errors
    /// Nobody could be asked.
    pub async fn warm_ahead(&self, pool: &PoolName, warm: Warm) -> Result<(), AskError> {
        self.ask(&subject::control_all(pool), &ToWorkers::Warm(warm)).await.map(drop)
    }

    /// Has the workers of `pool` fetch and compile a bundle, and waits at most `wait` until each of them has said that it is ready or
    /// cannot be.
    ///
    /// # Errors
    /// Nobody could be asked.
    pub async fn warm(
        &self,
        heard: &Heard,
        pool: &PoolName,
        warm: Warm,
        wait: Duration,
    ) -> Result<WarmReport, AskError> {
        let began = Instant::now();
        let until = began + wait;
        // A service that has just started does not know the workers yet.
        while heard.listening() < super::SILENT && heard.workers(pool).is_empty() && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
        let question = ToWorkers::Warm(warm);
        let subject = subject::control_all(pool);
        let mut answers = self.ask(&subject, &question).await?;
        let mut asked = Instant::now();
        let mut workers: BTreeMap<BootId, WorkerWarm> = BTreeMap::new();
        loop {
            look(&mut workers, &heard.workers(pool));
            let waiting = workers.values().any(|worker| worker.state == WarmState::Compiling);
            let now = Instant::now();
            if !waiting || now >= until {
                break;
            }
            if now >= asked + AGAIN {
                asked = now;
                // An outage in between is no reason to give up before the time is over.
                let _ = answers.again(&subject, &question).await;
            }
            let turn = LOOK.min(until.saturating_duration_since(now));
            if let Ok(Some(payload)) = tokio::time::timeout(turn, answers.next()).await
                && let Ok(warmed) = wire::decode::<Warmed>(&payload)
            {
                answered(&mut workers, warmed);
            }
        }
        let complete = !workers.is_empty() && workers.values().all(|worker| worker.state == WarmState::Ready);
        Ok(WarmReport { pool: pool.to_string(), complete, workers: workers.into_values().collect() })
    }
}

/// Who is there now: new ones are waited for, those who have gone without an answer are not.
fn look(workers: &mut BTreeMap<BootId, WorkerWarm>, there: &BTreeMap<BootId, String>) {
    for (worker, name) in there {
        let known = workers.entry(*worker).or_insert_with(|| WorkerWarm {
            worker: worker.to_string(),
            name: None,
            state: WarmState::Compiling,
            took_ms: 0,
            error: None,
        });
        if known.name.is_none() && !name.is_empty() {
            known.name = Some(name.clone());
        }
    }
    workers.retain(|worker, known| known.state != WarmState::Compiling || there.contains_key(worker));
}

/// A worker that has no room now is asked again; any other answer is its last, the good one above all.
fn answered(workers: &mut BTreeMap<BootId, WorkerWarm>, warmed: Warmed) {
    if warmed.error.as_ref().is_some_and(|error| error.code == ErrorCode::Overloaded) {
        return;
    }
    let known = workers.entry(warmed.worker).or_insert_with(|| WorkerWarm {
        worker: warmed.worker.to_string(),
        name: None,
        state: WarmState::Compiling,
        took_ms: 0,
        error: None,
    });
    if known.state == WarmState::Ready {
        return;
    }
    known.took_ms = warmed.took_ms;
    known.state = if warmed.error.is_none() { WarmState::Ready } else { WarmState::Error };
    known.error = warmed.error.map(|error| error.to_string());
}

#[cfg(test)]
mod tests {
    use longshore_proto::CallError;

    use super::*;

    fn warmed(id: u8, error: Option<ErrorCode>) -> Warmed {
        let error = error.map(|code| CallError::new(code, "why"));
        Warmed { v: 1, worker: BootId::from_bytes([id; 16]), error, took_ms: 7 }
    }

    fn there(ids: &[u8]) -> BTreeMap<BootId, String> {
        ids.iter().map(|id| (BootId::from_bytes([*id; 16]), format!("w{id}"))).collect()
    }

    #[test]
    fn a_worker_that_has_gone_is_not_waited_for_and_one_that_came_is() {
        let mut workers = BTreeMap::new();
        look(&mut workers, &there(&[1, 2]));
        answered(&mut workers, warmed(1, None));
        look(&mut workers, &there(&[3]));
        let states: Vec<_> = workers.values().map(|w| (w.name.clone().unwrap(), w.state)).collect();
        let expected = [("w1".to_owned(), WarmState::Ready), ("w3".to_owned(), WarmState::Compiling)];
        assert_eq!(states, expected);
    }

    #[test]
    fn no_room_is_no_answer_and_ready_is_the_last_word() {
        let mut workers = BTreeMap::new();
        look(&mut workers, &there(&[1]));
        let state = |workers: &BTreeMap<BootId, WorkerWarm>| workers.values().next().unwrap().state;
        answered(&mut workers, warmed(1, Some(ErrorCode::Overloaded)));
        assert_eq!(state(&workers), WarmState::Compiling);
        answered(&mut workers, warmed(1, Some(ErrorCode::BundleNotFound)));
        assert_eq!(state(&workers), WarmState::Error);
        answered(&mut workers, warmed(1, None));
        answered(&mut workers, warmed(1, Some(ErrorCode::BundleNotFound)));
        assert_eq!(state(&workers), WarmState::Ready);
    }
}
