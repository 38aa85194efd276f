//! What there is already, of all streams in the order of time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use redis::RedisError;

use super::entry::{Event, Id, Want};
use super::hub::Hub;
use super::pump::Lines;

/// Entries that are in memory while streams are merged, of all of them together.
const AHEAD: usize = 1_000;

/// How far each stream was read.
pub(super) struct Past {
    /// Where streams begin of which nothing was read.
    floor: Id,
    last: HashMap<Arc<str>, Id>,
}

struct Run {
    key: Arc<str>,
    next: VecDeque<Event>,
    ended: bool,
}

impl Past {
    pub fn from(floor: Id) -> Self {
        Self { floor, last: HashMap::new() }
    }

    /// Whether an event was not there before; notes it.
    pub fn is_new(&mut self, event: &Event) -> bool {
        let new = match self.last.get(&event.key) {
            Some(last) => event.id > *last,
            None => event.id >= self.floor,
        };
        if new {
            self.last.insert(event.key.clone(), event.id);
        }
        new
    }

    /// Gives every wanted event that is there and new, up to the millisecond `until`, to `lines`; false: nobody
    /// reads them any more.
    pub async fn read(
        &mut self,
        hub: &Hub,
        want: &Want,
        until: Id,
        lines: &Lines,
    ) -> Result<bool, RedisError> {
        let keys = hub.keys(want).await?;
        let page = (AHEAD / keys.len().max(1)).clamp(2, 200);
        let run = |key| Run { key, next: VecDeque::new(), ended: false };
        let mut runs: Vec<Run> = keys.into_iter().map(run).collect();
        loop {
            for run in runs.iter_mut().filter(|run| run.next.is_empty() && !run.ended) {
                let from = match self.last.get(&run.key) {
                    Some(last) => (*last, false),
                    None => (self.floor, true),
                };
                let events = hub.range(&run.key, from, until, page).await?;
                run.ended = events.len() < page;
                run.next = events.into();
            }
            let first = runs.iter_mut().filter_map(|run| Some((run.next.front()?.id, run)));
            let Some((_, run)) = first.min_by_key(|(id, _)| *id) else { return Ok(true) };
            let Some(event) = run.next.pop_front() else { return Ok(true) };
            self.last.insert(event.key.clone(), event.id);
            if let Some(wanted) = want.of(&event)
                && lines.send(Ok(wanted)).await.is_err()
            {
                return Ok(false);
            }
        }
    }
}
