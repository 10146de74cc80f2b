//! Scopes that the command announced, in a sentence and in some lines.

use std::io::{self, Write};

use super::{nouns, sentence, text};
use crate::{
    model::check::{Findings, KeptInScope, ScopeFound, ScopeVerdict, Word},
    report::Style,
    text::fmt::{escape_control, process},
};

/// Call sites of a scope that a sentence names.
const NAMED: usize = 3;

/// Those of a verdict, in their order.
pub(super) fn of_verdict(findings: &Findings, verdict: ScopeVerdict) -> impl Iterator<Item = &ScopeFound> {
    findings.scopes.iter().filter(move |scope| scope.verdict == verdict)
}

/// `test_a.py::test_b kept 1 file opened by python3.11 (fd 5 /etc/hostname)`
pub(super) fn sentence(scope: &ScopeFound) -> String {
    let name = escape_control(&scope.name);
    let mut kept: Vec<String> = scope.kept.iter().take(NAMED).map(of_site).collect();
    if scope.kept.len() > NAMED {
        kept.push(format!("more of {} call sites", scope.kept.len() - NAMED));
    }
    match (kept.is_empty(), scope.said) {
        (true, Some(Word::Fail)) => format!("{name} failed: what it had kept was closed later"),
        (true, _) => format!("{name} kept nothing"),
        (false, _) => format!("{name} kept {}", kept.join(", ")),
    }
}

fn of_site(kept: &KeptInScope) -> String {
    let finding = kept.finding();
    let words = nouns::of(&finding);
    let example = kept.examples.first().map(|example| format!(" ({})", text::example(example)));
    let what = format!("{} {} {}", words.counted(kept.handles), words.made, sentence::at(&finding));
    what + &example.unwrap_or_default()
}

/// Who it was, and where what it kept was made.
pub(super) fn write(out: &mut impl Write, scope: &ScopeFound, style: Style) -> io::Result<()> {
    writeln!(out, "  in {}{}", process(&scope.comm, scope.pid), how(scope))?;
    for kept in &scope.kept {
        let finding = kept.finding();
        if scope.kept.len() > 1 {
            writeln!(out, "  {}", of_site(kept))?;
        }
        text::write_place(out, &finding, style)?;
    }
    Ok(())
}

fn how(scope: &ScopeFound) -> &'static str {
    match (scope.duration_ns, scope.said) {
        (None, None) if scope.whole => "",
        (None, _) => ", which never ended the scope",
        (_, Some(Word::Fail)) => ", which says that this scope leaks",
        (_, Some(Word::Pass)) => ", which says that this is in order",
        (_, None) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};
    use crate::model::{
        check::{Class, Verdict},
        fixture::{HOSTILE, written},
    };

    const STYLE: Style = Style { color: false, top: 10, verbose: false, finished: true };

    #[test]
    fn a_scope_is_evaluated_by_its_sites_or_by_its_runner() {
        let mut findings = findings(Verdict::Leak, vec![c_leak()]);
        let of = |said, id: &str| ScopeFound { said, ..scope("t", id) };
        let verdict = |scope: &ScopeFound, findings: &Findings| scope.evaluated(&findings.sites);
        assert_eq!(verdict(&of(None, "c1ea"), &findings), ScopeVerdict::Leak);
        assert_eq!(verdict(&of(None, "other"), &findings), ScopeVerdict::Kept);
        assert_eq!(verdict(&of(Some(Word::Pass), "c1ea"), &findings), ScopeVerdict::Kept);
        assert_eq!(verdict(&of(Some(Word::Fail), "other"), &findings), ScopeVerdict::Leak);
        assert_eq!(verdict(&ScopeFound { kept: Vec::new(), ..of(None, "") }, &findings), ScopeVerdict::Clean);
        findings.sites[0].class = Class::Suppressed;
        assert_eq!(verdict(&of(None, "c1ea"), &findings), ScopeVerdict::Kept);
    }

    #[test]
    fn one_that_fails_is_the_headline_where_no_site_leaks() {
        let mut findings = findings(Verdict::Leak, Vec::new());
        findings.scopes =
            vec![ScopeFound { said: Some(Word::Fail), ..scope("test_a", "c1ea") }, scope("test_b", "x")];
        findings.evaluate_scopes();
        let text = written(|out| text::write(out, &findings, STYLE));
        let first = "fdtrace: LEAK: test_a kept 2 files opened at src/server.c:41 (handle_request) (fd 5 /var/lib/app/0.conf)\n";
        assert!(text.starts_with(first), "{text}");
        assert!(text.contains("  in python3 (4711), which says that this scope leaks\n"), "{text}");
        assert!(text.contains("1 scope of 2 kept something that is no leak (-v lists them)"), "{text}");
        findings.sites = vec![c_leak()];
        let text = written(|out| text::write(out, &findings, STYLE));
        assert!(text.contains("LEAK: 50 files") && text.contains("\n  test_a kept 2 files"), "{text}");
    }

    #[test]
    fn each_is_a_case_whatever_it_is_called() {
        for name in HOSTILE {
            let mut findings = findings(Verdict::Leak, vec![c_leak()]);
            findings.scopes = vec![scope(name, "c1ea"), scope("clean", "x")];
            findings.evaluate_scopes();
            let xml = written(|out| super::super::write_junit(out, &findings));
            let parsed = roxmltree::Document::parse(&xml).expect("XML");
            let cases =
                parsed.descendants().filter(|node| node.attribute("classname") == Some("fdtrace.scope"));
            let failed: Vec<bool> =
                cases.map(|case| case.children().any(|child| child.has_tag_name("failure"))).collect();
            assert_eq!(failed, [true, false], "{xml}");
            let json = written(|out| crate::report::write_json(out, &findings));
            let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            assert_eq!(json["scopes"][0]["name"], name);
            assert_eq!([&json["scopes"][0]["verdict"], &json["scopes"][1]["verdict"]], ["leak", "kept"]);
            assert_eq!(json["scopes"][0]["kept"][0]["site"], "c1ea");
        }
    }
}
