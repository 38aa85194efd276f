//! Two lists of host calls side by side. Calls that match and keep their order are anchors; what stands between two
//! anchors on either side was added, removed, changed or moved.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::Place;
use crate::player::Seen;
use crate::script::Script;

/// What is no anchor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Reordered { place: Place, seen: u32, recorded: u32 },
    Changed { place: Place, seen: u32, recorded: u32 },
    Added { place: Place, seen: u32 },
    Removed { place: Place, recorded: u32 },
}

impl Item {
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Reordered { place, .. }
            | Self::Changed { place, .. }
            | Self::Added { place, .. }
            | Self::Removed { place, .. } => *place,
        }
    }

    pub(super) fn recorded(&self) -> Option<u32> {
        match self {
            Self::Reordered { recorded, .. }
            | Self::Changed { recorded, .. }
            | Self::Removed { recorded, .. } => Some(*recorded),
            Self::Added { .. } => None,
        }
    }
}

pub(super) struct Alignment {
    pub(super) items: Vec<Item>,
    /// Anchors; the last gap has this number.
    pub(super) gaps: usize,
    /// Recorded calls that nobody asked for.
    pub(super) unused: Vec<u32>,
}

impl Alignment {
    pub(super) fn new(script: &Script, seen: &[Seen]) -> Self {
        let matched: Vec<(u32, u32)> =
            (0u32..).zip(seen).filter_map(|(at, seen)| Some((at, seen.matched?))).collect();
        let anchors = longest_rising(&matched);
        let by_seen: Vec<u32> = anchors.iter().map(|(seen, _)| *seen).collect();
        let by_recorded: Vec<u32> = anchors.iter().map(|(_, recorded)| *recorded).collect();
        let place = |all: &[u32], at: u32| {
            let gap = all.partition_point(|anchor| *anchor < at);
            let begin = gap.checked_sub(1).and_then(|before| all.get(before)).map_or(0, |before| before + 1);
            (gap, at.saturating_sub(begin) as usize)
        };
        let used: BTreeSet<u32> = matched.iter().map(|(_, recorded)| *recorded).collect();
        let count = u32::try_from(script.calls.len()).unwrap_or(u32::MAX);
        let unused: Vec<u32> = (0..count).filter(|number| !used.contains(number)).collect();

        // Recorded calls that nobody asked for, by gap and function: a call of the same function there is the same
        // call with other arguments.
        let mut waiting: HashMap<(usize, &str), VecDeque<u32>> = HashMap::new();
        let mut removed: BTreeMap<u32, Place> = BTreeMap::new();
        for number in &unused {
            let Some(call) = script.calls.get(*number as usize) else { continue };
            let at = place(&by_recorded, *number);
            removed.insert(*number, at);
            waiting.entry((at.0, call.function.as_str())).or_default().push_back(*number);
        }
        let anchored: BTreeSet<u32> = by_seen.iter().copied().collect();
        let mut items = Vec::new();
        for (at, seen) in (0u32..).zip(seen) {
            let here = place(&by_seen, at);
            match seen.matched {
                Some(_) if anchored.contains(&at) => {}
                Some(recorded) => items.push(Item::Reordered { place: here, seen: at, recorded }),
                None => {
                    let same =
                        waiting.get_mut(&(here.0, seen.function.as_str())).and_then(VecDeque::pop_front);
                    match same {
                        Some(recorded) => {
                            removed.remove(&recorded);
                            items.push(Item::Changed { place: here, seen: at, recorded });
                        }
                        None => items.push(Item::Added { place: here, seen: at }),
                    }
                }
            }
        }
        items.extend(removed.into_iter().map(|(recorded, place)| Item::Removed { place, recorded }));
        items.sort_by_key(Item::place);
        Self { items, gaps: anchors.len(), unused }
    }
}

/// The longest part of pairs whose second number rises.
fn longest_rising(pairs: &[(u32, u32)]) -> Vec<(u32, u32)> {
    // The usual patience sorting: piles by their top, each entry with the one before it.
    let mut tops: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    let second = |at: &usize| pairs.get(*at).map_or(0, |pair| pair.1);
    for (at, (_, recorded)) in pairs.iter().enumerate() {
        let pile = tops.partition_point(|top| second(top) < *recorded);
        before.push(pile.checked_sub(1).and_then(|left| tops.get(left)).copied());
        match tops.get_mut(pile) {
            Some(top) => *top = at,
            None => tops.push(at),
        }
    }
    let mut rising = Vec::with_capacity(tops.len());
    let mut next = tops.last().copied();
    while let Some(at) = next {
        rising.extend(pairs.get(at).copied());
        next = before.get(at).copied().flatten();
    }
    rising.reverse();
    rising
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rising_part_is_found() {
        let pairs = |all: &[u32]| (0u32..).zip(all.iter().copied()).collect::<Vec<_>>();
        let seconds = |all: &[u32]| longest_rising(&pairs(all)).iter().map(|p| p.1).collect::<Vec<_>>();
        assert_eq!(seconds(&[0, 1, 2]), [0, 1, 2]);
        assert_eq!(seconds(&[2, 0, 1]), [0, 1]);
        assert_eq!(seconds(&[]), Vec::<u32>::new());
        assert_eq!(seconds(&[0, 4, 1, 2, 3]), [0, 1, 2, 3]);
    }
}
