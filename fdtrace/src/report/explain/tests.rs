//! The screen of small documents, and the sentence that ends it.

use serde_json::json;

use super::{Screen, hidden, sentence, write};
use crate::{
    model::explain::{Document, Hidden, ProcessLine, SegmentLine, SharerLine},
    report::Style,
};

/// A quiet machine: of 1,000 handles 100 are mapped as programs.
fn document() -> Document {
    let holders = json!({"descriptor": 900, "mapping": 100});
    let value = json!({
        "schema": "fdtrace.explain/1", "time": "", "kernel": "6.1.0", "duration_ns": 12_000_000,
        "file_nr": {"allocated": 1000, "min": 1000, "max": 1000, "exact": true, "source": "file-nr", "limit": 100_000},
        "handles": {"total": 1000, "accounted": 1000, "unaccounted_by_file_nr": 0, "hidden": 100,
                    "by_holder": holders, "unaccounted_by_holder": {}, "by_kind": {}},
        "residual": {"min": 0, "max": 0, "unreadable_processes": [], "reasons": []},
        "partial": [], "descriptors": 900, "lsof_view": {"descriptors": 950, "behind_dead_threads": 0},
        "hidden": [], "segments": [], "deleted": {"handles": 0, "bytes": 0},
        "slabs": {"filp": null, "vm_area_struct": null}, "processes": [],
    });
    let mut document: Document = serde_json::from_value(value).expect("a document");
    document.hidden.push(Hidden {
        code: true,
        ordinary: true,
        ..group("mapping", "libc.so.6", 100, &[(7, "app", 100)])
    });
    document.processes.push(process(7, "app", 80));
    document
}

fn sharer((pid, comm, count): &(u32, &str, u64)) -> SharerLine {
    SharerLine { pid: *pid, comm: (*comm).to_owned(), count: *count }
}

fn group(holder: &str, name: &str, count: u64, processes: &[(u32, &str, u64)]) -> Hidden {
    Hidden {
        holder: holder.to_owned(),
        kind: if holder.starts_with("shm") { "shm" } else { "regular" }.to_owned(),
        name: name.to_owned(),
        count,
        bytes: 0,
        deleted: false,
        code: false,
        ordinary: false,
        shmid: holder.starts_with("shm").then_some(5),
        processes: processes.iter().map(sharer).collect(),
        sites: Vec::new(),
        older: 0,
    }
}

fn process(pid: u32, comm: &str, handles: u64) -> ProcessLine {
    let value = json!({
        "pid": pid, "comm": comm, "exe": "", "cgroup": "", "handles": handles, "descriptors": handles, "hidden": 0,
        "limit": {"soft": 10_000, "hard": 10_000, "used_percent": 8.0}, "by_holder": {}, "files": [],
    });
    serde_json::from_value(value).expect("a process")
}

/// The sentence for hidden handles on that machine.
fn said(groups: Vec<Hidden>) -> String {
    sentence::of(&with(groups))
}

/// That machine with more hidden handles.
fn with(groups: Vec<Hidden>) -> Document {
    let mut document = document();
    for group in &groups {
        document.handles.total += group.count;
        document.handles.hidden += group.count;
        *document.handles.by_holder.entry(group.holder.clone()).or_default() += group.count;
    }
    document.hidden.extend(groups);
    document
}

#[test]
fn attaches() {
    let segment = "SysV segment 5 (key 0x0000002a)";
    let app = [(7, "app", 60_000), (8, "helper", 30_000)];
    assert_eq!(
        said(vec![group("shm_attach", segment, 90_000, &app)]),
        "90,000 of the 91,000 handles are attaches of SysV segment 5 (key 0x0000002a), by app (7) 60,000 and helper (8) \
         30,000: look for shmat without shmdt there (fdtrace live -p 7 shows the lines that do it)."
    );
}

#[test]
fn attaches_of_many_segments() {
    let groups = (0..400).map(|id| group("shm_attach", &format!("SysV segment {id}"), 1, &[(7, "app", 1)]));
    assert_eq!(
        said(groups.collect()),
        "400 of the 1,400 handles are attaches of 400 segments, such as SysV segment 0, by app (7): look for shmat without \
         shmdt there (fdtrace live -p 7 shows the lines that do it)."
    );
}

