use super::{super::fixture::*, *};
use crate::model::{
    check::{AppliedPolicy, DiagnosticKind, Suppressing, TopHolder},
    fixture::{frame, kernel, written},
};

const STYLE: Style = Style { color: false, top: 10, verbose: false, finished: true };

fn text(findings: &Findings) -> String {
    written(|out| write(out, findings, STYLE))
}

fn leaks(sites: Vec<Finding>) -> Findings {
    findings(Verdict::Leak, sites)
}

#[test]
fn the_leaking_line_comes_first() {
    assert_eq!(
        text(&leaks(vec![c_leak()])),
        "\
fdtrace: LEAK: 50 files opened at src/server.c:41 (handle_request) were never closed
  in server (4711, /opt/app/server), which exited with status 0: 50 of the 1,050 files opened here were kept
    fopen           libc.so.6
  > handle_request  src/server.c:41  server
    serve           src/serve.h:12 (inlined)  server
    main            src/server.c:97  server
  for example: fd 5 /var/lib/app/0.conf, fd 6 /var/lib/app/1.conf, fd 7 /var/lib/app/2.conf
  to fix it: call fclose() on every path out of handle_request, error paths too, or hand it to an owner that does
  to accept it: a line `leak:handle_request` in a --suppressions file, or --max-per-site 50
"
    );
}

#[test]
fn a_script_is_named_by_its_interpreter() {
    let mut findings = leaks(vec![python_leak()]);
    findings.command.ended = Ended::Signal(libc::SIGTERM);
    assert_eq!(
        text(&findings),
        "\
fdtrace: LEAK: 8 pipe ends created by python3.11 were never closed
  in python3 (4711, /usr/bin/python3.11), which was killed by SIGTERM: all 8 pipe ends created here were kept, by 4 calls
  and 2 processes more
    pipe2                     libc.so.6
    os_pipe                   python3.11
    _PyEval_EvalFrameDefault  python3.11
    Py_BytesMain              python3.11
  for example: fd 3 pipe:[77], fd 4 pipe:[77]
  to fix it: close both ends, or run the child as `with subprocess.Popen(...)`
  to accept it: --write-baseline and --baseline, or --max-per-site 4

fdtrace: note: the command itself was killed by SIGTERM
"
    );
}

