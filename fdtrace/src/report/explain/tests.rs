//! The screen of small documents, and the sentence that ends it.

use serde_json::json;

use super::{
    document::{Document, Hidden, ProcessLine, SharerLine},
    hidden, sentence, write,
};
use crate::report::Style;

/// A quiet machine: of 1,000 handles 100 are mapped as programs.
fn document() -> Document {
    let holders = json!({"descriptor": 900, "mapping": 100});
    let value = json!({
        "schema": "fdtrace.explain/1", "time": "", "kernel": "6.1.0", "duration_ns": 12_000_000,
        "file_nr": {"allocated": 1000, "min": 1000, "max": 1000, "exact": true, "source": "file-nr", "limit": 100_000},
        "handles": {"total": 1000, "accounted": 1000, "unaccounted_by_file_nr": 0, "hidden": 100,
                    "by_holder": holders, "by_kind": {}},
        "residual": {"min": 0, "max": 0, "unreadable_processes": [], "reasons": []},
        "partial": [], "descriptors": 900, "lsof_view": {"descriptors": 950, "behind_dead_threads": 0},
        "hidden": [], "segments": [], "deleted": {"handles": 0, "bytes": 0},
        "slabs": {"filp": null, "vm_area_struct": null}, "processes": [],
    });
    let mut document: Document = serde_json::from_value(value).expect("a document");
    document.hidden.push(Hidden { code: true, ..group("mapping", "libc.so.6", 100, &[(7, "app", 100)]) });
    document.processes.push(process(7, "app", 800));
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
    let mut document = document();
    document.hidden.extend(groups);
    sentence::of(&document)
}

#[test]
fn attaches() {
    let segment = "SysV segment 5 (key 0x0000002a)";
    let app = [(7, "app", 60_000), (8, "helper", 30_000)];
    assert_eq!(
        said(vec![group("shm_attach", segment, 90_000, &app)]),
        "90,000 of the handles are attaches of SysV segment 5 (key 0x0000002a), by app (7) and helper (8): look for shmat \
         without shmdt there (fdtrace live -p 7 shows the lines that do it)."
    );
}

#[test]
fn attaches_of_many_segments() {
    let groups = (0..400).map(|id| group("shm_attach", &format!("SysV segment {id}"), 1, &[(7, "app", 1)]));
    assert_eq!(
        said(groups.collect()),
        "400 of the handles are attaches of 400 segments, such as SysV segment 0, by app (7): look for shmat without \
         shmdt there (fdtrace live -p 7 shows the lines that do it)."
    );
}

#[test]
fn mappings() {
    assert_eq!(
        said(vec![group("mapping", "/data/x", 4000, &[(7, "app", 4000)])]),
        "4,000 of the handles are only mapped, their descriptors are closed (/data/x), by app (7): look for mmap without \
         munmap there (fdtrace live -p 7 shows the lines that do it)."
    );
}

#[test]
fn in_flight_of_workers_that_share_a_socket() {
    let workers = [(7, "app", 1), (8, "app", 1), (9, "app", 1)];
    let groups = (0..400).map(|id| group("scm_rights", &format!("/data/{id}"), 1, &workers));
    assert_eq!(
        said(groups.collect()),
        "400 of the handles are in flight: sent to a unix socket of app (7), app (8) and 1 more, and not received yet \
         (ss -xp shows who is at its other end)."
    );
}

#[test]
fn segments_that_every_run_of_a_program_leaves() {
    let groups =
        (0..400).map(|id| group("shm_segment", &format!("SysV segment {id}"), 1, &[(id + 100, "", 1)]));
    assert_eq!(
        said(groups.collect()),
        "400 of the handles are SysV segments that exist whether anybody attaches them or not (400 segments, such as SysV \
         segment 0), made by 400 processes that are gone: ipcs -m lists them, ipcrm -m removes one."
    );
}

#[test]
fn ring_files() {
    assert_eq!(
        said(vec![group("io_uring", "/data/x", 400, &[(7, "app", 400)])]),
        "400 of the handles are registered with io_uring by app (7) (fdtrace live -p 7 shows the lines that do it)."
    );
}

#[test]
fn few_hidden_handles_are_nothing() {
    let expected = "Nothing out of the ordinary: 900 handles are visible as descriptors, 100 hidden ones are programs and \
                    libraries that run, 0 others are hidden, which is not many. app (7) holds most, 800 handles.";
    assert_eq!(said(Vec::new()), expected);
    assert_eq!(said(vec![group("mapping", "/data/x", 99, &[(7, "app", 99)])]), expected);
}

#[test]
fn a_main_thread_that_has_ended() {
    let mut document = document();
    document.lsof_view.behind_dead_threads = 500;
    document.processes[0].main_thread_is_gone = true;
    assert_eq!(
        sentence::of(&document),
        "500 of the handles are ordinary descriptors that lsof cannot see: the main thread of app (7) has ended, and its \
         other threads go on."
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
        "500 handles were not found at any process: the kernel itself keeps them, and what is said beside \"not found\" is \
         where to look."
    );
    assert_eq!(
        left_over(500, |document| document.partial.push("the walk over mappings was not done".to_owned())),
        "500 handles were not found, and not all was looked at: the lines that begin with ! say what was not."
    );
    let unreadable = json!({"pid": 9, "comm": "vault", "descriptors": 490});
    let unreadable = serde_json::from_value(unreadable).expect("a process");
    assert_eq!(
        left_over(500, |document| document.residual.unreadable_processes.push(unreadable)),
        "The 500 handles that were not found are those of vault (9), which cannot be looked into from here."
    );
    assert!(left_over(40, |_| ()).starts_with("Nothing out of the ordinary"));
    assert!(left_over(-500, |_| ()).starts_with("Nothing out of the ordinary"));
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
    let expected =
        "lsof counts descriptors, and 50,000 of them point to only 900 handles: dup and fork make no handle.";
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

#[test]
fn rows_of_hidden_handles() {
    let mut document = document();
    let mut groups: Vec<Hidden> =
        (0..5).map(|id| group("mapping", &format!("/data/{id}"), 10 - id, &[(7, "app", 10 - id)])).collect();
    groups[0].deleted = true;
    groups[0].bytes = 100;
    groups.push(group("mapping", "/other", 3, &[(8, "other", 3)]));
    // A cache that several programs map.
    groups.push(group("mapping", "locale-archive", 2, &[(8, "other", 1), (9, "third", 1)]));
    document.hidden.extend(groups);
    let rows: Vec<_> = hidden::rows(&document)
        .into_iter()
        .map(|row| (row.count, row.name, row.ordinary, row.deleted, row.processes.len()))
        .collect();
    let expected = [
        (40, "5 files, such as /data/0".to_owned(), false, false, 1),
        (3, "/other".to_owned(), false, false, 1),
        (102, "programs, libraries and what they share: 2 files".to_owned(), true, false, 3),
    ];
    assert_eq!(rows, expected);
    assert_eq!(hidden::ordinary(&document), 102);
}

fn screen(document: &Document, verbose: bool) -> String {
    let style = Style { color: false, top: 20, verbose, finished: false };
    let mut out = Vec::new();
    write(&mut out, document, style, true).expect("room");
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
fn an_empty_machine_has_a_screen() {
    let mut document = document();
    (document.hidden, document.processes, document.file_nr) = (Vec::new(), Vec::new(), None);
    assert!(screen(&document, false).starts_with("file-nr cannot be read"));
}
