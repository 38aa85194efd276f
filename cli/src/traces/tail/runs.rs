//! Runs whose events are coming, and what was shown already.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use super::block::{Block, Style};
use super::event::Event;

/// Runs that are kept at once; the oldest is shown as it is.
const MAX_RUNS: usize = 1_000;
/// The usage follows the answer at once; where it does not come, it is not waited for.
const AFTER_ANSWER: Duration = Duration::from_secs(1);
/// A run that has been quiet for so long is shown as far as it is: somebody is waiting.
const QUIET: Duration = Duration::from_secs(5);
/// Events of which is known that they were shown.
const MAX_RECENT: usize = 20_000;

/// Runs by execution and attempt, in the order of their first events.
pub struct Runs {
    style: Style,
    open: HashMap<(String, String), (Block, Instant)>,
    order: VecDeque<(String, String)>,
    ready: Vec<String>,
}

impl Runs {
    /// None yet.
    pub fn new(style: Style) -> Self {
        Self { style, open: HashMap::new(), order: VecDeque::new(), ready: Vec::new() }
    }

    /// Takes an event.
    pub fn push(&mut self, event: Event) {
        if event.execution.is_empty() {
            // Of no run: what was dropped before it came to Redis.
            let text = format!("{}  {}: {}", event.ts, event.kind, event.message);
            self.ready.push(crate::output::printable(text));
            return;
        }
        let key = (event.execution.clone(), event.attempt.clone());
        if !self.open.contains_key(&key) {
            while self.order.len() >= MAX_RUNS {
                if let Some(oldest) = self.order.pop_front() {
                    self.finish(&oldest);
                }
            }
            self.order.push_back(key.clone());
        }
        let (block, heard) =
            self.open.entry(key.clone()).or_insert_with(|| (Block::default(), Instant::now()));
        *heard = Instant::now();
        if block.push(event) {
            self.order.retain(|other| *other != key);
            self.finish(&key);
        }
    }

    fn finish(&mut self, key: &(String, String)) {
        if let Some((block, _)) = self.open.remove(key).filter(|(block, _)| !block.is_empty()) {
            self.ready.extend(block.render(self.style));
        }
    }

    /// Blocks that are whole; with `quiet` also those that nothing has come for.
    pub fn ready(&mut self, quiet: bool) -> Vec<String> {
        if quiet {
            let keys: Vec<_> = self.order.iter().cloned().collect();
            for key in keys {
                let Some((block, heard)) = self.open.get_mut(&key) else { continue };
                let silent = heard.elapsed();
                if block.is_over() && silent > AFTER_ANSWER {
                    self.order.retain(|other| *other != key);
                    self.finish(&key);
                } else if silent > QUIET && !block.is_empty() {
                    let shown = std::mem::replace(block, Block::going_on());
                    self.ready.extend(shown.render(self.style));
                }
            }
        }
        std::mem::take(&mut self.ready)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> Vec<String> {
        while let Some(key) = self.order.pop_front() {
            self.finish(&key);
        }
        std::mem::take(&mut self.ready)
    }
}

/// What was shown lately: after an interruption some of it comes again.
#[derive(Default)]
pub struct Recent {
    known: HashSet<u64>,
    order: VecDeque<u64>,
    last_ms: Option<u64>,
}

impl Recent {
    /// Whether a line was not shown yet; from now on it was. Lines of a run that are alike in everything, time included, are one.
    pub fn is_new(&mut self, line: &str, at_ms: u64) -> bool {
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        let hash = hasher.finish();
        self.last_ms = self.last_ms.max(Some(at_ms));
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// The time of the newest.
    pub fn last_ms(&self) -> Option<u64> {
        self.last_ms.filter(|ms| *ms > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(execution: &str, kind: &str) -> Event {
        let text = |text: &str| text.to_owned();
        Event { execution: text(execution), kind: text(kind), message: text(kind), ..Event::default() }
    }

    #[test]
    fn runs_that_are_mixed_are_shown_one_after_the_other() {
        let mut runs = Runs::new(Style::default());
        for (execution, kind) in [("a", "context"), ("b", "context"), ("a", "stdout"), ("b", "usage")] {
            runs.push(event(execution, kind));
        }
        let ready = runs.ready(false);
        assert_eq!(ready.len(), 1);
        assert!(ready[0].contains("  b") && !ready[0].contains("stdout"), "{ready:?}");
        runs.push(event("a", "usage"));
        assert!(runs.ready(false)[0].contains("stdout"));
        assert!(runs.rest().is_empty());
    }

    #[test]
    fn what_belongs_to_no_run_is_shown_at_once_and_the_rest_at_the_end() {
        let mut runs = Runs::new(Style::default());
        runs.push(event("", "dropped"));
        runs.push(event("a", "context"));
        assert_eq!(runs.ready(true).len(), 1);
        assert_eq!(runs.rest().len(), 1);
    }

    #[test]
    fn there_are_never_more_than_so_many_runs() {
        let mut runs = Runs::new(Style::default());
        for n in 0..MAX_RUNS + 3 {
            runs.push(event(&n.to_string(), "context"));
        }
        assert_eq!((runs.ready(false).len(), runs.open.len()), (3, MAX_RUNS));
    }

    #[test]
    fn a_line_that_comes_again_is_not_shown_again() {
        let mut recent = Recent::default();
        assert!(recent.is_new("x", 5) && recent.is_new("y", 3) && !recent.is_new("x", 5));
        assert_eq!(recent.last_ms(), Some(5));
        for n in 0..MAX_RECENT {
            recent.is_new(&n.to_string(), 6);
        }
        assert!(recent.is_new("x", 5), "what is long gone is forgotten");
        assert_eq!(recent.known.len(), recent.order.len());
    }
}
