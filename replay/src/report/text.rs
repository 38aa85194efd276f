//! A report as text. Every part of it was made harmless where it was made; here it is only laid out.

use std::fmt::Write as _;

use super::{Mode, Pair, Report, Verdict};
use crate::compare::{Divergence, Line};

/// Divergences after the first are told in a line each, up to this many.
const MAX_MORE: usize = 20;
/// Leftover calls that are listed.
const MAX_LEFT: usize = 10;

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

struct Page {
    text: String,
    color: bool,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn colored(&mut self, color: &str, line: &str) {
        if self.color {
            self.line(&format!("{color}{line}{PLAIN}"));
        } else {
            self.line(line);
        }
    }
}

pub(super) fn render(report: &Report, color: bool) -> String {
    let mut page = Page { text: String::new(), color };
    head(&mut page, report);
    if let Some(first) = report.divergences.first() {
        page.line("");
        divergence(&mut page, first);
    }
    others(&mut page, report);
    leftovers(&mut page, report);
    page.line("");
    for note in &report.notes {
        page.line(&format!("note: {note}"));
    }
    resources(&mut page, report);
    page.text
}

fn head(page: &mut Page, report: &Report) {
    let what = match report.mode {
        Mode::Exact => "same bundle",
        Mode::Overridden => "same bundle, other answers",
        Mode::WhatIf => "other bundle",
    };
    let class = report.class.map_or_else(String::new, |class| format!(" ({})", class.as_str()));
    let (color, verdict) = match report.verdict {
        Verdict::Identical => (GREEN, "identical"),
        Verdict::Diverged => (RED, "diverged"),
        Verdict::SecretDependent => (YELLOW, "secret-dependent"),
    };
    page.colored(color, &format!("{verdict}{class}: {} {}, {what}", report.execution, report.request));
    if report.verdict == Verdict::SecretDependent {
        page.line(
            "  The guest had seen a secret; the trace has only its token, of which it made something else.",
        );
    }
    if let Some(partial) = &report.partial {
        page.line(&format!("  Only the beginning was compared: {partial}"));
    }
    page.line(&format!("  recorded: {}   replayed: {}", report.recorded_end, report.replayed_end));
    page.line(&format!(
        "  host calls: {} recorded, {} replayed, {} of these as recorded",
        report.calls.recorded, report.calls.replayed, report.matched
    ));
    if report.by_shape > 0 {
        page.line(&format!(
            "  {} compared by shape alone: redaction had replaced credentials there",
            report.by_shape
        ));
    }
}

fn divergence(page: &mut Page, first: &Divergence) {
    page.line(&format!("first divergence: {} in {}: {}", first.class.as_str(), first.function, first.what));
    for line in &first.context {
        page.line(&format!("    {}", call(line)));
    }
    let number = first.recorded_call.map_or_else(|| "new".to_owned(), |number| format!("#{number}"));
    if first.recorded_call.is_some() || first.replayed_call.is_some() {
        page.line(&format!("  > {number} {}", first.function));
    }
    for line in first.diff.iter().flat_map(crate::diff::Diff::lines) {
        match line.chars().next() {
            Some('-') => page.colored(RED, &format!("    {line}")),
            Some('+') => page.colored(GREEN, &format!("    {line}")),
            _ => page.line(&format!("    {line}")),
        }
    }
}

fn call(line: &Line) -> String {
    let number = line.call.map_or_else(|| "new".to_owned(), |number| format!("#{number}"));
    format!("{number} {} {} -> {}", line.function, line.args, line.outcome)
}

fn others(page: &mut Page, report: &Report) {
    let others = report.divergences.get(1..).unwrap_or_default();
    if others.is_empty() {
        return;
    }
    page.line("");
    page.line("then:");
    for other in others.iter().take(MAX_MORE) {
        page.line(&format!("  {} in {}: {}", other.class.as_str(), other.function, other.what));
    }
    let more = report.more_divergences + others.len().saturating_sub(MAX_MORE) as u64;
    if more > 0 {
        page.line(&format!("  and {more} more"));
    }
}

fn leftovers(page: &mut Page, report: &Report) {
    if report.leftovers.is_empty() {
        return;
    }
    page.line("");
    page.line("recorded host calls that did not come:");
    for line in report.leftovers.iter().take(MAX_LEFT) {
        page.line(&format!("  {}", call(line)));
    }
    let more = report.more_leftovers + report.leftovers.len().saturating_sub(MAX_LEFT) as u64;
    if more > 0 {
        page.line(&format!("  and {more} more"));
    }
}

fn resources(page: &mut Page, report: &Report) {
    let resources = &report.resources;
    let mut line = String::from("resources (recorded -> replayed):");
    let ms = |pair: Pair| {
        format!(
            "{}.{:03} -> {}.{:03} ms",
            pair.recorded / 1000,
            pair.recorded % 1000,
            pair.replayed / 1000,
            pair.replayed % 1000
        )
    };
    let kib = |pair: Pair| format!("{} -> {} KiB", pair.recorded / 1024, pair.replayed / 1024);
    // Writing into a String cannot fail.
    let _ = write!(
        line,
        " CPU {}, memory {}, host calls {} -> {}, handler {}",
        ms(resources.cpu_us),
        kib(resources.peak_memory_bytes),
        resources.host_calls.recorded,
        resources.host_calls.replayed,
        ms(resources.handler_us),
    );
    if let Some(fuel) = &resources.fuel {
        let _ = write!(line, ", fuel {} -> {} (x{:.3})", fuel.recorded_bundle, fuel.candidate, fuel.ratio);
    }
    page.line(&line);
}
