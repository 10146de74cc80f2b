//! From small scenes to answers.

use std::path::PathBuf;

use fdtrace_common::holder_walk::{File, Task, VM_EXEC};

use super::*;
use crate::holders::fixture::{
    KERNEL, Scene, backing_file, file, overlay_file, ring, segment_file, task, tcp_socket, unix_socket,
};
use crate::{holders::Sightings, model::Holder};

/// Nothing has a path.
pub(super) struct NoPaths;

impl Paths for NoPaths {
    fn of_descriptor(&mut self, _: u32, _: u32) -> Option<PathBuf> {
        None
    }

    fn of_mapping(&mut self, _: u32, _: u64, _: u64) -> Option<PathBuf> {
        None
    }
}

fn answer(snapshot: &HolderSnapshot, focus: &Focus) -> Explanation {
    explain(snapshot, &Around::default(), focus, &mut NoPaths)
}

fn all(scene: &Scene) -> Explanation {
    answer(&scene.snapshot(), &everything())
}

fn everything() -> Focus {
    Focus { groups: 100, ..Focus::default() }
}

fn process(found: &Explanation, pid: u32) -> &Process {
    found.processes.iter().find(|process| process.pid == pid).expect("a process")
}

/// The holders that are not 0.
fn counts(by_holder: &PerHolder) -> Vec<(Holder, u64)> {
    by_holder.iter().filter(|(_, count)| *count > 0).collect()
}

fn socket(scene: &mut Scene) -> u64 {
    let handle = scene.next();
    scene.file(unix_socket(handle, handle + 128))
}

#[test]
fn each_handle_once_under_its_first_holder() {
    let mut scene = Scene::default();
    scene.process(1, "a").process(2, "b");
    let [both, mapped, sent, registered] =
        ["both", "mapped", "sent", "registered"].map(|name| scene.regular(name));
    let socket = socket(&mut scene);
    let ring = {
        let handle = scene.next();
        scene.file(ring(handle, handle + 128))
    };
    scene.opens(1, &[both, both, socket, ring]).maps(1, &[both, mapped, mapped], 0).maps(2, &[mapped], 0);
    scene.sends(mapped, socket).sends(sent, socket).registers(sent, ring).registers(registered, ring);
    let found = all(&scene);
    let expected =
        [(Holder::Descriptor, 3), (Holder::Mapping, 1), (Holder::ScmRights, 1), (Holder::IoUring, 1)];
    assert_eq!(counts(&found.by_holder), expected);
    assert_eq!((found.total, found.accounted, found.hidden, found.descriptors), (6, 6, 3, 4));
    // References, not exclusive.
    let first = process(&found, 1);
    let files = first.files.iter().find(|files| files.name == "both").expect("its group");
    assert_eq!(
        (counts(&files.holders), files.count),
        (vec![(Holder::Descriptor, 2), (Holder::Mapping, 1)], 1)
    );
    assert_eq!((first.handles, first.hidden, first.descriptors), (6, 3, 4));
    assert_eq!(counts(&first.by_holder), expected);
}

#[test]
fn a_process_counts_as_it_holds_itself() {
    let mut scene = Scene::default();
    scene.process(1, "a").process(2, "b");
    let shared = scene.regular("shared");
    scene.opens(1, &[shared]).maps(2, &[shared], 0);
    let found = all(&scene);
    assert_eq!(counts(&found.by_holder), [(Holder::Descriptor, 1)]);
    let second = process(&found, 2);
    assert_eq!(counts(&second.by_holder), [(Holder::Mapping, 1)]);
    assert_eq!((second.handles, second.hidden), (1, 0), "another's descriptor points to it");
}

#[test]
fn a_program_that_runs_is_held_by_that() {
    let mut scene = Scene::default();
    let program = scene.regular("program");
    scene.task(Task { executable: program, ..task(1, "a") });
    let found = all(&scene);
    assert_eq!(counts(&found.by_holder), [(Holder::Executable, 1)]);
    assert_eq!(counts(&process(&found, 1).by_holder), [(Holder::Executable, 1)]);
}