#[test]
fn a_script_is_named_by_its_line() {
    let text = text(&leaks(vec![script_leak()]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "fdtrace: LEAK: 8 pipe ends created by load_config at app/db.py:12 were never closed"
    );
    assert_eq!(
        lines[3..6],
        ["    pipe2        libc.so.6", "  > load_config  app/db.py:12", "    main         app/db.py:30"]
    );
    assert!(text.contains("to fix it: close both ends"), "{text}");
    assert!(text.contains("a line `leak:load_config` in a --suppressions file"), "{text}");
}

#[test]
fn lines_that_could_not_be_had_are_said_to_be_missing() {
    let because = Some("the lines of the script could not be had".to_owned());
    let text = text(&leaks(vec![Finding { because, ..python_leak() }]));
    assert!(text.contains("\n  the lines of the script could not be had\n  to fix it: "), "{text}");
}

#[test]
fn a_clean_run_is_one_line() {
    assert_eq!(
        text(&findings(Verdict::Clean, Vec::new())),
        "fdtrace: no leak: 3 programs, 1,050 files opened, all closed or within limits\n"
    );
    let text = text(&findings(Verdict::Clean, no_leaks()));
    assert!(
        text.ends_with(" or within limits; 1 call site suppressed\n") && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn what_is_no_leak_is_a_line_for_each_class() {
    let mut sites = vec![c_leak()];
    sites.extend(no_leaks());
    let findings = leaks(sites);
    let short = text(&findings);
    let (_, notes) = short.split_once("\n\n").expect("notes");
    assert_eq!(
        notes,
        "\
fdtrace: note: 1 call site suppressed
fdtrace: note: 1 call site steady: kept, but others were closed and there were as many before (a pool, a cache)
fdtrace: note: 1 call site inherited: open at the end in a program that has not made it
fdtrace: note: 1 call site mapped: held by mappings alone
fdtrace: note: 1 call site closed at an exec by close-on-exec
fdtrace: note: 1 call site within limits: kept no more calls than a site may (-v lists them)
"
    );
    let long = written(|out| write(out, &findings, Style { verbose: true, ..STYLE }));
    assert!(
        long.contains("\nfdtrace: note:   3 files opened by known_leak in server (leak:known)\n"),
        "{long}"
    );
    assert!(long.contains("    _IO_file_open           libc.so.6\n"), "{long}");
    assert!(!long.contains("-v lists"), "{long}");
}

#[test]
fn what_else_was_noticed() {
    let mut findings = findings(Verdict::Clean, Vec::new());
    findings.diagnostics.push(emfile());
    findings.diagnostics.extend(DiagnosticKind::ALL[1..].iter().map(|kind| noticed(*kind, 2)));
    let all = text(&findings);
    let lines: Vec<&str> =
        all.lines().skip(1).map(|line| line.trim_start_matches("fdtrace: note: ")).collect();
    assert_eq!(
        lines,
        [
            "server (4711) had no descriptors left 3 times (EMFILE, limit 1,024); 1,000 descriptors then came from \
             handle_request",
            "the system had no handles left for server (4711) 2 times (ENFILE)",
            "server (4711) left 2 handles open when another program took its place, and close-on-exec closed them \
             (e.g. fd 9 /var/lib/app/x)",
            "server (4711) was started with 2 descriptors that have no close-on-exec flag (e.g. fd 9 /var/lib/app/x)",
            "server (4711) held 2 sockets in CLOSE_WAIT at the end: the peer has hung up, the program has not closed \
             (e.g. fd 9 /var/lib/app/x)",
            "server (4711) held 2 deleted files at the end (e.g. fd 9 /var/lib/app/x)",
            "server (4711) grows with its clients (2 peers): it has 2 accepted sockets, and no peer has hung up \
             (e.g. fd 9 /var/lib/app/x)",
            "2 files lived until the end of server (4711): nothing else closed them",
            "server (4711) had 2 descriptors of its own at once",
        ]
    );
    findings.verdict = Verdict::Leak;
    findings.diagnostics.truncate(1);
    findings.diagnostics[0].fatal = true;
    let text = text(&findings);
    let what = "server (4711) had no descriptors left 3 times";
    assert!(text.starts_with(&format!("fdtrace: FAILED: {what}")));
    assert_eq!(text.matches(what).count(), 1, "it is said once");
}

#[test]
fn what_lived_until_the_end_is_told_by_its_sites() {
    let mut findings = findings(Verdict::Clean, Vec::new());
    let holder = |place: &str, live| TopHolder { site: String::new(), place: place.to_owned(), live };
    let top = vec![holder("keep.c:5 (keep)", 13), holder("main", 7)];
    findings.diagnostics.push(Diagnostic { top, ..noticed(DiagnosticKind::Teardown, 20) });
    let two = "20 files, 13 of them from keep.c:5 (keep), lived until the end of server (4711): nothing else closed them";
    assert!(text(&findings).contains(two), "{}", text(&findings));
    findings.diagnostics[0].top.truncate(1);
    assert!(text(&findings).contains("20 files from keep.c:5 (keep) lived until"));
}

#[test]
fn what_grew_until_the_end_is_no_leak_of_another_kind() {
    let finding = Finding { closed_by_end: 50, ..c_leak() };
    let text = text(&leaks(vec![finding]));
    let what =
        "50 files opened at src/server.c:41 (handle_request) were closed by nothing but the program's end";
    assert!(text.starts_with(&format!("fdtrace: LEAK: {what}")), "{text}");
}

#[test]
fn too_many_in_all() {
    let mut findings = findings(Verdict::Leak, no_leaks());
    findings.applied = AppliedPolicy { total: 120, max_total: Some(100), ..AppliedPolicy::default() };
    assert!(text(&findings).starts_with(
        "fdtrace: LEAK: what 120 calls of all call sites made was never closed, and --max-total allows 100\n"
    ));
}

#[test]
fn what_the_files_have_too_much() {
    let mut findings = findings(Verdict::Clean, Vec::new());
    let suppression =
        |line: &str, sites| Suppressing { line: line.to_owned(), place: "known.supp:1".to_owned(), sites };
    findings.applied.suppressions = vec![suppression("leak:used", 1), suppression("leak:unused", 0)];
    findings.applied.removable = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    assert!(text(&findings).ends_with(
        "\nfdtrace: note: 1 suppression was not used: leak:unused (known.supp:1)\
         \nfdtrace: note: 4 entries leak no longer and can be removed from the baseline: a, b, c and 1 more\n"
    ));
}

#[test]
fn more_than_the_baseline_allows() {
    let mut findings = leaks(vec![c_leak()]);
    findings.sites[0].baseline = Some(12);
    assert!(text(&findings).contains("\n  it leaks more than before: the baseline allows 12 calls\n"));
}

#[test]
fn an_unsure_answer_says_why_and_what_to_do() {
    let mut findings = findings(Verdict::Inconclusive, Vec::new());
    findings.incomplete_reasons.push("7 events were lost".to_owned());
    findings.trace.lost.events = 7;
    assert_eq!(
        text(&findings),
        "\
fdtrace: INCONCLUSIVE: no leak was found, but not everything was seen
  - 7 events were lost
  to see more: a larger ring, as with --ring-size 64M
"
    );
    (findings.verdict, findings.sites) = (Verdict::Leak, vec![c_leak()]);
    let text = text(&findings);
    assert!(
        text.contains("\nfdtrace: note: not everything was seen, and there may be more leaks:\n  - 7 "),
        "{text}"
    );
}

#[test]
fn what_has_no_stack_is_still_named() {
    let mut finding = c_leak();
    finding.site.user_stack.clear();
    finding.site.kernel_stack = kernel(&["alloc_empty_file", "io_openat2"]);
    finding.site.examples.clear();
    let text = text(&leaks(vec![finding]));
    assert!(text.starts_with("fdtrace: LEAK: 50 files opened by io_openat2 were never closed\n"), "{text}");
    assert!(text.contains("\n    kernel: io_openat2\n  to fix it: call close() on every path, "), "{text}");
}

#[test]
fn long_lists_are_cut() {
    let mut long = c_leak();
    long.site.user_stack = (0..14).map(|offset| frame("f", "/opt/app/server", offset)).collect();
    let findings = leaks(vec![long.clone(), long.clone(), long]);
    let text = written(|out| write(out, &findings, Style { top: 2, ..STYLE }));
    assert!(
        text.contains("; 2 more call sites leak\n") && text.ends_with("\n  and 1 leak more (--top)\n"),
        "{text}"
    );
    assert_eq!(text.matches("\n    and 4 frames more (-v)\n").count(), 2, "{text}");
}

#[test]
fn names_cannot_steer_a_terminal() {
    let evil = "\x1b[2J\u{202e}\n\x07";
    let mut finding = c_leak();
    finding.site.user_stack.splice(3..3, script_leak().site.user_stack);
    for frame in &mut finding.site.user_stack {
        frame.symbol = Some(evil.to_owned());
        frame.module = frame.module.is_some().then(|| format!("/opt/{evil}"));
        frame.file = frame.file.is_some().then(|| format!("/src/{evil}"));
    }
    finding.site.examples[0].name = evil.to_owned();
    (finding.images[0].comm, finding.images[0].exe) = (evil.to_owned(), evil.to_owned());
    let hidden =
        Finding { class: Class::Suppressed, suppressed_by: Some(evil.to_owned()), ..finding.clone() };
    let mut findings = leaks(vec![finding, hidden]);
    findings.incomplete_reasons.push(evil.to_owned());
    findings.diagnostics = DiagnosticKind::ALL.map(|kind| noticed(kind, 1)).to_vec();
    for diagnostic in &mut findings.diagnostics {
        (diagnostic.comm, diagnostic.from, diagnostic.examples[0].name) =
            (evil.to_owned(), Some(evil.to_owned()), evil.to_owned());
    }
    findings.diagnostics.push(emfile());
    let last = findings.diagnostics.len() - 1;
    findings.diagnostics[last].top[0].place = evil.to_owned();
    findings.applied.removable.push(evil.to_owned());
    let line = Suppressing { line: evil.to_owned(), place: evil.to_owned(), sites: 0 };
    findings.applied.suppressions.push(line);
    for verbose in [false, true] {
        let text = written(|out| write(out, &findings, Style { verbose, ..STYLE }));
        let steers =
            |character: char| character != '\n' && (character.is_control() || character == '\u{202e}');
        assert!(!text.contains(steers), "{text:?}");
        assert!(!text.contains("\n\\u{7}") && text.contains("\\u{1b}[2J"), "{text}");
    }
}
