//! What the user sees: lines on stdout, and spinners for what takes long where stdout is a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Prints. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ui {
    bars: MultiProgress,
    terminal: bool,
}

impl Ui {
    /// Spinners only in a terminal: a log file wants lines.
    pub(super) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let target = if terminal { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), terminal }
    }

    /// A line.
    pub(super) fn line(&self, text: impl AsRef<str>) {
        // A closed pipe is no reason to panic, so no `println!`.
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
        });
    }

    /// A named result: `  nats-server     2.12.3 on 127.0.0.1:4222`.
    pub(super) fn item(&self, name: &str, text: impl AsRef<str>) {
        self.line(format!("  {name:<14} {}", text.as_ref()));
    }

    /// Something that may take seconds: outside a terminal it is announced, so that a log shows what is being waited for.
    pub(super) fn long_step(&self, name: &str, text: &str) -> Step {
        if !self.terminal {
            self.item(name, format!("{text} ..."));
        }
        self.step(name, text)
    }

    /// Something with a result. In a terminal a spinner with the time spent, elsewhere only the result.
    pub(super) fn step(&self, name: &str, text: &str) -> Step {
        if !self.terminal {
            return Step { ui: self.clone(), name: name.to_owned(), bar: None };
        }
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("  {prefix:<14} {spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Step { ui: self.clone(), name: name.to_owned(), bar: Some(bar) }
    }
}

/// A step under way; dropping it takes its spinner away.
pub(super) struct Step {
    ui: Ui,
    name: String,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Says what is being done now.
    pub(super) fn now(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => self.ui.item(&self.name, format!("{text} ...")),
        }
    }

    /// Ends with a result.
    pub(super) fn done(mut self, text: impl AsRef<str>) {
        self.clear();
        self.ui.item(&self.name, text);
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.clear();
    }
}
