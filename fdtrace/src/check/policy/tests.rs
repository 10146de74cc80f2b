use super::*;
use crate::report::check::fixture::*;

fn suppressions(text: &str) -> Suppressions {
    let mut suppressions = Suppressions::default();
    suppressions.add("known.supp", text).expect("suppressions");
    suppressions
}

fn applied(policy: &Policy, sites: Vec<Finding>) -> Findings {
    let mut findings = findings(Verdict::Clean, sites);
    policy.apply(&mut findings);
    findings
}

#[test]
fn nothing_to_say() {
    let policy = Policy::default();
    assert_eq!(applied(&policy, vec![c_leak()]).verdict, Verdict::Leak);
    assert_eq!(applied(&policy, Vec::new()).verdict, Verdict::Clean);
}

#[test]
fn incomplete_reasons_are_for_those_without_a_leak() {
    let mut findings = findings(Verdict::Clean, vec![c_leak()]);
    findings.incomplete_reasons.push("7 events were lost".to_owned());
    Policy::default().apply(&mut findings);
    assert_eq!(findings.verdict, Verdict::Leak);
    Policy { suppressions: suppressions("leak:handle_request"), ..Policy::default() }.apply(&mut findings);
    assert_eq!(findings.verdict, Verdict::Inconclusive);
}

#[test]
fn names_of_functions_modules_and_files_hide_a_leak() {
    for text in
        ["leak:handle_*", "leak:^main$", "leak:libc.so.6", "leak:/src/app/src/server.c", "leak:^fopen$"]
    {
        let policy = Policy { suppressions: suppressions(text), ..Policy::default() };
        let findings = applied(&policy, vec![c_leak()]);
        let found = &findings.sites[0];
        assert_eq!(
            (findings.verdict, found.class, found.class_before),
            (Verdict::Clean, Class::Suppressed, Class::Leak)
        );
        assert_eq!(found.suppressed_by.as_deref(), Some(text));
        assert_eq!(findings.applied.suppressions[0].sites, 1);
    }
    let policy = Policy { suppressions: suppressions("leak:path_openat"), ..Policy::default() };
    assert_eq!(
        applied(&policy, vec![c_leak()]).verdict,
        Verdict::Leak,
        "the kernel's functions are in all stacks"
    );
}

#[test]
fn names_of_a_scripts_functions_and_files_hide_a_leak() {
    for (text, verdict) in [
        ("leak:load_config", Verdict::Clean),
        ("leak:app/db.py", Verdict::Clean),
        ("leak:^main$", Verdict::Clean),
        ("leak:app/web.py", Verdict::Leak),
    ] {
        let policy = Policy { suppressions: suppressions(text), ..Policy::default() };
        assert_eq!(applied(&policy, vec![script_leak()]).verdict, verdict, "{text}");
    }
}

#[test]
fn unused_suppressions_are_known() {
    let text = "# known\n\n  leak:handle_request  \nleak:nobody\n";
    let policy = Policy { suppressions: suppressions(text), ..Policy::default() };
    let used = applied(&policy, vec![c_leak(), python_leak()]).applied.suppressions;
    let used: Vec<_> = used.iter().map(|one| (one.line.as_str(), one.place.as_str(), one.sites)).collect();
    assert_eq!(used, [("leak:handle_request", "known.supp:3", 1), ("leak:nobody", "known.supp:4", 0)]);
}

#[test]
fn bad_lines_name_their_place() {
    let refused = |text: &str| Suppressions::default().add("known.supp", text).expect_err("a bad line");
    assert_eq!(
        refused("leak:a\nrace:b\x1b"),
        "known.supp:2: `race:b\\u{1b}` is no suppression: write leak:PATTERN, a # comment or nothing in a line"
    );
    assert!(refused("leak:").starts_with("known.supp:1: `leak:` would hide every leak"));
    assert!(refused("leak:*").contains("would hide every leak"));
    let listed = Suppressions::default().add_list(".fdtrace.toml", ["leak:a", "b"]);
    assert!(listed.is_err_and(|sentence| sentence.starts_with(".fdtrace.toml: `b` is no suppression")));
}