#[test]
fn a_handle_that_nobody_holds_any_more_is_not_there() {
    let mut scene = Scene::default();
    let kept = scene.regular("kept");
    scene.process(1, "a").opens(1, &[kept]);
    let mut snapshot = scene.snapshot();
    snapshot.add(&File { links: 0, ..file(KERNEL, b"gone") });
    let found = answer(&snapshot, &everything());
    assert_eq!((found.total, found.accounted, found.hidden, found.deleted.handles), (1, 1, 0, 0));
    assert_eq!(found.by_holder.iter().map(|(_, count)| count).sum::<u64>(), found.total);
    assert_eq!(found.by_kind.values().sum::<u64>(), found.total);
}

#[test]
fn what_file_nr_does_not_count_is_told_apart() {
    let mut scene = Scene::default();
    let handle = scene.next();
    let backing = scene.file(backing_file(handle, b"backing"));
    let plain = scene.regular("plain");
    scene.process(1, "a").opens(1, &[plain]).maps(1, &[backing], 0);
    let found = all(&scene);
    assert_eq!((found.total, found.accounted), (2, 1));
    // Nobody looks for what file-nr does not count among what it does.
    assert_eq!((found.hidden, found.hidden_groups.len(), process(&found, 1).hidden), (0, 0, 0));
    assert_eq!(counts(&found.uncounted), [(Holder::Mapping, 1)]);
    let [group] = &found.uncounted_groups[..] else { panic!("{:?}", found.uncounted_groups) };
    assert_eq!((group.count, group.processes[0].pid), (1, 1));
}

#[test]
fn what_lies_behind_a_file_is_held_as_that_is() {
    let mut scene = Scene::default();
    let mut pair = |name: &str| {
        let (behind, above) = (scene.next(), scene.next() + 256);
        scene.file(backing_file(behind, name.as_bytes()));
        scene.file(overlay_file(above, name.as_bytes(), behind));
        (behind, above)
    };
    let [open, program, closed_by] = ["open", "program", "let go"].map(&mut pair);
    scene.task(Task { executable: program.1, ..task(1, "a") });
    scene.opens(1, &[open.1]).maps(1, &[open.0, program.0], 0);
    for (behind, above) in [open, program, closed_by] {
        scene.lies_behind(behind, above);
    }
    let found = all(&scene);
    let expected = [(Holder::Descriptor, 2), (Holder::Mapping, 1), (Holder::Executable, 1)];
    assert_eq!(counts(&found.by_holder), expected);
    assert_eq!(counts(&found.uncounted), [(Holder::Descriptor, 1), (Holder::Mapping, 1)]);
    assert_eq!((found.total, found.accounted, found.hidden), (4, 2, 1));
    assert_eq!(found.uncounted_groups.len(), 1, "one is open");
}

#[test]
fn attaches_and_segments() {
    let mut scene = Scene::default();
    scene.process(41, "maker").process(42, "user");
    let attaches = [1, 2, 3].map(|number| scene.file(segment_file(KERNEL + number * 256, 5, 0, 0)));
    let library = scene.regular("library");
    scene.maps(42, &attaches, 0).maps(42, &[library], VM_EXEC);
    let mut snapshot = scene.snapshot();
    for attach in attaches {
        let place = snapshot.place(attach).expect("its place");
        snapshot.handles[place as usize].marks |= crate::holders::mark::ATTACH;
    }
    let own = snapshot.add(&segment_file(KERNEL + 0x900, 5, 0, 0));
    snapshot.segments = vec![Segment {
        id: 5,
        key: 0,
        creator: 41,
        last: 42,
        attaches: 3,
        bytes: 4096,
        namespace: 1,
        is_removed: false,
        handle: own,
    }];
    let found = answer(&snapshot, &everything());
    let expected = [(Holder::ShmAttach, 3), (Holder::Mapping, 1), (Holder::ShmSegment, 1)];
    assert_eq!(counts(&found.by_holder), expected);
    let groups: Vec<_> = found
        .hidden_groups
        .iter()
        .map(|group| (group.holder, group.count, group.shmid, group.processes[0].pid, group.code))
        .collect();
    let expected = [
        (Holder::ShmAttach, 3, Some(5), 42, false),
        (Holder::Mapping, 1, None, 42, true),
        (Holder::ShmSegment, 1, Some(5), 41, false),
    ];
    assert_eq!(groups, expected);
    // One of which nobody knows who made it.
    snapshot.segments[0].creator = 0;
    let found = answer(&snapshot, &everything());
    assert!(found.hidden_groups[2].processes.is_empty());
}

