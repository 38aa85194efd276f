//! What a command prints: text for people or one JSON document on stdout, notes and failures on stderr.
//!
//! A closed pipe (`longshore list | head -1`) is no failure and no panic: what cannot be written is dropped.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use crate::exit::Failure;

/// How and where a command prints.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON document instead of text.
    pub json: bool,
}

impl Output {
    /// For people, or for programs.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// The result of a command: the document with `--json`, else the text. Called once a command.
    pub fn result(&self, document: &impl Serialize, text: impl FnOnce() -> String) {
        if self.json {
            // Our own types: maps have text keys, so it cannot fail.
            let json = serde_json::to_string_pretty(document).unwrap_or_else(|error| {
                Failure::new(crate::exit::Exit::Failed, "unprintable", error.to_string()).json().to_string()
            });
            self.stdout(&json);
        } else {
            self.stdout(&text());
        }
    }

    /// A line of text for people; nothing with `--json`.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            self.stdout(text.as_ref());
        }
    }

    /// A note about what is being done, on stderr; also with `--json`, whose stdout holds the document alone.
    pub fn note(&self, text: impl AsRef<str>) {
        write_line(&mut std::io::stderr().lock(), text.as_ref());
    }

    /// One document of a stream of them (events that are followed): a line of JSON, or text.
    pub fn item(&self, document: &impl Serialize, text: impl FnOnce() -> String) {
        let json = self.json.then(|| serde_json::to_string(document).unwrap_or_default());
        self.stdout(&json.unwrap_or_else(text));
    }

    /// Bytes as they are: the body of an answer.
    pub fn bytes(&self, bytes: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    }

    /// A failure: the object on stdout with `--json`, and always words on stderr.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            self.stdout(&failure.json().to_string());
        }
        self.note(format!("longshore: {}", failure.message));
        if let Some(hint) = &failure.hint {
            self.note(format!("  {hint}"));
        }
    }

    /// Whether a person looks at it.
    pub fn is_terminal(&self) -> bool {
        !self.json && std::io::stdout().is_terminal()
    }

    fn stdout(&self, text: &str) {
        write_line(&mut std::io::stdout().lock(), text);
    }
}

fn write_line(to: &mut impl std::io::Write, text: &str) {
    // No `println!`: it panics when the pipe is closed. Nobody is left to be told.
    let _ = writeln!(to, "{}", text.trim_end_matches('\n')).and_then(|()| to.flush());
}

/// Rows below a heading, each column as wide as its widest cell.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub fn new<const N: usize>(heads: [&str; N]) -> Self {
        Self { rows: vec![heads.iter().map(|head| head.to_uppercase()).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(printable).into());
    }

    /// Whether it has no row but the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|c| c.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Text from elsewhere (manifests, callers, labels) without characters that a terminal obeys.
pub fn printable(text: impl AsRef<str>) -> String {
    let steers = |c: char| c.is_control() || turns(c);
    text.as_ref().chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Marks and overrides of bidirectional text, and separators that some terminals break lines at: with them a line shows something else than it says.
fn turns(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `12.3 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_blanks() {
        let mut table = Table::new(["id", "name"]);
        table.row(["1".to_owned(), "a".to_owned()]);
        table.row(["22222".to_owned(), "ü\u{1b}[2J".to_owned()]);
        assert_eq!(table.to_string(), "ID     NAME\n1      a\n22222  ü\u{fffd}[2J\n");
    }

    #[test]
    fn text_from_elsewhere_neither_steers_a_terminal_nor_turns_a_line() {
        assert_eq!(printable("a\u{9b}31m\u{202e}b\u{2028}\tc"), "a\u{fffd}31m\u{fffd}b\u{fffd}\u{fffd}c");
    }

    #[test]
    fn sizes_are_shown_in_binary_units() {
        assert_eq!(
            [0, 1023, 1024, 1536, 200 << 20].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "200.0 MiB"]
        );
    }

    #[test]
    fn a_closed_pipe_is_no_panic() {
        struct Closed;
        impl std::io::Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        write_line(&mut Closed, "x");
    }
}