#[test]
fn kinds_are_ignored_when_there_is_no_other() {
    let policy = Policy { ignore_kinds: vec![Kind::Fifo], ..Policy::default() };
    let found = applied(&policy, vec![python_leak(), c_leak()]);
    assert_eq!([found.sites[0].class, found.sites[1].class], [Class::Suppressed, Class::Leak]);
    assert_eq!(found.sites[0].suppressed_by.as_deref(), Some("--ignore-kind fifo"));
    let mut mixed = python_leak();
    mixed.site.kinds.insert(Kind::Regular, 1);
    assert_eq!(applied(&policy, vec![mixed]).verdict, Verdict::Leak);
    let mut gone = python_leak();
    gone.site.kinds.clear();
    assert_eq!(applied(&policy, vec![gone]).verdict, Verdict::Clean, "the examples stand in");
}

#[test]
fn the_sum_counts_what_nothing_excuses() {
    let sites = || {
        let mut sites = no_leaks();
        sites.retain(|finding| finding.class != Class::Suppressed);
        sites
    };
    let most = |most| Policy { max_total: Some(most), ..Policy::default() };
    assert_eq!(applied(&most(3), sites()).verdict, Verdict::Clean);
    let over = applied(&most(2), sites());
    assert_eq!((over.verdict, over.applied.total), (Verdict::Leak, 3));
    let hidden = Policy { suppressions: suppressions("leak:open_log"), ..most(2) };
    assert_eq!(applied(&hidden, sites()).verdict, Verdict::Clean);
}

#[test]
fn what_else_is_found_can_be_fatal() {
    let mut findings = findings(Verdict::Clean, Vec::new());
    findings.diagnostics = vec![emfile(), noticed(DiagnosticKind::Peak, 600)];
    Policy { fail_on: vec![DiagnosticKind::Peak], ..Policy::default() }.apply(&mut findings);
    assert_eq!((findings.diagnostics[0].fatal, findings.diagnostics[1].fatal), (false, true));
    assert_eq!(findings.verdict, Verdict::Leak);
}

fn known(sites: Vec<Finding>) -> Policy {
    let baseline = Baseline::of(&applied(&Policy::default(), sites));
    let baseline = Baseline::parse(&baseline.to_json()).expect("a baseline");
    Policy { baseline: Some(baseline), ..Policy::default() }
}

/// As after a rebuild: other offsets, the same functions.
fn rebuilt(mut finding: Finding) -> Finding {
    finding.site.id = format!("{}-rebuilt", finding.site.id);
    finding
}

#[test]
fn known_leaks_are_put_up_with() {
    let policy = known(vec![c_leak(), python_leak()]);
    let same = applied(&policy, vec![c_leak(), python_leak()]);
    assert_eq!((same.verdict, &same.applied.removable), (Verdict::Clean, &Vec::new()));
    assert_eq!(same.sites[0].suppressed_by.as_deref(), Some("baseline: 50 calls"));
    assert_eq!(applied(&policy, vec![rebuilt(c_leak())]).verdict, Verdict::Clean);
    assert_eq!(
        Baseline::of(&same),
        Baseline::of(&applied(&Policy::default(), vec![c_leak(), python_leak()]))
    );
}

#[test]
fn a_known_leak_of_a_script_is_known_after_a_change_of_its_lines() {
    let policy = known(vec![script_leak()]);
    let mut changed = rebuilt(script_leak());
    changed.site.name_id = None;
    changed.site.user_stack[2].line = Some(14);
    assert_eq!(applied(&policy, vec![changed.clone()]).verdict, Verdict::Clean);
    changed.site.user_stack[2].symbol = Some("load_users".to_owned());
    assert_eq!(applied(&policy, vec![changed]).verdict, Verdict::Leak);
}

