//! JUnit XML, as CI servers show test results: the run is a test, and each leak is one that failed.

use std::{
    io::{self, Write},
    time::Duration,
};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite, XmlString};

use super::{
    scopes,
    sentence::{self, of_class},
    text,
};
use crate::{
    model::check::{Class, Finding, Findings, ScopeFound, ScopeVerdict, Verdict},
    report::Style,
    text::{escape_control_lines, fmt::escape_control},
};

/// What the tests are called together.
const SUITE: &str = "fdtrace";

/// How the text in a test looks.
const STYLE: Style = Style { color: false, top: usize::MAX, verbose: false, finished: true };

/// Writes findings as JUnit XML.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    let time = Duration::from_nanos(findings.command.duration_ns);
    let mut suite = TestSuite::new(SUITE);
    suite.set_time(time);
    suite.add_test_case(run(findings, time)?);
    for finding in of_class(findings, Class::Leak) {
        suite.add_test_case(leak(findings, finding)?);
    }
    for found in &findings.scopes {
        suite.add_test_case(scope(found)?);
    }
    let mut report = Report::new(SUITE);
    report.set_time(time);
    report.add_test_suite(suite);
    report.serialize(&mut *out).map_err(io::Error::other)?;
    out.flush()
}

/// The run as a whole.
fn run(findings: &Findings, time: Duration) -> io::Result<TestCase> {
    let kind = match findings.verdict {
        Verdict::Clean => None,
        Verdict::Leak => Some(NonSuccessKind::Failure),
        Verdict::Inconclusive => Some(NonSuccessKind::Error),
    };
    let status = match kind {
        None => TestCaseStatus::success(),
        Some(kind) => {
            let text = written(|out| text::write(out, findings, STYLE))?;
            not_passed(kind, &sentence::headline(findings), findings.verdict.name(), &text)
        }
    };
    let command = findings.command.argv.join(" ");
    let name =
        if command.is_empty() { "processes that ran already".to_owned() } else { escape_control(&command) };
    let mut case = TestCase::new(name, status);
    case.set_classname("fdtrace.check").set_time(time);
    Ok(case)
}

fn leak(findings: &Findings, finding: &Finding) -> io::Result<TestCase> {
    let text = written(|out| text::write_leak(out, findings, finding, STYLE))?;
    let message = sentence::of_site(findings, finding);
    let status = not_passed(NonSuccessKind::Failure, &message, Class::Leak.name(), &text);
    let name = format!("{} {}", finding.site.origin, sentence::at(finding));
    let mut case = TestCase::new(escape_control_lines(&name), status);
    case.set_classname("fdtrace.leak");
    Ok(case)
}

/// A part of the run that the command announced.
fn scope(scope: &ScopeFound) -> io::Result<TestCase> {
    let verdict = scope.verdict;
    let text = written(|out| scopes::write(out, scope, STYLE))?;
    let status = match verdict {
        ScopeVerdict::Leak => {
            not_passed(NonSuccessKind::Failure, &scopes::sentence(scope), verdict.name(), &text)
        }
        ScopeVerdict::Clean | ScopeVerdict::Kept => TestCaseStatus::success(),
    };
    let mut case = TestCase::new(escape_control(&scope.name), status);
    case.set_classname("fdtrace.scope");
    if let Some(duration) = scope.duration_ns {
        case.set_time(Duration::from_nanos(duration));
    }
    if verdict == ScopeVerdict::Kept {
        case.set_system_out(XmlString::new(escape_control_lines(&text)));
    }
    Ok(case)
}

fn not_passed(kind: NonSuccessKind, message: &str, class: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    // XML cannot carry all characters, not even as references.
    let (message, text) = (escape_control_lines(message), escape_control_lines(text));
    status.set_message(message).set_type(class).set_description(XmlString::new(text));
    status
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<String> {
    let mut out = Vec::new();
    write(&mut out)?;
    String::from_utf8(out).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};
    use crate::model::fixture::{self, HOSTILE, rename};

    fn xml(findings: &Findings) -> String {
        fixture::written(|out| write(out, findings))
    }

    #[test]
    fn a_clean_run_is_one_passed_test() {
        assert_eq!(
            xml(&findings(Verdict::Clean, no_leaks())),
            r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="fdtrace" tests="1" skipped="0" failures="0" errors="0" time="12.500">
    <testsuite name="fdtrace" tests="1" skipped="0" errors="0" failures="0" time="12.500">
        <testcase name="server --once" classname="fdtrace.check" time="12.500"/>
    </testsuite>
</testsuites>
"#
        );
    }

    #[test]
    fn every_leak_is_a_failed_test() {
        let text = xml(&all_sorts());
        assert!(text.contains(r#"tests="3" skipped="0" failures="3" errors="0""#), "{text}");
        assert!(text.contains(r#"<testcase name="open at src/server.c:41 (handle_request)""#), "{text}");
        assert!(text.contains(r#"<failure message="50 files opened at "#), "{text}");
        assert!(text.contains("to fix it: call fclose() on every path"), "{text}");
    }

    #[test]
    fn a_scripts_leak_is_named_by_its_line() {
        let text = xml(&findings(Verdict::Leak, vec![script_leak()]));
        assert!(text.contains(r#"<testcase name="pipe by load_config at app/db.py:12""#), "{text}");
    }

    #[test]
    fn a_doubtful_run_is_an_error() {
        let mut findings = findings(Verdict::Inconclusive, Vec::new());
        findings.incomplete_reasons.push("7 events & more were lost <here>".to_owned());
        let text = xml(&findings);
        assert!(text.contains(r#"failures="0" errors="1""#), "{text}");
        assert!(text.contains("7 events &amp; more were lost &lt;here&gt;"), "{text}");
    }

    #[test]
    fn names_cannot_break_it() {
        let mut findings = findings(Verdict::Clean, Vec::new());
        findings.command.argv = vec!["\"<a>\x1b[2J\u{1}".to_owned()];
        let text = xml(&findings);
        roxmltree::Document::parse(&text).expect("XML");
        assert!(text.contains("&quot;&lt;a&gt;\\u{1b}[2J\\u{1}"), "{text}");
    }

    #[test]
    fn every_name_is_in_well_formed_xml() {
        for name in HOSTILE {
            let mut findings = all_sorts();
            findings.sites.push(script_leak());
            findings.command.argv = vec![name.to_owned()];
            findings.incomplete_reasons.push(name.to_owned());
            for finding in &mut findings.sites {
                rename(&mut finding.site, name);
                finding.suppressed_by = Some(name.to_owned());
                finding.images.iter_mut().for_each(|image| image.comm = name.to_owned());
            }
            let text = xml(&findings);
            let parsed = roxmltree::Document::parse(&text).expect("XML");
            assert!(parsed.descendants().any(|node| node.has_tag_name("failure")));
            let shown = text.replace('\n', "");
            assert!(!shown.chars().any(crate::text::fmt::steers), "{name:?}: {text}");
        }
    }
}