#[test]
fn mappings() {
    assert_eq!(
        said(vec![group("mapping", "/data/x", 4000, &[(7, "app", 4000)])]),
        "4,000 of the 5,000 handles are only mapped, their descriptors are closed (/data/x), by app (7): look for mmap without \
         munmap there (fdtrace live -p 7 shows the lines that do it)."
    );
}

#[test]
fn in_flight_of_workers_that_share_a_socket() {
    let workers = [(7, "app", 1), (8, "app", 1), (9, "app", 1)];
    let groups = (0..400).map(|id| group("scm_rights", &format!("/data/{id}"), 1, &workers));
    assert_eq!(
        said(groups.collect()),
        "400 of the 1,400 handles are in flight: sent to a unix socket of app (7) 400, app (8) 400 and app (9) 400, and not received yet \
         (ss -xp shows who is at its other end)."
    );
}

#[test]
fn segments_that_every_run_of_a_program_leaves() {
    let groups =
        (0..400).map(|id| group("shm_segment", &format!("SysV segment {id}"), 1, &[(id + 100, "", 1)]));
    assert_eq!(
        said(groups.collect()),
        "400 of the 1,400 handles are SysV segments that exist whether anybody attaches them or not (400 segments, such as SysV \
         segment 0), made by 400 processes that are gone: ipcs -m lists them, ipcrm -m removes one."
    );
}

#[test]
fn ring_files() {
    assert_eq!(
        said(vec![group("io_uring", "/data/x", 400, &[(7, "app", 400)])]),
        "400 of the 1,400 handles are registered with io_uring by app (7) (fdtrace live -p 7 shows the lines that do it)."
    );
}

#[test]
fn few_hidden_handles_are_nothing() {
    let expected = "No holder stands out: of 1,000 handles 900 have descriptors, 100 are programs and libraries that run, \
                    and 0 are hidden otherwise. Most are held by app (7).";
    assert_eq!(said(Vec::new()), expected);
    let expected = "No holder stands out: of 1,099 handles 900 have descriptors, 100 are programs and libraries that run, \
                    and 99 are hidden otherwise. Most are held by app (7).";
    assert_eq!(said(vec![group("mapping", "/data/x", 99, &[(7, "app", 99)])]), expected);
}

#[test]
fn a_main_thread_that_has_ended() {
    let mut document = document();
    document.lsof_view.behind_dead_threads = 500;
    document.processes[0].main_thread_is_gone = true;
    assert_eq!(
        sentence::of(&document),
        "500 of the 1,000 handles are ordinary descriptors that lsof cannot see, of app (7): the main thread has ended, and \
         others go on."
    );
}

/// The sentence when so many handles were not found.
fn left_over(count: i64, change: impl FnOnce(&mut Document)) -> String {
    let mut document = document();
    (document.residual.min, document.residual.max) = (Some(count), Some(count));
    change(&mut document);
    sentence::of(&document)
}

#[test]
fn handles_that_were_not_found() {
    assert_eq!(
        left_over(500, |_| ()),
        "500 handles were not found at any process: they are what the kernel itself keeps, and what is said beside \"not \
         found\" is where to look."
    );
    assert_eq!(
        left_over(500, |document| document.partial.push("the walk over mappings was not done".to_owned())),
        "500 handles were not found at any process, and not all was looked at: the lines that begin with ! say what was not."
    );
    let unreadable = |descriptors: u64| {
        let process = json!({"pid": 9, "comm": "vault", "descriptors": descriptors});
        let process = serde_json::from_value(process).expect("a process");
        left_over(500, |document| document.residual.unreadable_processes.push(process))
    };
    assert_eq!(
        unreadable(490),
        "500 handles were not found at any process: vault (9) cannot be looked into from here, and has 490 descriptors."
    );
    assert_eq!(
        unreadable(275),
        "500 handles were not found at any process: 275 of them may be those of vault (9), which cannot be looked into from \
         here; the other 225 are what the kernel itself keeps, and what is said beside \"not found\" is where to look."
    );
    assert!(left_over(40, |_| ()).starts_with("No holder stands out"));
    assert!(left_over(-500, |_| ()).starts_with("No holder stands out"));
}