#[test]
fn known_leaks_that_grow_are_leaks() {
    let policy = known(vec![c_leak()]);
    let findings = applied(&policy, vec![Finding { leaked: 51, ..c_leak() }]);
    assert_eq!(findings.verdict, Verdict::Leak);
    assert_eq!(findings.sites[0].baseline, Some(50));
}

#[test]
fn one_entry_is_for_one_site() {
    // A second leak in a function that is known for one.
    let second = Finding { leaked: 20, ..rebuilt(c_leak()) };
    let policy = known(vec![c_leak()]);
    let found = applied(&policy, vec![c_leak(), second.clone()]);
    assert_eq!([found.sites[0].class, found.sites[1].class], [Class::Suppressed, Class::Leak]);
    // Two of the same names, after a rebuild: the larger one has the larger allowance.
    let policy = known(vec![second.clone(), c_leak()]);
    let mut third = rebuilt(c_leak());
    third.site.id = "another".to_owned();
    let found = applied(&policy, vec![third, rebuilt(second)]);
    assert_eq!(found.verdict, Verdict::Clean);
}

#[test]
fn a_stack_of_which_less_is_known_is_known_by_its_beginning() {
    let policy = known(vec![c_leak(), python_leak()]);
    let mut cut = rebuilt(c_leak());
    cut.site.name_id = None;
    cut.site.user_stack.truncate(2);
    (cut.site.user_stack[1].symbol, cut.site.user_stack[1].module) = (None, Some("[gone]".to_owned()));
    let found = applied(&policy, vec![cut.clone(), python_leak()]);
    assert_eq!((found.verdict, &found.applied.removable), (Verdict::Clean, &Vec::new()));
    cut.site.user_stack[1].offset += 1;
    assert_eq!(applied(&policy, vec![cut]).verdict, Verdict::Leak);
}

#[test]
fn what_leaks_no_longer_can_go() {
    let policy = known(vec![c_leak(), python_leak()]);
    let fixed = Finding { class: Class::Allowed, class_before: Class::Allowed, leaked: 1, ..c_leak() };
    let findings = applied(&policy, vec![fixed, python_leak()]);
    assert_eq!(findings.applied.removable, ["handle_request"]);
}

#[test]
fn what_is_no_baseline_says_so() {
    let refused = |text: &str| Baseline::parse(text).expect_err("no baseline");
    assert_eq!(
        refused(r#"{"schema": "fdtrace.baseline/2", "sites": []}"#),
        "a baseline of version fdtrace.baseline/2, and this fdtrace reads fdtrace.baseline/1: write it anew with \
         --write-baseline"
    );
    assert!(refused("{}").contains("it has no schema"));
    assert!(refused("leak:x").starts_with("no baseline that `--write-baseline` wrote (expected"));
    assert!(refused(r#"{"schema": "fdtrace.baseline/1"}"#).contains("missing field"));
}

#[test]
fn what_lives_until_the_end_can_be_excused_by_name() {
    let fatal = |text: &str| {
        let diagnostic = Diagnostic {
            top: vec![TopHolder { site: "c1ea".to_owned(), place: "handle_request".to_owned(), live: 50 }],
            ..noticed(DiagnosticKind::Teardown, 50)
        };
        let finding = Finding { class: Class::Teardown, class_before: Class::Teardown, ..c_leak() };
        let mut findings =
            Findings { diagnostics: vec![diagnostic], ..findings(Verdict::Clean, vec![finding]) };
        let fail_on = vec![DiagnosticKind::Teardown];
        Policy { suppressions: suppressions(text), fail_on, ..Policy::default() }.apply(&mut findings);
        (findings.diagnostics[0].fatal, findings.verdict)
    };
    assert_eq!(fatal("leak:somebody_else"), (true, Verdict::Leak));
    assert_eq!(fatal("leak:handle_request"), (false, Verdict::Clean));
}
