//! The answer in one sentence, and what else was noticed in one each.

use super::{nouns, scopes};
use crate::{
    model::check::{Class, Diagnostic, DiagnosticKind, Ended, Finding, Findings, ScopeVerdict, Verdict},
    stacks,
    text::fmt::{counted, escape_control, number, process},
};

/// The verdict, with the line that leaks.
pub(super) fn headline(findings: &Findings) -> String {
    match findings.verdict {
        Verdict::Clean => clean(findings),
        Verdict::Leak => leak(findings),
        Verdict::Inconclusive => "INCONCLUSIVE: no leak was found, but not everything was seen".to_owned(),
    }
}

fn clean(findings: &Findings) -> String {
    let events = &findings.trace.events;
    let opened = events.allocated.saturating_sub(events.never_opened);
    let hidden = of_class(findings, Class::Suppressed).count() as u64;
    let hidden =
        if hidden > 0 { format!("; {} suppressed", counted(hidden, "call site")) } else { String::new() };
    let files = nouns::FILES.counted(opened);
    format!(
        "no leak: {}, {files} opened, all closed or within limits{hidden}",
        counted(findings.images, "program")
    )
}

fn leak(findings: &Findings) -> String {
    let leaks = of_class(findings, Class::Leak).count() as u64;
    if let Some(first) = of_class(findings, Class::Leak).next() {
        let more = match leaks - 1 {
            0 => String::new(),
            1 => "; 1 more call site leaks".to_owned(),
            more => format!("; {} more call sites leak", number(more)),
        };
        return format!("LEAK: {}{more}", of_site(findings, first));
    }
    let applied = &findings.applied;
    if let Some(most) = applied.max_total.filter(|most| applied.total > *most) {
        return format!(
            "LEAK: what {} of all call sites made was never closed, and --max-total allows {}",
            counted(applied.total, "call"),
            number(most)
        );
    }
    let mut scopes = scopes::of_verdict(findings, ScopeVerdict::Leak);
    if let Some(first) = scopes.next() {
        let more = match scopes.count() {
            0 => String::new(),
            1 => "; 1 more scope leaks".to_owned(),
            more => format!("; {} more scopes leak", number(more as u64)),
        };
        return format!("LEAK: {}{more}", scopes::sentence(first));
    }
    let fatal = findings.diagnostics.iter().find(|diagnostic| diagnostic.fatal);
    let what = fatal.map_or_else(String::new, |diagnostic| {
        format!(": {} (--fail-on {})", of_diagnostic(diagnostic), diagnostic.kind.name())
    });
    format!("FAILED{what}")
}

/// The findings of a class, in their order.
pub(super) fn of_class(findings: &Findings, class: Class) -> impl Iterator<Item = &Finding> {
    findings.sites.iter().filter(move |finding| finding.class == class)
}

/// `50 files opened at src/server.c:41 (handle_request) were never closed`
pub(super) fn of_site(findings: &Findings, finding: &Finding) -> String {
    let words = nouns::of(finding);
    let were = if finding.handles == 1 { "was" } else { "were" };
    let what = format!("{} {} {} {were}", words.counted(finding.handles), words.made, at(finding));
    match () {
        () if findings.evaluated_early => format!("{what} not {} while it ran", words.ended),
        () if finding.closed_by_end > 0 => format!("{what} {} by nothing but the program's end", words.ended),
        () => format!("{what} never {}", words.ended),
    }
}

/// `at src/server.c:41 (handle_request)`, or what is known instead: `by load_config at app/db.py:12` of a script.
pub(super) fn at(finding: &Finding) -> String {
    let site = &finding.site;
    let place = stacks::place_of(&site.user_stack, &site.kernel_stack);
    match stacks::own(&site.user_stack) {
        Some(frame) if frame.file.is_some() && frame.line.is_some() && !stacks::is_script(frame) => {
            format!("at {place}")
        }
        _ => format!("by {place}"),
    }
}

/// How a program ended, as what follows its name.
pub(super) fn ended(ended: Ended) -> String {
    match ended {
        Ended::Status(status) => format!("exited with status {status}"),
        Ended::Signal(signal) => format!("was killed by {}", signal_name(signal)),
        Ended::Exec => "became another program".to_owned(),
        Ended::Running => "runs still".to_owned(),
    }
}

