//! Findings for the tests of the formats.

use std::collections::BTreeMap;

use crate::{
    model::{
        Events, Example, Holder, Kind, Origin, Site, UserFrame,
        check::{
            AppliedPolicy, Class, CommandRun, Diagnostic, DiagnosticKind, Ended, Finding, Findings, KeptBy,
            KeptInScope, SCHEMA, ScopeFound, ScopeVerdict, TopHolder, Verdict,
        },
        fixture::{document, frame, script, site},
    },
    stacks::name_id,
};

/// A check of `server --once`, which exited with 0.
pub(crate) fn findings(verdict: Verdict, sites: Vec<Finding>) -> Findings {
    let mut trace = document(Vec::new()).trace;
    trace.events = Events { allocated: 1_062, released: 1_010, never_opened: 12, ..Events::default() };
    Findings {
        schema: SCHEMA.to_owned(),
        verdict,
        incomplete_reasons: Vec::new(),
        evaluated_early: false,
        command: CommandRun {
            argv: vec!["server".to_owned(), "--once".to_owned()],
            ended: Ended::Status(0),
            duration_ns: 12_500_000_000,
        },
        trace,
        sites,
        diagnostics: Vec::new(),
        images: 3,
        scopes: Vec::new(),
        tables: Vec::new(),
        applied: AppliedPolicy::default(),
    }
}

/// A site that kept so many calls, each of one handle, in `server (4711)`.
pub(crate) fn finding(class: Class, site: Site, leaked: u64) -> Finding {
    let kept = KeptBy {
        pid: 4711,
        comm: "server".to_owned(),
        exe: "/opt/app/server".to_owned(),
        calls: leaked,
        handles: leaked,
        allocated: leaked + 1_000,
        released: 1_000,
        ended: Ended::Status(0),
    };
    Finding {
        baseline: None,
        because: None,
        class,
        suppressed_by: None,
        class_before: class,
        leaked,
        handles: leaked,
        closed_by_end: 0,
        images: vec![kept],
        images_in_all: 1,
        site,
    }
}

/// `handle_request` opened files, in a program in C with lines.
pub(crate) fn c_leak() -> Finding {
    let user_stack = vec![
        frame("__open64_nocancel", "/usr/lib/libc.so.6", 0x100),
        frame("_IO_file_open", "/usr/lib/libc.so.6", 0x180),
        frame("fopen", "/usr/lib/libc.so.6", 0x200),
        at_line("handle_request", "/src/app/src/server.c", 41, false),
        at_line("serve", "/src/app/src/serve.h", 12, true),
        at_line("main", "/src/app/src/server.c", 97, false),
        frame("__libc_start_call_main", "/usr/lib/libc.so.6", 0x300),
        frame("_start", "/opt/app/server", 0x10),
    ];
    let examples = (0..5)
        .map(|index| example(Kind::Regular, &format!("/var/lib/app/{index}.conf"), 5 + index))
        .collect();
    let site = Site { examples, ..named(site("c1ea", 50), user_stack) };
    finding(Class::Leak, site, 50)
}

/// A pipe whose ends a Python program kept.
pub(crate) fn python_leak() -> Finding {
    let user_stack = vec![
        frame("pipe2", "/usr/lib/libc.so.6", 0x110),
        frame("os_pipe", "/usr/bin/python3.11", 0x1100),
        frame("_PyEval_EvalFrameDefault", "/usr/bin/python3.11", 0x1200),
        frame("Py_BytesMain", "/usr/bin/python3.11", 0x1300),
        frame("__libc_start_call_main", "/usr/lib/libc.so.6", 0x300),
    ];
    let mut site = named(Site { origin: Origin::Pipe, ..site("b17e", 8) }, user_stack);
    site.kinds = BTreeMap::from([(Kind::Fifo, 8)]);
    site.examples = vec![example(Kind::Fifo, "pipe:[77]", 3), example(Kind::Fifo, "pipe:[77]", 4)];
    let mut finding = Finding { handles: 8, ..finding(Class::Leak, site, 4) };
    let kept = &mut finding.images[0];
    (kept.comm, kept.exe) = ("python3".to_owned(), "/usr/bin/python3.11".to_owned());
    (kept.handles, kept.allocated, kept.released) = (8, 8, 0);
    kept.ended = Ended::Signal(15);
    finding.images_in_all = 3;
    finding
}

