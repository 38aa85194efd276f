//! Finds the recorded call that a call of the replay is: by function, arguments and ordinal, never by position alone.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;

use super::redacted;
use crate::script::{Content, Script};
use crate::value;

/// Recorded calls of one function that are looked at for likeness.
const CANDIDATES: usize = 64;

pub(super) struct Index {
    functions: HashMap<String, Function>,
    /// Those that nobody asked for yet.
    unused: BTreeSet<u32>,
}

#[derive(Default)]
struct Function {
    /// By arguments, those not yet asked for, in order.
    by_args: HashMap<Bytes, VecDeque<u32>>,
    /// All, in order.
    all: Vec<u32>,
    /// Those that answered as the nearest.
    lent: BTreeSet<u32>,
}

impl Index {
    pub(super) fn new(script: &Script) -> Self {
        let mut functions: HashMap<String, Function> = HashMap::new();
        let mut unused = BTreeSet::new();
        for (number, call) in script.calls.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let function = functions.entry(call.function.clone()).or_default();
            function.all.push(number);
            unused.insert(number);
            if let Content::Whole(args) = &call.args {
                function.by_args.entry(args.clone()).or_default().push_back(number);
            }
        }
        Self { functions, unused }
    }

    /// The first recorded call with this function and these arguments that nobody asked for yet.
    pub(super) fn take(&mut self, function: &str, args: &[u8]) -> Option<u32> {
        let waiting = self.functions.get_mut(function)?.by_args.get_mut(args)?;
        // Those that were taken by likeness are still in their queue.
        while let Some(number) = waiting.pop_front() {
            if self.unused.remove(&number) {
                return Some(number);
            }
        }
        None
    }

    /// The first that is the same but for values where redaction puts a token whatever stands there: the guest's own
    /// `authorization` header was replaced when it was recorded, and is not replaced now.
    pub(super) fn take_redacted(&mut self, script: &Script, function: &str, args: &[u8]) -> Option<u32> {
        let waiting = self.functions.get(function)?.all.iter().copied().filter(|n| self.unused.contains(n));
        let replayed = value::unpack(args);
        let found = waiting.take(CANDIDATES).find(|number| {
            let recorded = script.calls.get(*number as usize).and_then(|call| call.args.bytes());
            recorded.is_some_and(|recorded| redacted::alike(&value::unpack(recorded), &replayed))
        })?;
        self.unused.remove(&found);
        Some(found)
    }

    /// What was recorded of the call of this function that is most like this one: the most equal arguments, then one
    /// that has not answered yet, then the nearest place.
    pub(super) fn nearest(
        &mut self,
        script: &Script,
        place: u32,
        function: &str,
        args: &[u8],
    ) -> Option<Bytes> {
        let known = self.functions.get_mut(function)?;
        let wanted = value::unpack(args);
        let by_place = |number: &u32| number.abs_diff(place);
        let mut near = known.all.clone();
        near.sort_by_key(by_place);
        let best = near.into_iter().take(CANDIDATES).max_by_key(|number| {
            let recorded = script.calls.get(*number as usize).and_then(|call| call.args.bytes());
            let equal = recorded.map_or(0, |recorded| equal_fields(&value::unpack(recorded), &wanted));
            let fresh = self.unused.contains(number) && !known.lent.contains(number);
            (equal, fresh, std::cmp::Reverse(by_place(number)))
        })?;
        known.lent.insert(best);
        script.calls.get(best as usize)?.answer.as_ref()?.result.bytes().cloned()
    }

    /// Whether every recorded call was asked for.
    pub(super) fn is_used_up(&self) -> bool {
        self.unused.is_empty()
    }

    /// Whether every recorded call up to this one was.
    pub(super) fn is_used_up_to(&self, last: u32) -> bool {
        self.unused.first().is_none_or(|first| *first > last)
    }
}

fn equal_fields(one: &rmpv::Value, other: &rmpv::Value) -> usize {
    let fields = one.as_map().map_or(&[][..], Vec::as_slice);
    let equal = |(key, mine): &&(rmpv::Value, rmpv::Value)| {
        key.as_str().and_then(|key| value::field(other, key)).is_some_and(|theirs| theirs == mine)
    };
    fields.iter().filter(equal).count()
}