/// Signals that commonly kill.
const SIGNALS: [(i32, &str); 11] = [
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGTERM, "SIGTERM"),
];

fn signal_name(signal: i32) -> String {
    let known = SIGNALS.iter().find(|(number, _)| *number == signal);
    known.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

/// What else was noticed.
pub(super) fn of_diagnostic(diagnostic: &Diagnostic) -> String {
    let who = process(&diagnostic.comm, diagnostic.pid);
    let count = diagnostic.count;
    match diagnostic.kind {
        DiagnosticKind::Emfile => {
            let times = counted(count, "time");
            format!("{who} had no descriptors left {times} (EMFILE{}){}", limit(diagnostic), top(diagnostic))
        }
        DiagnosticKind::Enfile => {
            let times = counted(count, "time");
            format!(
                "the system had no handles left for {who} {times} (ENFILE{}){}",
                limit(diagnostic),
                top(diagnostic)
            )
        }
        DiagnosticKind::Exec => format!(
            "{who} left {} open when another program took its place, and close-on-exec closed them{}",
            counted(count, "handle"),
            examples(diagnostic)
        ),
        DiagnosticKind::Inherit => {
            let from = diagnostic
                .from
                .as_deref()
                .map(|from| format!(" by {}", escape_control(from)))
                .unwrap_or_default();
            let have = if count == 1 { "has" } else { "have" };
            let descriptors = counted(count, "descriptor");
            format!(
                "{who} was started{from} with {descriptors} that {have} no close-on-exec flag{}",
                examples(diagnostic)
            )
        }
        DiagnosticKind::CloseWait => {
            let more = match diagnostic.processes {
                0 | 1 => String::new(),
                2 => " and 1 more process".to_owned(),
                several => format!(" and {} more processes", number(several - 1)),
            };
            let from = diagnostic
                .top
                .first()
                .map(|site| format!(" from {}", escape_control(&site.place)))
                .unwrap_or_default();
            format!(
                "{who}{more} held {}{from} in CLOSE_WAIT at the end: the peer has hung up, the program has not \
                 closed{}",
                counted(count, "socket"),
                examples(diagnostic)
            )
        }
        DiagnosticKind::Deleted => {
            format!("{who} held {} at the end{}", counted(count, "deleted file"), examples(diagnostic))
        }
        DiagnosticKind::GrowingWithPeers => {
            let at = diagnostic
                .top
                .first()
                .map(|site| format!(" from {}", escape_control(&site.place)))
                .unwrap_or_default();
            format!(
                "{who} grows with its clients ({}): it has {}{at}, and no peer has hung up{}",
                counted(count, "peer"),
                counted(count, "accepted socket"),
                examples(diagnostic)
            )
        }
        DiagnosticKind::Teardown => {
            let from = match diagnostic.top.as_slice() {
                [] => String::new(),
                [only] => format!(" from {}", escape_control(&only.place)),
                [most, ..] => {
                    format!(", {} of them from {},", number(most.live), escape_control(&most.place))
                }
            };
            let (files, them) = (nouns::FILES.counted(count), if count == 1 { "it" } else { "them" });
            format!("{files}{from} lived until the end of {who}: nothing else closed {them}")
        }
        DiagnosticKind::Peak => {
            let of =
                diagnostic.limit.map(|limit| format!(", of at most {}", number(limit))).unwrap_or_default();
            format!("{who} had {} of its own at once{of}", counted(count, "descriptor"))
        }
    }
}

fn limit(diagnostic: &Diagnostic) -> String {
    diagnostic.limit.map(|limit| format!(", limit {}", number(limit))).unwrap_or_default()
}

fn top(diagnostic: &Diagnostic) -> String {
    // What is duplicated takes descriptors, and makes no handles.
    let thing = if diagnostic.kind == DiagnosticKind::Emfile { "descriptor" } else { "handle" };
    let first = diagnostic.top.first();
    first.map_or_else(String::new, |top| {
        format!("; {} then came from {}", counted(top.live, thing), escape_control(&top.place))
    })
}

/// The first example.
fn examples(diagnostic: &Diagnostic) -> String {
    let first = diagnostic.examples.first();
    first.map_or_else(String::new, |example| {
        let fd = example.fd.map(|fd| format!("fd {fd} ")).unwrap_or_default();
        format!(" (e.g. {fd}{})", escape_control(&example.name))
    })
}
