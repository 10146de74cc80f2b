//! From an answer to its document.

use std::collections::BTreeMap;

use super::{
    By, Deleted, Explanation, Group, HiddenGroup, Kept, Peer, PerHolder, Process, ProcessGroup, Reference,
    Sharer,
};
use crate::{
    holders::{Handle, Segment},
    model::explain::{
        DeletedFiles, Document, FileNr, Files, Handles, Hidden, Limit, LsofView, PeerLine, ProcessGroupLine,
        ProcessLine, Queue, Residual, SCHEMA, SegmentLine, SharerLine, Slabs, Unreadable,
        handle::{self, Document as HandlesDocument, HandleLine, HolderLine, ReferenceLine},
    },
    process::waits::{Call, Thread},
};

/// How a file was opened (`O_ACCMODE`).
const ACCESS: [&str; 4] = ["read", "write", "read, write", ""];

/// What the walk does not know.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// When it was taken, RFC 3339, UTC.
    pub time: String,
    /// The same moment, in ns since the machine was started.
    pub uptime_ns: u64,
    /// Who took it.
    pub taken_by: u32,
    /// The kernel's release.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// How long it took.
    pub duration_ns: u64,
    /// What was asked for.
    pub focus: Vec<String>,
    /// `fs.nr_open`
    pub nr_open: u64,
    /// `vm.max_map_count`
    pub max_map_count: u64,
    /// `kernel.shmmni`
    pub shmmni: u64,
    /// The kernel's caches.
    pub slabs: Slabs,
}

/// Whose a process is.
#[derive(Clone, Debug, Default)]
pub struct Whose {
    /// Its program.
    pub exe: String,
    /// Its cgroup.
    pub cgroup: String,
    /// The user that it runs as.
    pub user: Option<u32>,
}

/// What was asked, and when.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What somebody calls the handle.
    pub what: String,
    /// When the walk was taken, RFC 3339, UTC.
    pub time: String,
    /// The kernel's release.
    pub kernel: String,
}

impl Document {
    /// From an answer; `identify` says whose a process is.
    pub fn new(found: &Explanation, frame: Frame, identify: impl Fn(u32) -> Whose) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            time: frame.time,
            uptime_ns: frame.uptime_ns,
            taken_by: frame.taken_by,
            kernel: frame.kernel,
            boot_id: frame.boot_id,
            focus: frame.focus,
            duration_ns: frame.duration_ns,
            file_nr: found.file_nr.map(|file_nr| FileNr {
                allocated: file_nr.allocated,
                min: file_nr.min,
                max: file_nr.max,
                exact: file_nr.exact,
                source: if file_nr.summed { "summed" } else { "file-nr" }.to_owned(),
                limit: file_nr.limit,
                nr_open: frame.nr_open,
            }),
            handles: Handles {
                total: found.total,
                accounted: found.accounted,
                unaccounted_by_file_nr: found.total - found.accounted,
                hidden: found.hidden,
                by_holder: by_holder(&found.by_holder, true),
                unaccounted_by_holder: by_holder(&found.uncounted, false),
                by_kind: found.by_kind.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect(),
            },
            residual: residual(found),
            partial: found.partial.clone(),
            unfinished: found.unfinished.iter().map(|walk| (*walk).to_owned()).collect(),
            descriptors: found.descriptors,
            lsof_view: LsofView {
                descriptors: found.lsof_descriptors,
                behind_dead_threads: found.behind_dead_threads,
            },
            hidden: found.hidden_groups.iter().map(hidden).collect(),
            uncounted: found.uncounted_groups.iter().map(hidden).collect(),
            segments: found.segments.iter().map(segment).collect(),
            deleted: {
                let Deleted { handles, bytes } = found.deleted;
                DeletedFiles { handles, bytes }
            },
            slabs: frame.slabs,
            processes: found.processes.iter().map(|found| process(found, &identify)).collect(),
            groups: Vec::new(),
            max_map_count: frame.max_map_count,
            shmmni: frame.shmmni,
            limits: Vec::new(),
            alerts: Vec::new(),
            growth: None,
            trace: None,
        }
    }
}

