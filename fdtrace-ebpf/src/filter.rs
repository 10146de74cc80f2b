//! Which allocations are traced. Releases are never filtered: they look only at HANDLES.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_uid_gid},
    macros::map,
    maps::HashMap,
};
use fdtrace_common::{counters::Counter, wire::COMM_LEN};

use crate::{
    config,
    counters::count,
    kernel::{Ptr, cgroup, task_struct},
    task::Task,
};

/// Process ids that are traced, when the tree filter is on.
#[map]
static TREE: HashMap<u32, u8> = HashMap::with_max_entries(16384, 0);

/// Whether an allocation by the current task is traced.
#[inline(always)]
pub(crate) fn admits(tgid: u32) -> bool {
    if is_elsewhere(tgid) {
        return false;
    }
    if config::get!(filter_tree) != 0 && TREE.get_ptr(tgid).is_none() {
        return false;
    }
    if config::get!(filter_uid) != 0 && bpf_get_current_uid_gid() as u32 != config::get!(uid) {
        return false;
    }
    if config::get!(comm[0]) != 0 && !is_named() {
        return false;
    }
    config::get!(cgroup) == 0 || in_cgroup(Task::current().plain())
}

/// Whether the life of this process is of interest.
#[inline(always)]
pub(crate) fn follows(tgid: u32) -> bool {
    if is_elsewhere(tgid) {
        return false;
    }
    config::get!(filter_tree) == 0 || TREE.get_ptr(tgid).is_some()
}

/// A process that the tracer's PID namespace cannot see has no number: nobody could say whose its handles are. All
/// processes are seen from the first namespace, where 0 is the kernel's own.
#[inline(always)]
fn is_elsewhere(tgid: u32) -> bool {
    config::get!(pid_namespace) != 0 && tgid == 0
}

/// A child of a traced process is traced, when asked for.
#[inline(always)]
pub(crate) fn forked(parent: u32, child: u32) {
    if config::get!(follow) != 0 && TREE.get_ptr(parent).is_some() {
        // A tree of more processes than the map holds is traced in part; so is one that namespaces hide.
        if is_elsewhere(child) || TREE.insert(child, 1, 0).is_err() {
            count(Counter::Unfollowed);
        }
    }
}

/// A process id is free to be used again.
#[inline(always)]
pub(crate) fn exited(tgid: u32) {
    if config::get!(filter_tree) != 0 {
        let _ = TREE.remove(tgid);
    }
}

/// Whether a task would be admitted that is not the current one.
#[inline(always)]
pub(crate) fn admits_other(task: Ptr<task_struct>, tgid: u32) -> bool {
    if is_elsewhere(tgid) {
        return false;
    }
    if config::get!(filter_tree) != 0 && TREE.get_ptr(tgid).is_none() {
        return false;
    }
    if config::get!(filter_uid) != 0 && task.cred().uid() != config::get!(uid) {
        return false;
    }
    if config::get!(comm[0]) != 0 && !equals(task.comm()) {
        return false;
    }
    in_cgroup(task)
}

/// Whether a task is in the wanted cgroup or below it.
#[inline(always)]
fn in_cgroup(task: Ptr<task_struct>) -> bool {
    config::get!(cgroup) == 0 || ancestor_of(task) == config::get!(cgroup)
}

/// The id of the cgroup that a task is in or below, at the depth of the wanted one; 0 for none. The kernel has a helper
/// for that, but none for other tasks than the current one, and before 5.15 none for these programs.
#[inline(always)]
fn ancestor_of(task: Ptr<task_struct>) -> u64 {
    let cgroup = task.cgroups().dfl_cgrp();
    let level = config::get!(cgroup_level);
    if cgroup.level() < level {
        return 0;
    }
    if cgroup::ancestors().exists() {
        cgroup.ancestors().nth(level.into()).kn().id()
    } else {
        cgroup.ancestor_ids().nth(level.into())
    }
}

#[inline(always)]
fn is_named() -> bool {
    bpf_get_current_comm().is_ok_and(equals)
}

#[inline(always)]
fn equals(comm: [u8; COMM_LEN]) -> bool {
    let mut index = 0;
    while index < COMM_LEN {
        let wanted = config::get!(comm[index]);
        if comm[index] != wanted {
            return false;
        }
        if wanted == 0 {
            return true;
        }
        index += 1;
    }
    true
}