#[test]
fn a_part_of_the_machine() {
    let sentence = left_over(0, |document| {
        (document.residual.min, document.residual.max) = (None, None);
        document.file_nr.as_mut().expect("a number").allocated = 110_000;
        document.file_nr.as_mut().expect("a number").limit = 1_000_000;
    });
    let expected =
        "Only 1,000 of the machine's 110,000 handles can be seen from here; what is said above says why.";
    assert_eq!(sentence, expected);
}

#[test]
fn more_descriptors_than_handles() {
    let sentence = left_over(0, |document| document.lsof_view.descriptors = 50_000);
    let expected = "lsof counts descriptors, and 50,000 of them point to only 900 handles: dup and fork make no handle; most \
                    descriptors are those of app (7).";
    assert_eq!(sentence, expected);
}

#[test]
fn limits_that_are_near() {
    let sentence = left_over(0, |document| {
        document.file_nr.as_mut().expect("a number").limit = 1100;
        document.processes[0].limit.used_percent = 95.0;
    });
    assert_eq!(
        sentence,
        "The system has used 91% of fs.file-max: at 1,100 every open fails with ENFILE. app (7) has used 95% of its 10,000 \
         descriptors: EMFILE is near."
    );
}

/// What is said where processes have used so much of a limit of 1,000.
fn used(processes: &[(u32, u64)]) -> String {
    left_over(0, |document| {
        document.processes = processes
            .iter()
            .map(|(pid, used)| {
                let mut full = process(*pid, "app", 10);
                full.limit.soft = Some(1000);
                full.limit.used = *used;
                full.limit.used_percent = f64::from(u32::try_from(*used).expect("few")) / 10.0;
                full
            })
            .collect();
    })
}

#[test]
fn every_process_at_its_limit_is_counted() {
    assert_eq!(
        used(&[(7, 1000)]),
        "app (7) has used all of its 1,000 descriptors: the next open fails with EMFILE now (fdtrace explain -p 7 lists \
         what they are)."
    );
    assert_eq!(
        used(&[(1, 900), (2, 1000), (3, 1000), (4, 1000), (5, 1000), (6, 999), (7, 500)]),
        "4 processes have used all of their descriptors, and their next open fails with EMFILE now: app (2) 1,000, app (3) \
         1,000, app (4) 1,000 and 1 other. 2 processes have used more than 80% of their descriptors, and EMFILE is near: app \
         (6) 100% of 1,000 and app (1) 90% of 1,000."
    );
}

/// The incident that this project began with: 20 workers, 6,000 attaches of 7,700 handles, and many descriptors of few.
#[test]
fn the_incident() {
    let groups = (0..20).map(|worker| {
        let name = format!("SysV segment {worker} (key 0x00000000)");
        Hidden { shmid: Some(worker), ..group("shm_attach", &name, 300, &[(100 + worker, "worker", 300)]) }
    });
    let mut document = with(groups.collect());
    document.lsof_view.descriptors = 5600;
    assert_eq!(
        sentence::of(&document),
        "6,000 of the 7,000 handles are attaches of 20 segments, such as SysV segment 0 (key 0x00000000), by 20 processes \
         called worker, such as worker (100) 300 and worker (101) 300: look for shmat without shmdt there (fdtrace live -p \
         100 shows the lines that do it)."
    );
}