fn by_holder(counts: &PerHolder, all: bool) -> BTreeMap<String, u64> {
    counts
        .iter()
        .filter(|(_, count)| all || *count > 0)
        .map(|(holder, count)| (holder.name().to_owned(), count))
        .collect()
}

fn residual(found: &Explanation) -> Residual {
    Residual {
        min: found.residual.as_ref().map(|residual| residual.min),
        max: found.residual.as_ref().map(|residual| residual.max),
        unreadable_processes: found
            .unreadable
            .iter()
            .map(|process| Unreadable {
                pid: process.pid,
                comm: process.comm.clone(),
                descriptors: process.descriptors,
            })
            .collect(),
        reasons: found.residual.as_ref().map(|residual| residual.reasons.clone()).unwrap_or_default(),
    }
}

pub(super) fn sharer(sharer: &Sharer) -> SharerLine {
    SharerLine { pid: sharer.pid, comm: sharer.comm.clone(), count: sharer.count }
}

/// Processes by what they belong to.
#[must_use]
pub(crate) fn process_groups(by: &str, found: &[ProcessGroup]) -> Vec<ProcessGroupLine> {
    let line = |party: &ProcessGroup| ProcessGroupLine {
        by: by.to_owned(),
        name: party.name.clone(),
        handles: party.handles,
        descriptors: party.descriptors,
        hidden: party.hidden,
        by_holder: by_holder(&party.by_holder, true),
        processes: party.processes,
        largest: party.largest.as_ref().map(sharer),
    };
    found.iter().map(line).collect()
}

fn hidden(group: &HiddenGroup) -> Hidden {
    Hidden {
        holder: group.holder.name().to_owned(),
        kind: group.kind.name().to_owned(),
        name: group.name.clone(),
        count: group.count,
        bytes: group.bytes,
        deleted: group.deleted,
        code: group.code,
        ordinary: group.ordinary,
        shmid: group.shmid,
        processes: group.processes.iter().map(sharer).collect(),
        sites: Vec::new(),
        older: 0,
    }
}

