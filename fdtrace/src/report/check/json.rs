//! `fdtrace.check/1`: the findings for programs; keys may be added, never renamed.

use std::io::{self, Write};

use serde::Serialize;

use crate::report::place_of_site;
use crate::{
    check::{
        AppliedPolicy, Diagnostic, Ended, Finding, Findings, KeptBy, KeptInScope, ScopeFound, Suppressing,
        TopHolder, Word,
    },
    report::{Example, FullTable, Site, Trace},
};

/// Name and version of the shape.
const SCHEMA: &str = "fdtrace.check/1";

#[derive(Serialize)]
struct CheckDocument<'a> {
    schema: &'static str,
    verdict: &'static str,
    incomplete_reasons: &'a [String],
    evaluated_early: bool,
    command: Command<'a>,
    trace: &'a Trace,
    programs: u64,
    total: u64,
    max_total: Option<u64>,
    sites: Vec<SiteLine<'a>>,
    diagnostics: Vec<DiagnosticLine<'a>>,
    processes: &'a [FullTable],
    scopes: Vec<ScopeLine<'a>>,
    suppressions: Vec<SuppressionLine<'a>>,
    baseline_removable: &'a [String],
}

#[derive(Serialize)]
struct Command<'a> {
    argv: &'a [String],
    /// As a shell has it; none while it runs.
    exit_status: Option<i32>,
    signal: Option<i32>,
    duration_ns: u64,
}

#[derive(Serialize)]
struct SiteLine<'a> {
    #[serde(flatten)]
    site: &'a Site,
    leaked: u64,
    class: &'static str,
    suppressed_by: Option<&'a str>,
    because: Option<&'a str>,
    class_before: &'static str,
    /// What the baseline allows, for a site that leaks more.
    baseline: Option<u64>,
    handles: u64,
    closed_by_end: u64,
    images: Vec<Image<'a>>,
    images_in_all: u64,
}

#[derive(Serialize)]
struct Image<'a> {
    pid: u32,
    comm: &'a str,
    exe: &'a str,
    calls: u64,
    handles: u64,
    allocated: u64,
    released: u64,
    ended: &'static str,
    exit_status: Option<i32>,
}

#[derive(Serialize)]
struct DiagnosticLine<'a> {
    kind: &'static str,
    fatal: bool,
    pid: u32,
    comm: &'a str,
    count: u64,
    processes: u64,
    limit: Option<u64>,
    at_ns: u64,
    from: Option<&'a str>,
    examples: &'a [Example],
    top: Vec<Top<'a>>,
}

#[derive(Serialize)]
struct Top<'a> {
    site: &'a str,
    place: &'a str,
    live: u64,
}

#[derive(Serialize)]
struct ScopeLine<'a> {
    name: &'a str,
    pid: u32,
    comm: &'a str,
    whole: bool,
    begun_ns: u64,
    /// None for a scope that never ended.
    duration_ns: Option<u64>,
    verdict: &'static str,
    /// What the runner said of it.
    said: Option<&'static str>,
    at_end: u64,
    kept: Vec<KeptLine<'a>>,
}

#[derive(Serialize)]
struct KeptLine<'a> {
    site: &'a str,
    origin: &'static str,
    place: String,
    acquired: bool,
    calls: u64,
    handles: u64,
    examples: &'a [Example],
}

#[derive(Serialize)]
struct SuppressionLine<'a> {
    line: &'a str,
    place: &'a str,
    sites: u64,
}

/// Writes findings as one line of JSON.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    crate::report::write_json(out, &document(findings))
}

fn document(findings: &Findings) -> CheckDocument<'_> {
    let steered = &findings.steered;
    let command = &findings.command;
    CheckDocument {
        schema: SCHEMA,
        verdict: findings.verdict.name(),
        incomplete_reasons: &findings.incomplete_reasons,
        evaluated_early: findings.evaluated_early,
        command: Command {
            argv: &command.argv,
            exit_status: command.ended.status(),
            signal: signal(command.ended),
            duration_ns: command.duration_ns,
        },
        trace: &findings.trace,
        programs: findings.images,
        total: steered.total,
        max_total: steered.max_total,
        sites: findings.sites.iter().map(|finding| site(finding, steered)).collect(),
        diagnostics: findings.diagnostics.iter().map(diagnostics).collect(),
        processes: &findings.tables,
        scopes: findings.scopes.iter().map(|found| scope(findings, found)).collect(),
        suppressions: suppressions(steered),
        baseline_removable: &steered.removable,
    }
}

fn signal(ended: Ended) -> Option<i32> {
    match ended {
        Ended::Signal(signal) => Some(signal),
        _ => None,
    }
}

