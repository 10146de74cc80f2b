//! Measures the limits that are not of descriptors.

use std::collections::HashSet;

use crate::{
    holders::{Counter, HolderSnapshot, PF_KTHREAD},
    model::explain::{Document, LimitLine},
    process::limits::{self, setting},
};

/// Pages of root's pipes are not limited: `pipe_is_unprivileged_user` (fs/pipe.c).
const ROOT: u32 = 0;

/// How much is used of each limit, and by whom.
pub(crate) fn measure(snapshot: &HolderSnapshot, document: &Document) -> Vec<LimitLine> {
    let all = |_: &_| true;
    let lines = of_users(snapshot).into_iter().chain(of_system()).chain(of_tasks(snapshot));
    let lines = lines.filter(|line| line.limit > 0).map(|line| line.reported(document, all));
    lines.chain(of_cgroups(document)).collect()
}

fn of_users(snapshot: &HolderSnapshot) -> Vec<LimitLine> {
    let mut lines = Vec::new();
    for found in &snapshot.users {
        let names: &[&str] = match found.counter {
            Counter::InotifyInstances => &["fs.inotify.max_user_instances"],
            Counter::InotifyWatches => &["fs.inotify.max_user_watches"],
            Counter::EpollWatches => &["fs.epoll.max_user_watches"],
            Counter::PipePages if found.uid == ROOT => &[],
            Counter::PipePages => &["fs.pipe-user-pages-soft", "fs.pipe-user-pages-hard"],
        };
        for name in names {
            let line = LimitLine::new(name, found.count, setting(name).unwrap_or(0));
            lines.push(LimitLine { user: Some(found.uid), ..line });
        }
    }
    lines
}

fn of_system() -> impl Iterator<Item = LimitLine> {
    let line = |used: limits::Used| LimitLine {
        user: used.user,
        ..LimitLine::new(used.name, used.used, used.limit)
    };
    limits::of_system().into_iter().map(line)
}

/// Threads of the kernel have ids, and count as threads.
fn of_tasks(snapshot: &HolderSnapshot) -> Vec<LimitLine> {
    let tasks: HashSet<u32> = snapshot.tasks.iter().map(|task| task.pid).collect();
    let kernel = snapshot.tasks.iter().any(|task| task.flags & PF_KTHREAD != 0);
    // Where those of the kernel cannot be seen, this is a part of the machine.
    if !kernel {
        return Vec::new();
    }
    let line = |name| LimitLine::new(name, tasks.len() as u64, setting(name).unwrap_or(0));
    vec![line("kernel.pid_max"), line("kernel.threads-max")]
}

fn of_cgroups(document: &Document) -> impl Iterator<Item = LimitLine> + '_ {
    limits::cgroups().into_iter().map(move |cgroup| {
        let line = LimitLine::new("pids.max", cgroup.tasks, cgroup.limit);
        let line = LimitLine { cgroup: Some(cgroup.path.clone()), ..line };
        if !line.is_near() {
            return line;
        }
        let inside: HashSet<u32> = cgroup.processes().into_iter().collect();
        line.reported(document, |process| inside.contains(&process.pid))
    })
}