#[test]
fn segments_of_two_namespaces_are_two_groups() {
    let mut scene = Scene::default();
    scene.process(1, "a").process(2, "b");
    let other = File { inode: KERNEL, ..segment_file(KERNEL + 512, 0, 0, 0) };
    let attaches = [segment_file(KERNEL + 256, 0, 0, 0), other].map(|attach| scene.file(attach));
    scene.maps(1, &attaches[..1], 0).maps(2, &attaches[1..], 0);
    assert_eq!(all(&scene).hidden_groups.len(), 2);
}

#[test]
fn what_is_in_flight_is_the_outermost_holders() {
    let mut scene = Scene::default();
    scene.process(1, "receiver").process(2, "other");
    let [outer, middle, inner, round] = std::array::from_fn(|_| socket(&mut scene));
    let file = scene.regular("file");
    scene.opens(1, &[outer]).opens(2, &[round]);
    // Innermost first, and all round.
    scene.sends(file, inner).sends(inner, middle).sends(middle, outer).sends(middle, inner);
    scene.sends(round, round);
    let found = all(&scene);
    let receiver = process(&found, 1);
    assert_eq!((receiver.handles, receiver.hidden), (4, 3));
    assert_eq!(counts(&receiver.by_holder), [(Holder::Descriptor, 1), (Holder::ScmRights, 3)]);
    assert_eq!(counts(&process(&found, 2).by_holder), [(Holder::Descriptor, 1)]);
}

#[test]
fn a_cycle_of_sockets_that_two_processes_reach() {
    let mut scene = Scene::default();
    scene.process(1, "a").process(2, "b");
    let [one, two] = std::array::from_fn(|_| socket(&mut scene));
    let file = scene.regular("file");
    scene.opens(1, &[one]).opens(2, &[two]).sends(one, two).sends(two, one).sends(file, two);
    let found = all(&scene);
    for pid in [1, 2] {
        assert_eq!(process(&found, pid).handles, 3, "process {pid}");
    }
    let group = found.hidden_groups.iter().find(|group| group.name == "file").expect("the file");
    assert_eq!((group.count, group.processes.len()), (1, 2));
}

#[test]
fn a_long_stack_of_sockets_takes_no_time() {
    const LENGTH: usize = 3000;
    let mut scene = Scene::default();
    let sockets: Vec<u64> = (0..LENGTH).map(|_| socket(&mut scene)).collect();
    for pid in 1..20 {
        scene.process(pid, "a").opens(pid, &sockets[LENGTH - 1..]);
    }
    sockets.windows(2).for_each(|pair| _ = scene.sends(pair[0], pair[1]));
    assert_eq!(process(&all(&scene), 7).handles, LENGTH as u64);
}

#[test]
fn rings_without_a_descriptor_hold_what_they_registered() {
    let mut scene = Scene::default();
    scene.process(1, "a");
    let handle = scene.next();
    let ring = scene.file(ring(handle, handle + 128));
    let file = scene.regular("file");
    scene.has_ring(1, ring).registers(file, ring);
    let found = all(&scene);
    assert_eq!(counts(&found.by_holder), [(Holder::IoUring, 2)]);
    assert_eq!(process(&found, 1).hidden, 2);
}

#[test]
fn lsof_lists_the_table_of_each_main_thread() {
    let mut scene = Scene::default();
    let files = ["a", "b", "c"].map(|name| scene.regular(name));
    scene.process(1, "owner").task(Task { files: task(1, "").files, ..task(2, "sharer") });
    // Its main thread has ended, and a worker goes on.
    scene.task(Task { files: 0, mm: 0, ..task(3, "dead") }).task(Task { tgid: 3, ..task(4, "worker") });
    scene.task(Task { files: 0, flags: crate::holders::PF_KTHREAD, ..task(5, "kernel") });
    scene.opens(1, &files[..2]).opens(4, &files[1..]);
    let found = all(&scene);
    assert_eq!((found.lsof_descriptors, found.descriptors), (4, 4));
    assert_eq!((found.total, found.hidden, found.behind_dead_threads), (3, 0, 1));
    let dead = process(&found, 3);
    assert_eq!((dead.main_thread_is_gone, dead.handles, dead.comm.as_str()), (true, 2, "dead"));
    assert!(!process(&found, 2).main_thread_is_gone);
    assert!(found.processes.iter().all(|process| process.pid != 5));
}

