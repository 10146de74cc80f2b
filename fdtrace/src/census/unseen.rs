//! Processes that `/proc` shows to have descriptors, and of which the census has none.

use std::collections::HashSet;

use super::Census;
use crate::process::{self, Descriptors};

/// A process that could not be looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// How many descriptors it has; `None` where not even that is told.
    pub descriptors: Option<u64>,
}

/// `PF_KTHREAD` (include/linux/sched.h)
pub const PF_KTHREAD: u32 = 0x0020_0000;

/// Finds them. A process that has come since the walk is none of them.
pub(super) fn find(census: &mut Census) {
    let owners: HashSet<u64> = census.tables.iter().map(|table| table.address).collect();
    let walked: HashSet<u32> = census
        .tasks
        .iter()
        .filter(|task| task.flags & PF_KTHREAD != 0 || owners.contains(&task.files))
        .map(|task| task.tgid)
        .chain(census.tables.iter().map(|table| table.tgid))
        .collect();
    let known: HashSet<u32> = census.tasks.iter().map(|task| task.tgid).collect();
    let latest = census.tasks.iter().map(|task| task.started).max().unwrap_or(0);
    let others: Vec<u32> = process::all().filter(|pid| !walked.contains(pid)).collect();
    for pid in others {
        let descriptors = Descriptors::of(pid).map(|found| found.used);
        let is_new = !known.contains(&pid) && process::started(pid).is_none_or(|started| started >= latest);
        if is_new || descriptors == Some(0) || !process::exists(pid) {
            continue;
        }
        let comm = process::identity(pid).comm;
        census.unreadable.push(Unreadable { pid, comm, descriptors });
    }
    census.unreadable.sort_by_key(|process| (std::cmp::Reverse(process.descriptors), process.pid));
}

#[cfg(test)]
mod tests {
    use fdtrace_common::census::Task;

    use super::*;
    use crate::census::{Owner, fixture::task};

    /// Whether this process is said to be unreadable, in a census of these tasks and tables.
    fn is_unseen(tasks: Vec<Task>, tables: Vec<Owner>) -> bool {
        let mut census = Census { tasks, tables, ..Census::default() };
        find(&mut census);
        let found = census.unreadable.iter().find(|process| process.pid == std::process::id());
        assert!(found.is_none_or(|process| process.descriptors > Some(2) && !process.comm.is_empty()));
        found.is_some()
    }

    fn own() -> Task {
        task(std::process::id(), "own")
    }

    fn table(address: u64, tgid: u32) -> Owner {
        Owner { address, tgid, part: 0..1 }
    }

    #[test]
    fn a_process_with_descriptors_that_the_walk_did_not_show() {
        assert!(is_unseen(vec![own()], vec![table(9, 1)]));
        // One that the walk did not know at all, and that is older than others.
        assert!(is_unseen(vec![Task { started: u64::MAX, ..task(u32::MAX, "new") }], Vec::new()));
    }

    #[test]
    fn others_are_seen() {
        assert!(!is_unseen(vec![own()], vec![table(9, std::process::id())]));
        assert!(!is_unseen(vec![own()], vec![table(own().files, 1)]), "it shares the table of another");
        assert!(!is_unseen(vec![Task { flags: PF_KTHREAD, ..own() }], Vec::new()));
        assert!(!is_unseen(Vec::new(), Vec::new()), "it has come since");
    }
}