/// The same, where the lines of the script are known.
pub(crate) fn script_leak() -> Finding {
    let mut finding = python_leak();
    let lines = [script("load_config", "/src/app/app/db.py", 12), script("main", "/src/app/app/db.py", 30)];
    finding.site.user_stack.splice(2..2, lines);
    finding.site = Site { id: "5c217".to_owned(), ..named(finding.site.clone(), finding.site.user_stack) };
    finding
}

/// One of each class that is no leak.
pub(crate) fn no_leaks() -> Vec<Finding> {
    let of = |class: Class, id: &str, function: &str| {
        let user_stack =
            vec![frame("openat", "/usr/lib/libc.so.6", 1), frame(function, "/opt/app/server", 2)];
        finding(class, named(site(id, 3), user_stack), 3)
    };
    let mut suppressed = of(Class::Suppressed, "50", "known_leak");
    suppressed.class_before = Class::Leak;
    suppressed.suppressed_by = Some("leak:known".to_owned());
    let mut mapped = of(Class::Mapped, "3a", "map_all");
    mapped.site.holders = BTreeMap::from([(Holder::Mapping, 3)]);
    vec![
        suppressed,
        of(Class::Steady, "57", "pool_get"),
        of(Class::Inherited, "1e", "spawn"),
        mapped,
        of(Class::Exec, "ec", "before_exec"),
        of(Class::Allowed, "a1", "open_log"),
    ]
}

/// `server (4711)` had no descriptors left.
pub(crate) fn emfile() -> Diagnostic {
    Diagnostic {
        limit: Some(1024),
        top: vec![TopHolder { site: "c1ea".to_owned(), place: "handle_request".to_owned(), live: 1_000 }],
        ..noticed(DiagnosticKind::Emfile, 3)
    }
}

/// Something that `server (4711)` did.
pub(crate) fn noticed(kind: DiagnosticKind, count: u64) -> Diagnostic {
    Diagnostic {
        kind,
        pid: 4711,
        comm: "server".to_owned(),
        count,
        limit: None,
        at_ns: 2_000_000_000,
        examples: vec![example(Kind::Regular, "/var/lib/app/x", 9)],
        processes: 1,
        top: Vec::new(),
        from: None,
        fatal: false,
    }
}

/// Findings of every sort.
pub(crate) fn all_sorts() -> Findings {
    let mut sites = vec![c_leak(), python_leak()];
    sites.extend(no_leaks());
    let mut findings = findings(Verdict::Leak, sites);
    findings.diagnostics =
        vec![emfile(), Diagnostic { from: Some("make".to_owned()), ..noticed(DiagnosticKind::Inherit, 2) }];
    findings
}

/// A scope that kept two files of a call site, and of which its runner, `python3 (4711)`, said nothing.
pub(crate) fn scope(name: &str, id: &str) -> ScopeFound {
    let Finding { site, .. } = c_leak();
    ScopeFound {
        name: name.to_owned(),
        pid: 4711,
        comm: "python3".to_owned(),
        whole: false,
        begun_ns: 1_000_000,
        duration_ns: Some(2_000_000),
        at_end: 2,
        kept: vec![KeptInScope::of(id, site, 2)],
        verdict: ScopeVerdict::Kept,
        said: None,
    }
}

/// A frame of `/opt/app/server` with its line.
fn at_line(symbol: &str, file: &str, line: u32, inlined: bool) -> UserFrame {
    UserFrame {
        file: Some(file.to_owned()),
        line: Some(line),
        inlined,
        ..frame(symbol, "/opt/app/server", 0x1000 + u64::from(line))
    }
}

fn named(site: Site, user_stack: Vec<UserFrame>) -> Site {
    Site { name_id: name_id(site.origin, &user_stack, &site.kernel_stack), user_stack, ..site }
}

fn example(kind: Kind, name: &str, fd: u32) -> Example {
    Example { name: name.to_owned(), kind, pid: 4711, fd: Some(fd), hidden: false, age_ns: 9_000_000_000 }
}
