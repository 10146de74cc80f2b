//! Processes that `/proc` shows to have descriptors, and of which the walk has none.

use std::collections::{HashMap, HashSet};

use super::HolderSnapshot;
use crate::process::{self, Descriptors, Standing};

/// A process that could not be looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// How many descriptors it has; `None` where not even that is reported.
    pub descriptors: Option<u64>,
}

/// `PF_KTHREAD` (include/linux/sched.h)
pub const PF_KTHREAD: u32 = 0x0020_0000;

/// `/proc` has the starts of processes in hundredths of a second.
const TICK: u64 = 10_000_000;

/// Finds them, of those that were there when the walk began, that many ns after the machine was started.
pub(super) fn find(snapshot: &mut HolderSnapshot, begun: u64) {
    let owners: HashSet<u64> = snapshot.tables.iter().map(|table| table.address).collect();
    let spaces: HashSet<u64> = snapshot.spaces.iter().map(|space| space.address).collect();
    let walked: HashSet<u32> = snapshot
        .tasks
        .iter()
        // What shows its memory can be looked into, and may have had no descriptor at that moment.
        .filter(|task| {
            task.flags & PF_KTHREAD != 0 || owners.contains(&task.files) || spaces.contains(&task.mm)
        })
        .map(|task| task.tgid)
        .chain(snapshot.tables.iter().map(|table| table.tgid))
        .collect();
    let known: HashMap<u32, u64> = snapshot.tasks.iter().map(|task| (task.tgid, task.started)).collect();
    let others: Vec<u32> = process::all().filter(|pid| !walked.contains(pid)).collect();
    for pid in others {
        let was_there = |started: u64| match known.get(&pid) {
            Some(0) | None => started.saturating_add(TICK) < begun,
            Some(task) => started.abs_diff(*task) <= TICK,
        };
        let descriptors = Descriptors::of(pid).map(|found| found.used);
        if descriptors == Some(0)
            || !process::started(pid).is_some_and(was_there)
            || Standing::of(pid) != Standing::Running
        {
            continue;
        }
        let comm = process::identity(pid).comm;
        snapshot.unreadable.push(Unreadable { pid, comm, descriptors });
    }
    snapshot.unreadable.sort_by_key(|process| (std::cmp::Reverse(process.descriptors), process.pid));
}

#[cfg(test)]
mod tests {
    use fdtrace_common::holder_walk::Task;

    use super::*;
    use crate::holders::{Owner, fixture::task};

    /// Whether this process is said to be unreadable, in a walk of these tasks and tables that began then.
    fn is_unseen_since(begun: u64, tasks: Vec<Task>, tables: Vec<Owner>) -> bool {
        let mut snapshot = HolderSnapshot { tasks, tables, ..HolderSnapshot::default() };
        find(&mut snapshot, begun);
        let found = snapshot.unreadable.iter().find(|process| process.pid == std::process::id());
        assert!(found.is_none_or(|process| process.descriptors > Some(2) && !process.comm.is_empty()));
        found.is_some()
    }

    fn is_unseen(tasks: Vec<Task>, tables: Vec<Owner>) -> bool {
        is_unseen_since(u64::MAX, tasks, tables)
    }

    fn own() -> Task {
        let started = process::started(std::process::id()).expect("it is there");
        Task { started, ..task(std::process::id(), "own") }
    }

    fn table(address: u64, tgid: u32) -> Owner {
        Owner { address, tgid, thread: tgid, part: 0..1 }
    }

    #[test]
    fn a_process_with_descriptors_that_the_walk_did_not_show() {
        assert!(is_unseen(vec![own()], vec![table(9, 1)]));
        // One that the walk did not know at all, and that was there before it.
        assert!(is_unseen(Vec::new(), Vec::new()));
    }

    #[test]
    fn others_are_seen() {
        assert!(!is_unseen(vec![own()], vec![table(9, std::process::id())]));
        assert!(!is_unseen(vec![own()], vec![table(own().files, 1)]), "it shares the table of another");
        assert!(!is_unseen(vec![Task { flags: PF_KTHREAD, ..own() }], Vec::new()));
        assert!(!is_unseen_since(own().started, Vec::new(), Vec::new()), "it has come since");
        let before = Task { started: own().started - 5 * TICK, ..own() };
        assert!(!is_unseen(vec![before], Vec::new()), "the id was another process's");
    }
}