#[test]
fn a_limit_is_that_of_the_fullest_table() {
    let mut scene = Scene::default();
    let files = ["a", "b", "c"].map(|name| scene.regular(name));
    scene.process(1, "a").task(Task { tgid: 1, ..task(2, "thread") });
    scene.opens(1, &files[..1]).opens(2, &files[1..]);
    let found = all(&scene);
    let process = process(&found, 1);
    assert_eq!((process.used, process.descriptors, process.limit), (2, 3, Limit { soft: 1024, hard: 4096 }));
}

/// A walk with so many handles more in file-nr than found.
fn residual_of(
    before: u64,
    last: u64,
    exactness: Exactness,
    change: impl FnOnce(&mut HolderSnapshot),
) -> Option<Residual> {
    let mut scene = Scene::default();
    let files: Vec<u64> = (0..10).map(|number| scene.regular(&number.to_string())).collect();
    let mut snapshot = scene.process(1, "a").opens(1, &files).snapshot();
    let (min, max) = (before.min(last), before.max(last));
    snapshot.counted = Some(crate::holders::Counted { last, min, max, exactness, limit: 1000 });
    change(&mut snapshot);
    answer(&snapshot, &everything()).residual
}

#[test]
fn nothing_is_left_over() {
    let found = residual_of(10, 10, Exactness::FileNr, |_| ()).expect("a number");
    assert_eq!(found, Residual::default());
}

#[test]
fn a_residual_with_its_reasons() {
    let found = residual_of(15, 13, Exactness::FileNr, |snapshot| {
        snapshot.moving = 2;
        let unreadable = |pid, descriptors| Unreadable { pid, comm: "x".to_owned(), descriptors };
        snapshot.unreadable = vec![unreadable(7, Some(3)), unreadable(8, None)];
    })
    .expect("a number");
    // Two more or less may have been there than the one walk saw.
    assert_eq!((found.min, found.max), (13 - 12, 15 - 8 + 2));
    assert!(found.reasons[0].contains("process 7 (x)") && found.reasons[0].contains("3 descriptors"));
    assert!(found.reasons[1].contains("process 8 (x)") && !found.reasons[1].contains("descriptors"));
    assert_eq!(found.reasons.last().map(String::as_str), Some("handles that came and went during the walk"));
}

#[test]
fn two_walks_bound_what_came_and_went() {
    let found = residual_of(15, 13, Exactness::FileNr, |snapshot| {
        snapshot.sightings = Some(Sightings { both: 9, either: 12 });
    })
    .expect("a number");
    assert_eq!((found.min, found.max), (13 - 12, 15 - 9));
}

#[test]
fn a_counter_that_may_be_off_gives_a_range() {
    let found = residual_of(10, 10, Exactness::Within(32), |_| ()).expect("a number");
    assert_eq!((found.min, found.max), (-10, 32));
    assert_eq!(
        found.reasons.last().map(String::as_str),
        Some("file-nr of this kernel is off by up to a batch for each CPU")
    );
}

#[test]
fn more_than_file_nr_counts_came_during_the_walk() {
    let found = residual_of(7, 7, Exactness::FileNr, |_| ()).expect("a number");
    assert_eq!((found.min, found.max, found.reasons.len()), (-3, -3, 1));
}

#[test]
fn a_residual_that_would_mean_nothing_is_none() {
    assert_eq!(residual_of(10, 10, Exactness::FileNr, |snapshot| snapshot.by_proc = true), None);
    assert_eq!(residual_of(10, 10, Exactness::FileNr, |snapshot| snapshot.counted = None), None);
}

