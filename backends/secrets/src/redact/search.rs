//! Finding many forms in one pass over a text.

use aho_corasick::automaton::Automaton as _;
use aho_corasick::{Anchored, BuildError, nfa::contiguous};

use super::MIN_BYTES;
use super::forms::Form;

/// Bytes of each form that the automaton knows; a match is then compared with the whole form. Whole forms would take
/// 100 MB for the largest envelope, and the automaton cannot be wiped: it holds no more of a value than this.
pub const WINDOW: usize = 16;
/// Bytes compared for each byte of text before the rest counts as secret; ordinary texts need less than one.
const WORK_PER_BYTE: usize = 64;
/// The same for a text of any length.
const WORK: usize = 64 * 1024;

/// A set of forms.
pub(crate) struct Search {
    automaton: contiguous::NFA,
    /// For each pattern of the automaton, the forms that begin with it.
    groups: Vec<Vec<usize>>,
    /// Sorted.
    forms: Vec<Form>,
    /// Bytes of the shortest form.
    shortest: usize,
}

impl Search {
    /// For these forms; of equal ones, the first counts.
    pub(crate) fn new(mut forms: Vec<Form>) -> Result<Self, BuildError> {
        forms.sort_by(|a, b| a.bytes.as_slice().cmp(&b.bytes));
        forms.dedup_by(|other, kept| {
            let same = other.bytes == kept.bytes;
            if same {
                kept.absorb(other);
            }
            same
        });
        let shortest = forms.iter().map(|form| form.bytes.len()).min().unwrap_or_default();
        let (mut patterns, mut groups): (Vec<&[u8]>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
        for (at, form) in forms.iter().enumerate() {
            let window = form.bytes.get(..WINDOW).unwrap_or(&form.bytes);
            // Sorted: forms that begin alike are neighbours.
            match groups.last_mut() {
                Some(group) if patterns.last() == Some(&window) => group.push(at),
                _ => {
                    patterns.push(window);
                    groups.push(vec![at]);
                }
            }
        }
        let automaton = contiguous::NFA::builder().prefilter(false).build(&patterns)?;
        Ok(Self { automaton, groups, forms, shortest })
    }

    /// Bytes of the shortest form.
    pub(crate) fn shortest(&self) -> usize {
        self.shortest
    }

    /// Bytes held, about.
    pub(crate) fn memory(&self) -> usize {
        let forms = self.forms.iter().map(|form| form.bytes.len() + 80).sum::<usize>();
        self.automaton.memory_usage() + self.groups.len() * 32 + forms
    }

    /// Calls `hit` with every form in the text, its start and its end. With `cut`, the beginning of a form at the end
    /// of the text counts, too. The time is linear in the text, whatever forms and text are: comparing has a budget;
    /// where it is used up, the place is returned from which on everything must count as secret.
    pub(crate) fn scan<'f>(
        &'f self,
        text: &[u8],
        cut: bool,
        mut hit: impl FnMut(&'f Form, usize, usize),
    ) -> Option<usize> {
        let mut state = self.automaton.start_state(Anchored::No).ok()?;
        let mut budget = text.len().saturating_mul(WORK_PER_BYTE).saturating_add(WORK);
        for (at, byte) in text.iter().enumerate() {
            state = self.automaton.next_state(Anchored::No, state, *byte);
            if !(self.automaton.is_special(state) && self.automaton.is_match(state)) {
                continue;
            }
            for index in 0..self.automaton.match_len(state) {
                let pattern = self.automaton.match_pattern(state, index);
                let start = at + 1 - self.automaton.pattern_len(pattern);
                let here = text.get(start..).unwrap_or_default();
                let group = self.groups.get(pattern.as_usize()).into_iter().flatten();
                for form in group.filter_map(|at| self.forms.get(*at)) {
                    let same = form.bytes.iter().zip(here).take_while(|(a, b)| a == b).count();
                    budget = budget.saturating_sub(same + 1);
                    if budget == 0 {
                        return Some(start);
                    }
                    if same == form.bytes.len() || (cut && same == here.len()) {
                        hit(form, start, start + same);
                    }
                }
            }
        }
        if cut && let Some((form, start)) = self.last_piece(text) {
            hit(form, start, text.len());
        }
        None
    }

    /// The last bytes of a text where they are the beginning of a form; longer ones than a window have been found
    /// already.
    fn last_piece(&self, text: &[u8]) -> Option<(&Form, usize)> {
        for length in (MIN_BYTES..WINDOW).rev() {
            let Some(start) = text.len().checked_sub(length) else { continue };
            let piece = text.get(start..).unwrap_or_default();
            let first = self.forms.partition_point(|form| form.bytes.as_slice() < piece);
            if let Some(form) = self.forms.get(first)
                && form.bytes.starts_with(piece)
            {
                return Some((form, start));
            }
        }
        None
    }
}
