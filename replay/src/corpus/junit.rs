//! JUnit's XML, as CI servers read it: a divergence is a failure; what could not be asked is skipped, or an error.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::{CaseReport, CaseVerdict, CorpusReport};

pub(super) fn render(report: &CorpusReport) -> String {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    // Writing into a vector cannot fail, and the words that go in are escaped by the writer.
    let written = document(&mut writer, report);
    debug_assert!(written.is_ok());
    String::from_utf8(writer.into_inner()).unwrap_or_default()
}

fn document(writer: &mut Writer<Vec<u8>>, report: &CorpusReport) -> std::io::Result<()> {
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let mut suite = BytesStart::new("testsuite");
    let skipped = report.unusable + report.secret_dependent + report.recorder_gaps;
    for (name, value) in [
        ("tests", report.total),
        ("failures", report.diverged),
        ("errors", report.failed),
        ("skipped", skipped),
    ] {
        suite.push_attribute((name, value.to_string().as_str()));
    }
    suite.push_attribute(("name", "longshore replay"));
    writer.write_event(Event::Start(suite))?;
    for case in &report.cases {
        testcase(writer, case)?;
    }
    writer.write_event(Event::End(BytesEnd::new("testsuite")))
}

fn testcase(writer: &mut Writer<Vec<u8>>, case: &CaseReport) -> std::io::Result<()> {
    let mut start = BytesStart::new("testcase");
    let (name, request, what) = (clean(&case.name), clean(&case.request), clean(&case.what));
    start.push_attribute(("classname", if request.is_empty() { "replay" } else { &request }));
    start.push_attribute(("name", name.as_str()));
    let child = match case.verdict {
        CaseVerdict::Same => return writer.write_event(Event::Empty(start)),
        CaseVerdict::Diverged => "failure",
        CaseVerdict::Failed => "error",
        CaseVerdict::RecorderGap | CaseVerdict::SecretDependent | CaseVerdict::Unusable => "skipped",
    };
    writer.write_event(Event::Start(start))?;
    let mut element = BytesStart::new(child);
    element.push_attribute(("message", what.as_str()));
    if let Some(divergence) = &case.divergence
        && child == "failure"
    {
        element.push_attribute(("type", divergence.class.as_str()));
        let lines = divergence.diff.iter().flat_map(crate::diff::Diff::lines);
        let text = clean(&lines.collect::<Vec<_>>().join("\n"));
        writer.write_event(Event::Start(element))?;
        writer.write_event(Event::Text(BytesText::new(&text)))?;
        writer.write_event(Event::End(BytesEnd::new(child)))?;
    } else {
        writer.write_event(Event::Empty(element))?;
    }
    writer.write_event(Event::End(BytesEnd::new("testcase")))
}

/// XML 1.0 has no place for most control characters, escaped or not.
fn clean(text: &str) -> String {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if allowed(c) { c } else { '\u{fffd}' }).collect()
}