#[test]
fn the_machine_around_gives_reasons() {
    let counted =
        crate::holders::Counted { last: 9, min: 9, max: 9, exactness: Exactness::FileNr, limit: 1000 };
    let snapshot = HolderSnapshot { counted: Some(counted), requests: (500, 1), ..HolderSnapshot::default() };
    let around = Around {
        loop_devices: 1,
        swap_files: 2,
        autofs_mounts: 3,
        kept_interpreters: 1,
        aio_room: 128,
        nfs_server: true,
        graphics: true,
        inside_pid_namespace: false,
    };
    let reasons =
        explain(&snapshot, &around, &everything(), &mut NoPaths).residual.expect("a number").reasons;
    let expected = [
        "500 requests in flight in io_uring, in 1 ring",
        "128 requests that AIO has room for (fs.aio-nr)",
        "3 autofs mounts, each of which keeps a pipe",
        "2 swap files",
        "1 interpreter that binfmt_misc keeps open",
        "1 loop device",
    ];
    assert_eq!(reasons[..6], expected);
    assert_eq!(reasons.len(), 9);
    let inside = Around { inside_pid_namespace: true, ..around };
    let found = explain(&snapshot, &inside, &everything(), &mut NoPaths);
    assert!(found.residual.is_none() && found.partial[0].contains("PID namespace"));
}

/// What a focus leaves: handles of each process, and hidden groups.
fn left(scene: &Scene, focus: Focus) -> (Vec<(u32, u64)>, usize) {
    let found = answer(&scene.snapshot(), &Focus { groups: 100, ..focus });
    (
        found.processes.iter().map(|process| (process.pid, process.handles)).collect(),
        found.hidden_groups.len(),
    )
}

#[test]
fn filters() {
    let mut scene = Scene::default();
    scene.process(1, "a").process(2, "b");
    let tcp = [(0, 8), (1, 1)].map(|(number, state)| scene.file(tcp_socket(KERNEL + number * 256, state)));
    let deleted = {
        let handle = scene.next();
        scene.file(File { links: 0, ..file(handle, b"deleted") })
    };
    let plain = scene.regular("plain");
    let handle = scene.next();
    let twin = scene.file(File { inode: plain + 1, ..file(handle, b"plain") });
    scene.opens(1, &[tcp[0], tcp[1], deleted, plain]).opens(2, &[plain]).maps(2, &[twin], 0);
    let focus = Focus::default;
    assert_eq!(left(&scene, focus()), (vec![(1, 4), (2, 2)], 1));
    assert_eq!(left(&scene, Focus { pids: vec![2], ..focus() }), (vec![(2, 2)], 1));
    assert_eq!(left(&scene, Focus { pids: vec![1], ..focus() }), (vec![(1, 4)], 0));
    assert_eq!(left(&scene, Focus { kinds: vec![Kind::Socket], ..focus() }), (vec![(1, 2)], 0));
    assert_eq!(left(&scene, Focus { holders: vec![Holder::Mapping], ..focus() }), (vec![(2, 1)], 1));
    assert_eq!(left(&scene, Focus { hidden: true, ..focus() }), (vec![(2, 1)], 1));
    assert_eq!(left(&scene, Focus { deleted: true, ..focus() }), (vec![(1, 1)], 0));
    let close_wait = SocketState::from_name("close-wait");
    assert_eq!(left(&scene, Focus { sockets: close_wait, ..focus() }), (vec![(1, 1)], 0));
    assert_eq!(left(&scene, Focus { same_inode: true, ..focus() }), (vec![(2, 2), (1, 1)], 1));
    assert_eq!(left(&scene, Focus { pids: vec![1], hidden: true, ..focus() }), (vec![], 0));
    // The sums of the system stay.
    let found = answer(&scene.snapshot(), &Focus { pids: vec![2], ..everything() });
    assert_eq!((found.total, found.hidden), (5, 1));
}