fn site<'a>(finding: &'a Finding, steered: &AppliedPolicy) -> SiteLine<'a> {
    SiteLine {
        site: &finding.site,
        leaked: finding.leaked,
        class: finding.class.name(),
        suppressed_by: finding.suppressed_by.as_deref(),
        because: finding.because.as_deref(),
        class_before: finding.class_before.name(),
        baseline: steered.grown.get(&finding.site.id).copied(),
        handles: finding.handles,
        closed_by_end: finding.closed_by_end,
        images: finding.images.iter().map(image).collect(),
        images_in_all: finding.images_in_all,
    }
}

fn image(kept: &KeptBy) -> Image<'_> {
    Image {
        pid: kept.pid,
        comm: &kept.comm,
        exe: &kept.exe,
        calls: kept.calls,
        handles: kept.handles,
        allocated: kept.allocated,
        released: kept.released,
        ended: kept.ended.name(),
        exit_status: kept.ended.status(),
    }
}

fn diagnostics(diagnostics: &Diagnostic) -> DiagnosticLine<'_> {
    DiagnosticLine {
        kind: diagnostics.kind.name(),
        fatal: diagnostics.fatal,
        pid: diagnostics.pid,
        comm: &diagnostics.comm,
        count: diagnostics.count,
        processes: diagnostics.processes,
        limit: diagnostics.limit,
        at_ns: diagnostics.at_ns,
        from: diagnostics.from.as_deref(),
        examples: &diagnostics.examples,
        top: diagnostics.top.iter().map(top).collect(),
    }
}

fn scope<'a>(findings: &Findings, scope: &'a ScopeFound) -> ScopeLine<'a> {
    ScopeLine {
        name: &scope.name,
        pid: scope.pid,
        comm: &scope.comm,
        whole: scope.whole,
        begun_ns: scope.begun_ns,
        duration_ns: scope.duration_ns,
        verdict: scope.verdict(findings).name(),
        said: scope.said.map(Word::name),
        at_end: scope.at_end,
        kept: scope.kept.iter().map(kept).collect(),
    }
}

fn kept(kept: &KeptInScope) -> KeptLine<'_> {
    KeptLine {
        site: &kept.id,
        origin: kept.site.origin,
        place: place_of_site(&kept.site),
        acquired: kept.site.acquired,
        calls: kept.calls,
        handles: kept.handles,
        examples: &kept.examples,
    }
}

fn top(holder: &TopHolder) -> Top<'_> {
    Top { site: &holder.site, place: &holder.place, live: holder.live }
}

fn suppression(one: &Suppressing) -> SuppressionLine<'_> {
    SuppressionLine { line: &one.line, place: &one.place, sites: one.sites }
}

fn suppressions(steered: &AppliedPolicy) -> Vec<SuppressionLine<'_>> {
    steered.suppressions.iter().map(suppression).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::fixture::*, *};
    use crate::{check::Verdict, report::fixture::written};

    fn value(findings: &Findings) -> Value {
        serde_json::from_str(&written(|out| write(out, findings))).expect("JSON")
    }

    #[test]
    fn what_others_read() {
        let mut findings = all_sorts();
        findings.steered.grown.insert("c1ea".to_owned(), 12);
        let line = Suppressing { line: "leak:x".to_owned(), place: "f:1".to_owned(), sites: 0 };
        findings.steered.suppressions.push(line);
        let value = value(&findings);
        assert_eq!([&value["schema"], &value["verdict"]], ["fdtrace.check/1", "leak"]);
        assert_eq!(value["command"]["argv"], json!(["server", "--once"]));
        assert_eq!(value["command"]["exit_status"], 0);
        assert_eq!(value["trace"]["events"]["allocated"], 1_062);
        let first = &value["sites"][0];
        assert_eq!([&first["id"], &first["class"], &first["origin"]], ["c1ea", "leak", "open"]);
        assert_eq!([&first["leaked"], &first["baseline"]], [50, 12]);
        assert_eq!(first["user_stack"][3]["line"], 41);
        assert_eq!(first["images"][0]["ended"], "exit");
        assert_eq!(value["sites"][1]["images"][0]["exit_status"], 143);
        let suppressed = &value["sites"][2];
        assert_eq!([&suppressed["class"], &suppressed["class_before"]], ["suppressed", "leak"]);
        assert_eq!(suppressed["suppressed_by"], "leak:known");
        assert_eq!(value["diagnostics"][0]["top"][0]["place"], "handle_request");
        assert_eq!(value["suppressions"], json!([{"line": "leak:x", "place": "f:1", "sites": 0}]));
    }

    #[test]
    fn what_was_killed_has_the_status_of_a_shell() {
        let mut findings = findings(Verdict::Clean, Vec::new());
        findings.command.ended = Ended::Signal(9);
        let value = value(&findings);
        assert_eq!([&value["command"]["exit_status"], &value["command"]["signal"]], [137, 9]);
    }
}
