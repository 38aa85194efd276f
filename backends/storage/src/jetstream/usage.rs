//! What an install has, in one record, exact whoever crashes when.
//!
//! # How a write goes
//! 1. Read the record, then the entry to be written and the record's *open* entry.
//! 2. Write a new record, if the one that was read is still there. It counts everything but the entry to be written,
//!    which it names: the open one. What that one counts for, whoever comes next finds out by reading it.
//! 3. Write the entry, if the record of step 2 is still there (the server compares: the condition of a message may be
//!    another subject's sequence).
//!
//! So every write of an install needs a record of its own, and once that write has landed, or can no longer land,
//! nothing changes until the next record: what step 1 read is one moment's truth if step 2 succeeds. It has landed if
//! the open entry is younger than the record. If it is not (the writer is between 2 and 3, or dead, or what it wrote
//! has run out), whoever comes next waits a moment and then *closes* the record: writes it again, which changes its
//! sequence, so that step 3 can no longer succeed. Nothing is reserved, given back or guessed.
//!
//! Only an entry that runs out by itself (its time to live) leaves without a record. So the record also holds, for
//! each interval of time, what runs out in it; an interval that is over is taken off. An entry counts until its interval
//! is over and a minute more, for clocks that disagree: always on the safe side.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::QuotaKind;

/// What an install may have (interop 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quotas {
    /// Namespaces with at least one entry. 32 unless configured.
    pub namespaces: u64,
    /// Keys of one namespace. 5,120 unless configured.
    pub keys: u64,
    /// Bytes of all keys and values, each entry rounded up to [`BLOCK`]. 256 MiB unless configured.
    pub bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { namespaces: 32, keys: 5_120, bytes: 256 * 1024 * 1024 }
    }
}

/// Entries count in blocks of this many bytes: about what the server needs for one beside its key and value.
pub const BLOCK: u64 = 256;

/// The version of the record that is written and read.
const VERSION: u32 = 1;
/// The version of what stands in its place while the entries are counted.
const COUNTING: u32 = 0;
/// How long after the end of an interval its entries still count, in seconds.
const GRACE: u64 = 60;

/// Keys and bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Count {
    keys: u64,
    bytes: u64,
}

/// The record. Times are seconds since 1970 by the clock of the worker that wrote them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Usage {
    version: u32,
    /// When the entries themselves were last counted.
    pub(crate) counted: u64,
    /// The entry that is written under this record and is not in its counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) open: Option<Open>,
    namespaces: BTreeMap<String, Count>,
    /// Part of `namespaces`: what runs out until the time that is the key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    expiring: BTreeMap<u64, BTreeMap<String, Count>>,
}

/// The entry that a record leaves out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) namespace: String,
    pub(crate) key: String,
    /// It can no longer be written under this record.
    #[serde(default)]
    pub(crate) closed: bool,
}

/// What one entry counts for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    bytes: u64,
    /// The end of the interval in which it runs out.
    pub(crate) until: Option<u64>,
}

impl Size {
    pub(crate) fn new(key: &str, value: usize, until: Option<u64>) -> Self {
        let bytes = u64::try_from(key.len().saturating_add(value)).unwrap_or(u64::MAX);
        Self { bytes: bytes.div_ceil(BLOCK).max(1).saturating_mul(BLOCK), until }
    }
}

/// A quota that a write would exceed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Exceeded {
    pub(crate) what: QuotaKind,
    pub(crate) limit: u64,
    pub(crate) value: u64,
}

/// The end of the interval in which an entry written now runs out. Intervals grow with the life, so that the record
/// never holds more than about 30 of them.
pub(crate) fn interval(now: u64, ttl: Duration) -> u64 {
    let ttl = ttl.as_secs();
    let length = match ttl {
        0..=3_600 => 600,
        3_601..=86_400 => 3 * 3_600,
        _ => 3 * 86_400,
    };
    now.saturating_add(ttl).div_ceil(length).saturating_mul(length)
}

fn take(counts: &mut BTreeMap<String, Count>, namespace: &str, bytes: u64) -> bool {
    let Some(count) = counts.get_mut(namespace) else { return false };
    count.keys = count.keys.saturating_sub(1);
    count.bytes = count.bytes.saturating_sub(bytes);
    if count.keys == 0 {
        counts.remove(namespace);
    }
    true
}

fn give(counts: &mut BTreeMap<String, Count>, namespace: &str, bytes: u64) {
    let count = counts.entry(namespace.to_owned()).or_default();
    count.keys = count.keys.saturating_add(1);
    count.bytes = count.bytes.saturating_add(bytes);
}