#[test]
fn inherited_is_what_another_program_left_open() {
    let mut scene = Scene::default();
    let [shell, app] = ["shell", "app"].map(|name| scene.regular(name));
    scene
        .task(Task { executable: shell, ..task(1, "shell") })
        .task(Task { executable: app, ..task(2, "app") });
    // Forked, and runs the same program as its parent.
    scene.task(Task { executable: shell, ..task(3, "shell") });
    let of_shell = |handle: u64, name: &[u8]| File { cred: task(1, "").cred, ..file(handle, name) };
    let [log, std, own] = [(0, b"log"), (1, b"std"), (2, b"own")]
        .map(|(number, name)| scene.file(of_shell(KERNEL + number * 256, name)));
    scene.keeps(1, 5, log).keeps(2, 2, std).keeps(2, 5, log).keeps(3, 5, log).opens(2, &[own]);
    assert_eq!(left(&scene, Focus { inherited: true, ..Focus::default() }), (vec![(2, 1)], 0));
    let found = all(&scene);
    let files = &process(&found, 2).files;
    let log = files.iter().find(|files| files.name == "log").expect("the log");
    assert_eq!((log.inherited, log.opened_by), (1, Some(1)));
}

#[test]
fn groups_of_a_process_are_as_many_as_asked_for() {
    let mut scene = Scene::default();
    let files: Vec<u64> = (0..50).map(|number| scene.regular(&format!("f{number}"))).collect();
    let snapshot = scene.process(1, "a").opens(1, &files).snapshot();
    let found = answer(&snapshot, &Focus { groups: 20, ..Focus::default() });
    let process = process(&found, 1);
    assert_eq!((process.files.len(), process.files_left_out, process.handles), (20, 30, 50));
}

#[test]
fn many_handles_of_one_file_show_however_many_others_come_first() {
    let mut scene = Scene::default();
    let many = keys::MAX_GROUPS + 500;
    let mut files: Vec<u64> = (0..many).map(|number| scene.regular(&format!("f{number}"))).collect();
    for _ in 0..300 {
        let handle = scene.next();
        files.push(scene.file(File { inode: KERNEL, ..file(handle, b"leak") }));
    }
    scene.process(1, "a").maps(1, &files, 0);
    let found = all(&scene);
    let first = &found.hidden_groups[0];
    assert_eq!((first.name.as_str(), first.count), ("leak", 300));
    let process = process(&found, 1);
    assert_eq!((process.files[0].count, process.handles), (300, files.len() as u64));
    let shown: u64 = process.files.iter().map(|files| files.count).sum();
    assert!(process.files_left_out >= process.handles - shown - keys::MAX_GROUPS as u64);
    assert!(found.hidden_groups.len() <= keys::MAX_GROUPS + 1);
}

#[test]
fn deleted_files_take_their_room_once() {
    let mut scene = Scene::default();
    let one =
        |number: u64, inode: u64| File { links: 0, inode, blocks: 16, ..file(KERNEL + number * 256, b"x") };
    let files = [one(0, KERNEL), one(1, KERNEL + 64), one(2, KERNEL)].map(|file| scene.file(file));
    scene.process(1, "a").opens(1, &files);
    assert_eq!(all(&scene).deleted, Deleted { handles: 3, bytes: 2 * 16 * 512 });
}

#[test]
fn names_of_states() {
    for number in 1..=12 {
        assert_eq!(SocketState::from_name(SocketState(number).name()), Some(SocketState(number)));
    }
    assert_eq!(SocketState::from_name("Close_Wait"), SocketState::from_name("CLOSE-WAIT"));
    assert_eq!(SocketState::from_name("nonsense"), None);
    for holder in Holder::ALL {
        assert_eq!(Holder::from_name(holder.name()), Some(holder));
    }
}

/// Each upload is a file of its own, and each library has several parts.
#[test]
fn deleted_files_come_first_and_libraries_last() {
    let mut scene = Scene::default();
    let uploads: Vec<u64> = (0..30)
        .map(|number| {
            let handle = scene.next();
            scene.file(File { links: 0, ..file(handle, format!("upload{number}").as_bytes()) })
        })
        .collect();
    let log = scene.regular("log");
    let library: Vec<u64> = (0..4)
        .map(|_| {
            let handle = scene.next();
            scene.file(File { inode: KERNEL, ..file(handle, b"libc.so.6") })
        })
        .collect();
    scene.process(1, "a").opens(1, &uploads).opens(1, &[log]).maps(1, &library, VM_EXEC);
    let found = all(&scene);
    let names: Vec<&str> = process(&found, 1).files.iter().map(|files| files.name.as_str()).collect();
    assert!(names[..30].iter().all(|name| name.starts_with("upload")), "{names:?}");
    assert_eq!(names[30..], ["log", "libc.so.6"]);
}