#[test]
fn limits_that_are_not_descriptors() {
    let sentence = |attaches: u64| {
        left_over(0, |document| {
            document.max_map_count = 1000;
            document.processes[0].by_holder = [("shm_attach".to_owned(), attaches)].into();
        })
    };
    let expected = "app (7) 800 has mapped more than 80% of what vm.max_map_count permits, 1,000: then mmap and shmat fail with ENOMEM.";
    assert_eq!(sentence(800), expected);
    assert!(!sentence(799).contains("max_map_count"));
    let segments = |count: usize| {
        left_over(0, |document| {
            document.shmmni = 100;
            document.segments = vec![SegmentLine::default(); count];
            document.segments.push(SegmentLine { ipc_namespace: 7, ..SegmentLine::default() });
        })
    };
    let expected =
        "80 of 100 SysV segments (kernel.shmmni) are there: when all are, shmget fails with ENOSPC.";
    assert_eq!(segments(80), expected);
    assert!(!segments(79).contains("shmmni"), "those of another namespace do not count");
}

#[test]
fn after_a_deadline() {
    let sentence = left_over(500, |document| {
        document.unfinished = vec!["mappings".to_owned()];
        document.partial = vec!["the walk over mappings was not done after 5s".to_owned()];
    });
    assert_eq!(
        sentence,
        "500 handles were not found at any process, and the walk over mappings was not done: --timeout gives it more time."
    );
}

#[test]
fn a_process_with_by_far_most_descriptors() {
    let sentence = left_over(0, |document| {
        document.processes = vec![process(7, "app", 700), process(8, "db", 90)];
        document.processes[0].limit.used_percent = 75.0;
    });
    assert_eq!(
        sentence,
        "700 of the 1,000 handles are ordinary descriptors of app (7), 75% of its limit of 10,000: fdtrace explain -p 7 \
         lists them, fdtrace live -p 7 shows what opens them."
    );
}

#[test]
fn the_largest_part_comes_first_and_dup_last() {
    let mut document = with(vec![
        group("mapping", "/data/x", 2000, &[(7, "app", 2000)]),
        group("shm_attach", "SysV segment 5", 3000, &[(8, "db", 3000)]),
    ]);
    document.lsof_view.descriptors = 60_000;
    let sentence = sentence::of(&document);
    let place = |word: &str| sentence.find(word).unwrap_or_else(|| panic!("{word}: {sentence}"));
    assert!(place("attaches") < place("mapped") && place("mapped") < place("dup and fork"), "{sentence}");
}

/// Mapped in a container, and closed.
#[test]
fn what_file_nr_does_not_count_is_told_apart() {
    let behind = |count| group("mapping", "/srv/f", count, &[(7, "app", count)]);
    let mut document = document();
    document.uncounted = vec![behind(2000), Hidden { ordinary: true, code: true, ..behind(90) }];
    document.handles.by_holder.insert("mapping".to_owned(), 2190);
    document.handles.unaccounted_by_holder.insert("mapping".to_owned(), 2090);
    (document.handles.total, document.handles.unaccounted_by_file_nr) = (3090, 2090);
    let sentence = sentence::of(&document);
    assert!(sentence.contains("2,000 more are not in file-nr"), "{sentence}");
    assert!(sentence.contains("(/srv/f), by app (7)") && sentence.contains("munmap"), "{sentence}");
    let text = screen(&document, false);
    assert!(text.contains("       100  hidden: mapped and closed; 100 of programs"), "{text}");
    assert!(text.contains("     2,090  more, which are not in file-nr"), "{text}");
}

#[test]
fn rows_of_hidden_handles() {
    let mut document = document();
    let mut groups: Vec<Hidden> =
        (0..5).map(|id| group("mapping", &format!("/data/{id}"), 10 - id, &[(7, "app", 10 - id)])).collect();
    groups[0].deleted = true;
    groups[0].bytes = 100;
    groups.push(group("mapping", "/other", 3, &[(8, "other", 3)]));
    // A cache that several programs map.
    let locales = group("mapping", "locale-archive", 2, &[(8, "other", 1), (9, "third", 1)]);
    groups.push(Hidden { ordinary: true, ..locales });
    document.hidden.extend(groups);
    let rows: Vec<_> = hidden::rows(&document)
        .into_iter()
        .map(|row| (row.count, row.name, row.deleted, row.processes.len()))
        .collect();
    let expected = [
        (40, "5 files, such as /data/0".to_owned(), false, 1),
        (3, "/other".to_owned(), false, 1),
        (102, "programs, libraries: 2 files".to_owned(), false, 3),
    ];
    assert_eq!(rows, expected);
    assert_eq!(hidden::ordinary(&document, "mapping"), 102);
}

