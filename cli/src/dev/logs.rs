//! What a child prints: into a file, its last lines into memory, and on the screen what the user wants to see.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

use super::ui::Ui;

/// A file is put aside (one is kept) when it has grown to this.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Lines of a child that are kept for the message about its end.
const TAIL_LINES: usize = 12;
/// A longer line is cut on the screen and in the tail, never in the file.
const MAX_LINE_BYTES: usize = 4096;

/// Which lines of workers and shim are shown.
#[derive(Clone, Default)]
pub(super) struct Shown(Arc<AtomicU8>);

impl Shown {
    /// Only what is wrong: while everything starts.
    pub(super) fn warnings(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    /// Everything: while the user works.
    pub(super) fn everything(&self) {
        self.0.store(2, Ordering::Relaxed);
    }

    /// Nothing: `--once`, and while everything ends.
    pub(super) fn nothing(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn shows(&self, line: &str) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => false,
            1 => is_warning(line),
            _ => true,
        }
    }
}

/// Human log lines have their level as a word of its own near the start.
fn is_warning(line: &str) -> bool {
    line.split_whitespace().take(3).any(|word| matches!(word, "WARN" | "ERROR"))
}

/// A human log line as it fits a screen: the time of day, and no spans, whose fields the message repeats. Anything else stays as it is.
fn short(line: &str) -> String {
    let mut words = line.splitn(2, char::is_whitespace);
    let (Some(stamp), Some(rest)) = (words.next(), words.next()) else { return line.to_owned() };
    let Some((_, time)) = stamp.split_once('T').filter(|_| stamp.ends_with('Z')) else {
        return line.to_owned();
    };
    let rest = rest.trim_start();
    let Some((level, text)) = rest.split_once(' ') else { return line.to_owned() };
    let time = time.get(..8).unwrap_or(time);
    format!("{time} {level:>5} {}", without_spans(text))
}

/// `run{send=3}:execute{attempt=1}: target: message` is `target: message`.
fn without_spans(text: &str) -> &str {
    let mut depth = 0usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => {
                if let Some((spans, rest)) = text.split_at_checked(at)
                    && let Some(rest) = rest.strip_prefix(": ")
                {
                    return if spans.contains('{') { rest } else { text };
                }
            }
            _ => {}
        }
    }
    text
}

/// The last lines of a child.
pub(super) type Tail = Arc<Mutex<VecDeque<String>>>;

/// Reads a child's output to its end.
pub(super) struct Pump {
    /// The child's name, in front of its lines.
    pub(super) name: String,
    /// The log file.
    pub(super) path: PathBuf,
    /// Where to keep the last lines.
    pub(super) tail: Tail,
    /// The screen, for those whose lines are shown at all.
    pub(super) screen: Option<(Ui, Shown)>,
}

impl Pump {
    /// Runs until the child and all that hold its output have ended. A disk that is full costs the file, not the child.
    pub(super) async fn run(self, mut output: Receiver) {
        let mut file = open(&self.path).ok();
        let mut written = 0u64;
        let mut line = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = match output.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            if written > MAX_FILE_BYTES {
                let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
                file = open(&self.path).ok();
                written = 0;
            }
            if let Some(file) = &mut file
                && file.write_all(bytes).is_ok()
            {
                written += read as u64;
            }
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                let room = MAX_LINE_BYTES.saturating_sub(line.len());
                line.extend(piece.iter().take(room));
                if piece.ends_with(b"\n") {
                    self.line(&line);
                    line.clear();
                }
            }
        }
        if !line.is_empty() {
            self.line(&line);
        }
    }

    fn line(&self, bytes: &[u8]) {
        let line = String::from_utf8_lossy(bytes).trim_end().to_owned();
        if let Some((ui, shown)) = &self.screen
            && shown.shows(&line)
        {
            ui.line(format!("{} | {}", self.name, short(&line)));
        }
        let mut tail = self.tail.lock();
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_told_from_lines_that_speak_of_warnings() {
        assert!(is_warning("2026-10-30T12:00:00Z  WARN longshore_worker: no"));
        assert!(is_warning("2026-10-30T12:00:00Z ERROR longshore_worker: no"));
        assert!(!is_warning("2026-10-30T12:00:00Z  INFO worker: the guest said WARN"));
    }

    #[test]
    fn on_the_screen_a_line_has_no_date_and_no_spans() {
        let line = "2026-11-22T13:29:45.915884Z  INFO run{send=3 tenant=t}:execute{attempt=1}:handler:host_call{name=\"x\"}: guest: GET /a: b";
        assert_eq!(short(line), "13:29:45  INFO guest: GET /a: b");
        let plain = "2026-11-22T13:29:45.915884Z  WARN longshore_worker::execute: odd {x: 1}";
        assert_eq!(short(plain), "13:29:45  WARN longshore_worker::execute: odd {x: 1}");
        for other in ["", "thread 'main' panicked at x.rs:1:2:", "{\"level\":\"INFO\"}", "TZ"] {
            assert_eq!(short(other), other);
        }
    }

    #[tokio::test]
    async fn everything_goes_to_the_file_and_only_the_last_lines_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let (mut writer, reader) = {
            let (reader, writer) = std::io::pipe().unwrap();
            (writer, Receiver::from_owned_fd(reader.into()).unwrap())
        };
        let tail = Tail::default();
        let pump = Pump { name: "x".into(), path: path.clone(), tail: tail.clone(), screen: None };
        let pump = tokio::spawn(pump.run(reader));
        for number in 0..20 {
            writeln!(writer, "line {number}").unwrap();
        }
        writer.write_all(&[b'y'; 2 * MAX_LINE_BYTES]).unwrap();
        drop(writer);
        pump.await.unwrap();
        let tail = tail.lock();
        assert_eq!((tail.len(), tail[0].as_str()), (TAIL_LINES, "line 9"));
        assert_eq!(tail[TAIL_LINES - 1].len(), MAX_LINE_BYTES);
        assert_eq!(std::fs::read(path).unwrap().len(), 20 * 7 + 10 + 2 * MAX_LINE_BYTES);
    }
}