impl Usage {
    /// Nothing yet, counted now.
    pub(crate) fn empty(now: u64) -> Self {
        Self {
            version: VERSION,
            counted: now,
            open: None,
            namespaces: BTreeMap::new(),
            expiring: BTreeMap::new(),
        }
    }

    /// Stands where the record will be while the entries are counted: nothing can be written under it.
    pub(crate) fn being_counted(now: u64) -> Self {
        Self { version: COUNTING, ..Self::empty(now) }
    }

    /// Since when another process has been counting.
    pub(crate) fn counted_since(bytes: &[u8]) -> Option<u64> {
        let usage = serde_json::from_slice::<Self>(bytes).ok()?;
        (usage.version == COUNTING).then_some(usage.counted)
    }

    /// Reads a record; `None` if it is none of this version, which makes the entries be counted anew.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|usage| usage.version == VERSION)
    }

    /// The record as it is stored.
    pub(crate) fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Takes off what has run out.
    pub(crate) fn settle(&mut self, now: u64) {
        while let Some(first) = self.expiring.first_entry()
            && first.key().saturating_add(GRACE) <= now
        {
            for (namespace, gone) in first.remove() {
                let Some(count) = self.namespaces.get_mut(&namespace) else { continue };
                count.keys = count.keys.saturating_sub(gone.keys);
                count.bytes = count.bytes.saturating_sub(gone.bytes);
                if count.keys == 0 {
                    self.namespaces.remove(&namespace);
                }
            }
        }
    }

    /// Counts an entry that is there.
    pub(crate) fn add(&mut self, namespace: &str, size: Size) {
        give(&mut self.namespaces, namespace, size.bytes);
        if let Some(until) = size.until {
            give(self.expiring.entry(until).or_default(), namespace, size.bytes);
        }
    }

    /// Takes off an entry that was there.
    pub(crate) fn remove(&mut self, namespace: &str, size: Size) {
        if let Some(until) = size.until {
            let Some(counts) = self.expiring.get_mut(&until) else { return };
            // Its interval is over and has been taken off.
            if !take(counts, namespace, size.bytes) {
                return;
            }
            if counts.is_empty() {
                self.expiring.remove(&until);
            }
        }
        take(&mut self.namespaces, namespace, size.bytes);
    }

    /// Puts `new` in the place of `old`, unless that exceeds a quota. What does not grow is allowed even above a quota,
    /// so that an install that is over one, because it was lowered, can still come down.
    pub(crate) fn replace(
        &mut self,
        namespace: &str,
        old: Option<Size>,
        new: Size,
        quotas: &Quotas,
    ) -> Result<(), Exceeded> {
        let before = self.measure(namespace);
        if let Some(old) = old {
            self.remove(namespace, old);
        }
        self.add(namespace, new);
        let limits = [quotas.namespaces, quotas.keys, quotas.bytes];
        for (((what, value), (_, before)), limit) in
            self.measure(namespace).into_iter().zip(before).zip(limits)
        {
            if value > limit && value > before {
                return Err(Exceeded { what, limit, value });
            }
        }
        Ok(())
    }

    fn measure(&self, namespace: &str) -> [(QuotaKind, u64); 3] {
        let bytes = self.namespaces.values().fold(0, |sum: u64, count| sum.saturating_add(count.bytes));
        [
            (QuotaKind::Namespaces, self.namespaces.len() as u64),
            (QuotaKind::Keys, self.namespaces.get(namespace).map_or(0, |count| count.keys)),
            (QuotaKind::Bytes, bytes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const SMALL: Quotas = Quotas { namespaces: 2, keys: 3, bytes: 2_048 };

    fn size(value: usize) -> Size {
        Size::new("k", value, None)
    }

    #[test]
    fn each_quota_refuses_the_write_over_it_and_names_the_numbers() {
        let mut usage = Usage::empty(0);
        for _ in 0..3 {
            usage.replace("a", None, size(1), &SMALL).unwrap();
        }
        let over = usage.clone().replace("a", None, size(1), &SMALL).unwrap_err();
        assert_eq!(over, Exceeded { what: QuotaKind::Keys, limit: 3, value: 4 });
        usage.replace("b", None, size(1), &SMALL).unwrap();
        let over = usage.clone().replace("c", None, size(1), &SMALL).unwrap_err();
        assert_eq!(over, Exceeded { what: QuotaKind::Namespaces, limit: 2, value: 3 });
        let over = usage.clone().replace("b", None, size(1_024), &SMALL).unwrap_err();
        assert_eq!(over, Exceeded { what: QuotaKind::Bytes, limit: 2_048, value: 4 * 256 + 1_280 });
        // In the place of one that is there it fits: 3 blocks and 5 of 256 bytes.
        usage.replace("b", Some(size(1)), size(1_024), &SMALL).unwrap();
    }

    #[test]
    fn what_is_removed_no_longer_counts_and_an_empty_namespace_is_gone() {
        let mut usage = Usage::empty(0);
        for namespace in ["a", "b"] {
            usage.replace(namespace, None, size(1), &SMALL).unwrap();
        }
        usage.remove("a", size(1));
        usage.replace("c", None, size(1), &SMALL).unwrap();
        usage.remove("b", size(1));
        usage.remove("c", size(1));
        assert_eq!(usage, Usage::empty(0));
        usage.remove("c", size(1));
        assert_eq!(usage, Usage::empty(0), "less than nothing");
    }

    #[test]
    fn an_install_over_a_lowered_quota_can_come_down_but_not_grow() {
        let mut usage = Usage::empty(0);
        for namespace in ["a", "b"] {
            usage.replace(namespace, None, size(1_000), &SMALL).unwrap();
        }
        let lowered = Quotas { namespaces: 1, keys: 1, bytes: 512 };
        usage.replace("a", Some(size(1_000)), size(900), &lowered).unwrap();
        usage.replace("a", Some(size(900)), size(900), &lowered).unwrap();
        let over = usage.replace("a", Some(size(900)), size(1_200), &lowered).unwrap_err();
        assert_eq!((over.what, over.limit), (QuotaKind::Bytes, 512));
    }

    #[test]
    fn an_entry_with_a_life_counts_until_its_interval_is_over() {
        let now = 1_000 * DAY + 17;
        for (ttl, longest) in [(60, 660), (3_600, 4_200), (DAY, DAY + 3 * 3_600), (30 * DAY, 33 * DAY)] {
            let until = interval(now, Duration::from_secs(ttl));
            assert!((now + ttl..=now + longest).contains(&until), "{ttl}: {}", until - now);
            let mut usage = Usage::empty(now);
            usage.add("a", Size::new("k", 1, Some(until)));
            usage.add("a", size(1));
            usage.settle(until + GRACE - 1);
            assert_eq!(usage.measure("a").map(|(_, value)| value), [1, 2, 512]);
            usage.settle(until + GRACE);
            assert_eq!(usage.measure("a").map(|(_, value)| value), [1, 1, 256]);
            // Seen nevertheless, by a clock that is late: it has been taken off already.
            usage.remove("a", Size::new("k", 1, Some(until)));
            assert_eq!(usage.measure("a").map(|(_, value)| value), [1, 1, 256]);
        }
    }

    #[test]
    fn an_entry_replaced_or_removed_before_its_end_is_taken_off_once() {
        let mortal = Size::new("k", 1, Some(6_000));
        let mut usage = Usage::empty(0);
        usage.replace("a", None, mortal, &SMALL).unwrap();
        usage.replace("a", Some(mortal), size(1), &SMALL).unwrap();
        usage.replace("b", None, mortal, &SMALL).unwrap();
        usage.remove("b", mortal);
        usage.settle(u64::MAX);
        assert_eq!(usage.measure("a").map(|(_, value)| value), [1, 1, 256]);
        assert!(usage.expiring.is_empty());
    }

    #[test]
    fn a_record_is_read_back_and_nonsense_is_none() {
        let mut usage = Usage::empty(5);
        usage.add("a\"b", Size::new("k", 1, Some(600)));
        assert_eq!(Usage::read(&usage.write().unwrap()), Some(usage));
        for bad in [&b""[..], b"{}", b"null", br#"{"version":2,"counted":0,"namespaces":{}}"#] {
            assert_eq!(Usage::read(bad), None);
        }
    }

    #[test]
    fn the_largest_record_fits_into_a_message() {
        let mut usage = Usage::empty(0);
        let (mut now, end) = (1_000 * DAY, 1_031 * DAY);
        while now < end {
            for ttl in [60, 3_600, DAY, 30 * DAY] {
                let until = interval(now, Duration::from_secs(ttl));
                for number in 0..32 {
                    usage.add(&format!("{number:\"<128}"), Size::new("k", 65_536, Some(until)));
                }
            }
            now += 300;
            usage.settle(now);
        }
        let bytes = usage.write().unwrap().len();
        assert!(bytes < 512 * 1024, "{bytes} bytes");
    }
}