fn segment(segment: &Segment) -> SegmentLine {
    SegmentLine {
        shmid: segment.id,
        key: segment.key,
        creator: segment.creator,
        attaches: segment.attaches,
        bytes: segment.bytes,
        removed: segment.is_removed,
        ipc_namespace: segment.namespace,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn process(found: &Process, identify: impl Fn(u32) -> Whose) -> ProcessLine {
    let Whose { exe, cgroup, user } = identify(found.pid);
    let finite = |limit: u64| (limit != u64::MAX).then_some(limit);
    let used = finite(found.limit.soft).map_or(0.0, |soft| 100.0 * found.used as f64 / soft.max(1) as f64);
    ProcessLine {
        pid: found.pid,
        comm: found.comm.clone(),
        exe,
        cgroup,
        user,
        parent: found.parent,
        started_ns: found.started,
        threads: found.threads,
        handles: found.handles,
        descriptors: found.descriptors,
        hidden: found.hidden,
        limit: Limit {
            soft: finite(found.limit.soft),
            hard: finite(found.limit.hard),
            used: found.used,
            used_percent: (used * 10.0).round() / 10.0,
        },
        by_holder: by_holder(&found.by_holder, true),
        main_thread_is_gone: found.main_thread_is_gone,
        files: found.files.iter().map(files).collect(),
        files_left_out: found.files_left_out,
    }
}

fn files(group: &Group) -> Files {
    Files {
        kind: group.kind.name().to_owned(),
        name: group.name.clone(),
        holders: by_holder(&group.holders, false),
        count: group.count,
        hidden: group.hidden,
        deleted: group.deleted,
        bytes: if group.deleted { group.bytes } else { 0 },
        state: group.state.map(str::to_owned),
        queue: group.queue.map(|(receive, send)| Queue { receive, send }),
        examples: group.fds.clone(),
        peer: group.peers.iter().map(peer).collect(),
        inherited: group.inherited,
        opened_by: group.opened_by,
        sites: Vec::new(),
        older: 0,
    }
}

pub(super) fn peer(peer: &Peer) -> PeerLine {
    PeerLine {
        end: peer.end.name().to_owned(),
        count: peer.count,
        closed: peer.closed,
        elsewhere: peer.elsewhere,
        processes: peer.processes.iter().map(sharer).collect(),
        left_out: peer.left_out,
    }
}

impl HandlesDocument {
    /// Handles of a name.
    #[must_use]
    pub fn new(asked: Asked, handles: Vec<HandleLine>, partial: Vec<String>) -> Self {
        let Asked { what, time, kernel } = asked;
        Self {
            schema: handle::SCHEMA.to_owned(),
            time,
            kernel,
            asked: what,
            handles,
            partial,
            ..Self::default()
        }
    }
}

impl HandleLine {
    /// From what was found; `threads` says what the threads of a process do.
    pub fn new(
        kept: &Kept,
        found: &Handle,
        count: Option<u64>,
        threads: &mut impl FnMut(u32) -> Vec<Thread>,
    ) -> Self {
        let mut line = Self {
            address: address(found.address),
            kind: found.kind.name().to_owned(),
            name: kept.name.clone(),
            inode: found.ino,
            access: ACCESS[(found.flags & 3) as usize].to_owned(),
            deleted: found.is_deleted(),
            hidden: !kept.references.iter().any(|found| matches!(found.by, By::Descriptor { .. })),
            count,
            found: kept.references.len() as u64,
            references: kept.references.iter().map(reference).collect(),
            peer: kept.peers.iter().map(peer).collect(),
            opened_by: kept.opened_by.as_ref().map(sharer),
            ..Self::default()
        };
        line.add_processes(kept, threads);
        line
    }

    fn add_processes(&mut self, kept: &Kept, threads: &mut impl FnMut(u32) -> Vec<Thread>) {
        for process in kept.references.iter().flat_map(|found| &found.processes) {
            if self.processes.iter().any(|known| known.pid == process.pid) {
                continue;
            }
            let found = threads(process.pid);
            let fds = self.fds_of(process.pid);
            let on_it = |thread: &&Thread| thread.call.and_then(Call::fd).is_some_and(|fd| fds.contains(&fd));
            // Where nobody shares the table, a system call needs no reference of its own.
            let calls = found.iter().filter(on_it).count();
            self.calls += if found.len() > 1 { calls as u64 } else { 0 };
            let thread = found.iter().find(on_it).or(found.first()).cloned().unwrap_or_default();
            self.processes.push(holder(process.pid, &process.comm, thread, calls > 0));
        }
    }

    fn fds_of(&self, pid: u32) -> Vec<u32> {
        let of_process = self.references.iter().filter(|found| found.pids.contains(&pid));
        of_process.filter_map(|found| found.fd).collect()
    }
}

fn address(address: u64) -> String {
    format!("0x{address:x}")
}

fn reference(found: &Reference) -> ReferenceLine {
    let line = ReferenceLine {
        holder: found.holder.name().to_owned(),
        pids: found.processes.iter().map(|process| process.pid).collect(),
        ..ReferenceLine::default()
    };
    match found.by {
        By::Descriptor { fd, close_on_exec } => ReferenceLine { fd: Some(fd), close_on_exec, ..line },
        By::Mapping { start, end } => ReferenceLine { range: Some([start, end].map(address)), ..line },
        By::Segment(shmid) => ReferenceLine { shmid: Some(shmid), ..line },
        By::Queue(through) | By::Ring(through) | By::Bpf(through) => {
            ReferenceLine { through: Some(address(through)), ..line }
        }
        By::RingOfTask | By::Program => line,
    }
}

fn holder(pid: u32, comm: &str, thread: Thread, on_it: bool) -> HolderLine {
    let call = thread.call.map(|call| call.name().map_or_else(|| call.number.to_string(), str::to_owned));
    HolderLine {
        pid,
        comm: comm.to_owned(),
        tid: thread.tid,
        state: thread.state,
        call,
        on_it,
        waits_in: thread.waits_in,
        kernel_stack: thread.stack,
    }
}
