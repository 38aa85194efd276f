//! Pieces of a text that are replaced.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// One piece and what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) new: Vec<u8>,
}

/// What is left of a span when the others have had theirs.
pub(super) struct Left {
    /// Which span.
    pub(super) index: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Makes spans that overlap disjoint: the longest keeps its place, of equally long ones the first; others keep what nobody
/// else has. So no byte that any of them covers is left uncovered. In no order.
pub(super) fn disjoint(spans: &[(usize, usize)]) -> Vec<Left> {
    let mut order: Vec<(usize, &(usize, usize))> = spans.iter().enumerate().collect();
    order.sort_by_key(|(_, (start, end))| (std::cmp::Reverse(end - start), *start));
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let mut left = Vec::with_capacity(spans.len());
    // First those that keep their place, then the rest of the others.
    let mut others = Vec::new();
    for (index, (start, end)) in order {
        let before = taken.range(..*end).next_back();
        if before.is_some_and(|(_, to)| to > start) {
            others.push((index, *start, *end));
        } else if start < end {
            taken.insert(*start, *end);
            left.push(Left { index, start: *start, end: *end });
        }
    }
    for (index, start, mut end) in others {
        let mut free = Vec::new();
        // From the last one that begins before the end, backwards.
        for (from, to) in taken.range(..end).rev() {
            if *to <= start {
                break;
            }
            if *to < end {
                free.push((*to, end));
            }
            end = *from;
        }
        if start < end {
            free.push((start, end));
        }
        for (start, end) in free {
            taken.insert(start, end);
            left.push(Left { index, start, end });
        }
    }
    left
}

/// Makes edits disjoint and sorts them; what is left of one that overlapped gets `mask` of the text there.
pub(super) fn resolve(text: &[u8], edits: Vec<Edit>, mask: impl Fn(&[u8]) -> Vec<u8>) -> Vec<Edit> {
    if edits.len() < 2 {
        return edits;
    }
    let spans: Vec<(usize, usize)> = edits.iter().map(|edit| (edit.start, edit.end)).collect();
    let mut edits: Vec<Option<Edit>> = edits.into_iter().map(Some).collect();
    let mut resolved: Vec<Edit> = disjoint(&spans)
        .into_iter()
        .filter_map(|Left { index, start, end }| {
            if spans.get(index) == Some(&(start, end)) {
                return edits.get_mut(index)?.take();
            }
            Some(Edit { start, end, new: mask(text.get(start..end)?) })
        })
        .collect();
    resolved.sort_unstable_by_key(|edit| edit.start);
    resolved
}

/// The text with the edits, which are disjoint and sorted.
pub(super) fn apply<'a>(text: &'a [u8], edits: &[Edit]) -> Cow<'a, [u8]> {
    if edits.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut from = 0;
    for edit in edits {
        out.extend_from_slice(text.get(from..edit.start).unwrap_or_default());
        out.extend_from_slice(&edit.new);
        from = edit.end;
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

/// How many bytes the edits, which are disjoint, replace.
pub(super) fn covered(edits: &[Edit]) -> usize {
    edits.iter().map(|edit| edit.end - edit.start).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, edits: &[(usize, usize, &str)]) -> String {
        let edit = |(start, end, new): &(usize, usize, &str)| Edit {
            start: *start,
            end: *end,
            new: new.as_bytes().to_vec(),
        };
        let edits = edits.iter().map(edit).collect();
        let edits = resolve(text.as_bytes(), edits, |piece| vec![b'#'; piece.len()]);
        String::from_utf8(apply(text.as_bytes(), &edits).into_owned()).unwrap()
    }

    #[test]
    fn the_longest_edit_wins_and_the_rest_of_the_others_is_masked() {
        assert_eq!(resolved("0123456789", &[]), "0123456789");
        assert_eq!(resolved("0123456789", &[(7, 9, "B"), (1, 3, "A")]), "0A3456B9");
        assert_eq!(resolved("0123456789", &[(1, 4, "abc"), (3, 8, "defgh")]), "0##defgh89");
        assert_eq!(resolved("0123456789", &[(2, 5, "X"), (0, 10, "Y"), (9, 10, "Z")]), "Y");
        assert_eq!(resolved("0123456789", &[(2, 5, "abc"), (2, 5, "def")]), "01abc56789");
        // The middle one keeps what is between and beside the others.
        assert_eq!(resolved("0123456789", &[(0, 4, "AAAA"), (3, 7, "BBBB"), (6, 10, "CCCC")]), "AAAA##CCCC");
    }

    #[test]
    fn every_byte_that_a_span_covers_stays_covered_once() {
        use rand::{RngExt as _, SeedableRng as _};
        let mut rng = rand::rngs::StdRng::seed_from_u64(2);
        for _ in 0..500 {
            let spans: Vec<(usize, usize)> = (0..rng.random_range(0..20))
                .map(|_| {
                    let start = rng.random_range(0..50);
                    (start, start + rng.random_range(1..12))
                })
                .collect();
            let mut counts = [0; 64];
            for Left { index, start, end } in disjoint(&spans) {
                assert!(spans[index].0 <= start && start < end && end <= spans[index].1);
                counts[start..end].iter_mut().for_each(|count| *count += 1);
            }
            for (at, count) in counts.iter().enumerate() {
                let wanted = spans.iter().any(|(start, end)| (*start..*end).contains(&at));
                assert_eq!(*count, i32::from(wanted), "{spans:?} at {at}");
            }
        }
    }
}
