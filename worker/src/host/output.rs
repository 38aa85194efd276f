//! A guest's output in bounds: lines out of writes, and a budget of bytes for all lines of a run.

/// What a line costs beside its bytes, so that a flood of empty lines ends too: each becomes an event of some 300 bytes.
const LINE_COST: usize = 64;

/// Bytes and lines that a run may still log.
#[derive(Debug, Default)]
pub(super) struct Budget {
    left: usize,
    lines: usize,
    dropped_lines: u64,
    dropped_bytes: u64,
}

impl Budget {
    pub(super) fn new(bytes: usize, lines: usize) -> Self {
        Self { left: bytes, lines, dropped_lines: 0, dropped_bytes: 0 }
    }

    /// Whether a line of so many bytes is kept; the first one that does not fit ends the log, so that what is in the
    /// stream is the beginning without holes.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let cost = bytes.saturating_add(LINE_COST);
        if self.is_full() || cost > self.left {
            if !self.is_full() {
                self.left = 0;
            }
            self.dropped_lines = self.dropped_lines.saturating_add(1);
            self.dropped_bytes = self.dropped_bytes.saturating_add(bytes as u64);
            return false;
        }
        self.left -= cost;
        self.lines -= 1;
        true
    }

    pub(super) fn is_full(&self) -> bool {
        self.left == 0 || self.lines == 0
    }

    /// Whether the lines ended the log, and not the bytes.
    pub(super) fn is_out_of_lines(&self) -> bool {
        self.lines == 0
    }

    /// Lines and bytes that were dropped.
    pub(super) fn dropped(&self) -> (u64, u64) {
        (self.dropped_lines, self.dropped_bytes)
    }
}

/// Puts lines together out of writes. Holds at most one line of `max` bytes.
#[derive(Debug)]
pub(super) struct Lines {
    max: usize,
    line: Vec<u8>,
    cut: bool,
}

impl Lines {
    pub(super) fn new(max: usize) -> Self {
        Self { max, line: Vec::new(), cut: false }
    }

    /// Takes a write; calls `line` for each line that it ends, without its LF or CR LF, saying whether it was cut.
    pub(super) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8], bool)) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = self.max.saturating_sub(self.line.len());
            self.cut |= text.len() > room;
            self.line.extend_from_slice(text.get(..room).unwrap_or(text));
            if ends {
                self.finish(&mut line);
            }
        }
    }

    /// The last line, if it has no end.
    pub(super) fn end(&mut self, mut line: impl FnMut(&[u8], bool)) {
        if !self.line.is_empty() {
            self.finish(&mut line);
        }
    }

    fn finish(&mut self, line: &mut impl FnMut(&[u8], bool)) {
        let text = if self.cut { &self.line } else { self.line.strip_suffix(b"\r").unwrap_or(&self.line) };
        line(text, self.cut);
        self.line.clear();
        self.cut = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(max: usize, writes: &[&[u8]]) -> Vec<(String, bool)> {
        let mut lines = Lines::new(max);
        let mut out = Vec::new();
        for write in writes {
            lines.push(write, |text, cut| out.push((String::from_utf8_lossy(text).into_owned(), cut)));
        }
        lines.end(|text, cut| out.push((String::from_utf8_lossy(text).into_owned(), cut)));
        out
    }

    #[test]
    fn writes_and_lines_need_not_agree() {
        let got = lines(100, &[b"par", b"tial\ntwo\r\n\n", b"\xe2", b"\x82\xac\n", b"end"]);
        let texts: Vec<_> = got.iter().map(|(t, _)| t.as_str()).collect();
        assert_eq!(texts, ["partial", "two", "", "\u{20ac}", "end"]);
        assert!(got.iter().all(|(_, cut)| !cut));
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        assert_eq!(
            lines(4, &[b"abcd\nabc", b"defgh", b"ij\nx\n"]),
            [("abcd".into(), false), ("abcd".into(), true), ("x".into(), false)]
        );
    }

    #[test]
    fn the_budget_ends_for_good_and_counts_what_it_drops() {
        let mut budget = Budget::new(2 * LINE_COST + 10, 100);
        assert!(budget.take(10));
        assert!(!budget.take(100));
        assert!(!budget.take(0));
        assert_eq!(budget.dropped(), (2, 100));
        let mut empty_lines = Budget::new(1_000, 100);
        assert_eq!((0..100).filter(|_| empty_lines.take(0)).count(), 15);
        assert!(!empty_lines.is_out_of_lines());
        let mut few = Budget::new(1_000_000, 3);
        assert_eq!((0..100).filter(|_| few.take(1)).count(), 3);
        assert!(few.is_out_of_lines());
    }
}