fn screen(document: &Document, verbose: bool) -> String {
    screen_of(document, verbose, 1000)
}

fn screen_of(document: &Document, verbose: bool, width: usize) -> String {
    let style = Style { color: false, top: 20, verbose, finished: false };
    let mut out = Vec::new();
    write(&mut out, document, style, Screen { unicode: true, width }).expect("room");
    String::from_utf8(out).expect("text")
}

/// A machine on which everybody gives names that steer a terminal.
fn hostile() -> Document {
    let name = "\x1b[2J\u{9b}31m\r\n\u{202e}x\u{7}";
    let mut document = document();
    document.kernel = name.to_owned();
    document.partial = vec![name.to_owned()];
    document.residual.reasons = vec![name.to_owned(); 5];
    (document.residual.min, document.residual.max) = (Some(-3), Some(9));
    for holder in ["shm_attach", "mapping", "shm_segment", "scm_rights", "io_uring", "executable", "mapping"]
    {
        for number in 0..30 {
            let pid = number * 2 + 7;
            document.hidden.push(group(
                holder,
                &format!("{name}{number}"),
                9,
                &[(pid, name, 5), (pid + 1, "", 4)],
            ));
        }
        document.handles.by_holder.insert(holder.to_owned(), 1000);
    }
    document.handles.unaccounted_by_file_nr = 9;
    document.handles.unaccounted_by_holder.insert("mapping".to_owned(), 900);
    document.uncounted = document.hidden.clone();
    document.processes.clear();
    for pid in 0..200 {
        let mut process = process(pid, name, 1000 - u64::from(pid));
        process.main_thread_is_gone = true;
        process.limit.used_percent = f64::from(pid);
        document.processes.push(process);
    }
    document
}

#[test]
fn no_name_steers_the_terminal() {
    for focus in [Vec::new(), vec!["--pid \x1b[2J".to_owned()]] {
        let text = screen(&Document { focus, ..hostile() }, true);
        let bad =
            text.chars().find(|c| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c));
        assert_eq!(bad, None, "{text}");
    }
}

#[test]
fn the_default_screen_is_one_screen() {
    let text = screen(&hostile(), false);
    assert!(text.lines().count() <= 24, "{} lines:\n{text}", text.lines().count());
    // The one that is nearest to its limit is there, although 199 others hold more.
    assert!(text.contains("(199)"), "{text}");
    assert!(text.lines().last().is_some_and(|line| line.contains("EMFILE is near")), "{text}");
}

#[test]
fn no_line_is_wider_than_the_screen() {
    for width in [80, 100, 200] {
        for (focus, verbose) in
            [(Vec::new(), false), (Vec::new(), true), (vec!["--hidden".to_owned()], false)]
        {
            let text = screen_of(&Document { focus, ..hostile() }, verbose, width);
            let wide = text.lines().find(|line| line.chars().count() > width);
            assert_eq!(wide, None, "{width}");
        }
        let three = ["shm_attach", "mapping", "scm_rights"].map(|holder| {
            let names: Vec<(u32, String)> = (0..20).map(|pid| (pid + 10, format!("worker-{pid}"))).collect();
            let workers: Vec<_> = names.iter().map(|(pid, name)| (*pid, name.as_str(), 300)).collect();
            group(holder, "/srv/data/somewhere/a file", 6000, &workers)
        });
        let lines = screen_of(&with(three.into()), false, width).lines().count();
        assert!(lines <= 24, "{lines} lines of {width} columns");
    }
}

#[test]
fn an_empty_machine_has_a_screen() {
    let mut document = document();
    (document.hidden, document.processes, document.file_nr) = (Vec::new(), Vec::new(), None);
    assert!(screen(&document, false).starts_with("file-nr cannot be read"));
}
