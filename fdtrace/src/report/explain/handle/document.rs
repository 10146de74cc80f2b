//! The shape of the JSON: keys may be added, never renamed.

use serde::Serialize;

use super::super::document::{PeerLine, SharerLine, SiteLine, TraceLine, peer, sharer};
use crate::{
    explain::{By, Kept, Reference},
    holders::Handle,
    process::waits::{Call, Thread},
};

/// Name and version of the shape.
const SCHEMA: &str = "fdtrace.explain-handle/1";
/// How a file was opened (`O_ACCMODE`).
const ACCESS: [&str; 4] = ["read", "write", "read, write", ""];

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

/// Handles, and what keeps them alive.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Document {
    /// [`SCHEMA`]
    pub schema: &'static str,
    /// When the walk was taken, RFC 3339, UTC.
    pub time: String,
    /// The kernel's release.
    pub kernel: String,
    /// What was asked for.
    pub asked: String,
    /// The handles of this name.
    pub handles: Vec<HandleLine>,
    /// Handles of this name that are not shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// Why the walk is not whole.
    pub partial: Vec<String>,
    /// The trace that says who allocated what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceLine>,
}

/// A handle.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HandleLine {
    /// The kernel's address of it.
    pub address: String,
    /// What it is.
    pub kind: String,
    /// What it is called.
    pub name: String,
    /// The number of its inode.
    pub inode: u64,
    /// How it was opened: `read`, `write`, `read, write`.
    pub access: &'static str,
    /// Its file has no name any more.
    pub deleted: bool,
    /// No descriptor of any process points to it.
    pub hidden: bool,
    /// References as the kernel counts them; null where that cannot be read, or the handle has gone.
    pub count: Option<u64>,
    /// References that were found.
    pub found: u64,
    /// System calls on it that are in progress, and count as references.
    pub calls: u64,
    /// What refers to it.
    pub references: Vec<ReferenceLine>,
    /// The processes of these references, and what they do now.
    pub processes: Vec<HolderLine>,
    /// Who is at its other ends.
    pub peer: Vec<PeerLine>,
    /// The process that allocated it, as far as credentials tell.
    pub opened_by: Option<SharerLine>,
    /// Who allocated it and where, if a trace says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<SiteLine>,
    /// It is pre-existing.
    #[serde(skip_serializing_if = "is_zero")]
    pub older: u64,
}

/// A reference.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReferenceLine {
    /// What keeps it.
    pub holder: String,
    /// A descriptor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd: Option<u32>,
    /// Exec closes the descriptor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_on_exec: Option<bool>,
    /// Addresses of a mapping: the first, and the first behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[String; 2]>,
    /// A SysV segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shmid: Option<u32>,
    /// The handle of the socket or the ring that keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// Processes that have this reference.
    pub pids: Vec<u32>,
}

/// A process that has a reference, and what it does now: the thread that is in a system call on the handle, else the main
/// thread.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HolderLine {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The thread.
    pub tid: u32,
    /// Its state, as `ps` has it; empty where it is gone.
    pub state: String,
    /// The system call that it is in: its name, else its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The system call is about a descriptor of this handle.
    pub on_it: bool,
    /// The function of the kernel that it waits in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub waits_in: String,
    /// The kernel's stack, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernel_stack: Vec<String>,
}

impl Document {
    /// Handles of a name.
    #[must_use]
    pub fn new(asked: Asked, handles: Vec<HandleLine>, partial: Vec<String>) -> Self {
        let Asked { what, time, kernel } = asked;
        Self { schema: SCHEMA, time, kernel, asked: what, handles, partial, ..Self::default() }
    }
}

impl HandleLine {
    /// From what was found; `threads` says what the threads of a process do.
    pub fn new(
        kept: &Kept,
        handle: &Handle,
        count: Option<u64>,
        threads: &mut impl FnMut(u32) -> Vec<Thread>,
    ) -> Self {
        let mut line = Self {
            address: address(handle.address),
            kind: handle.kind.name().to_owned(),
            name: kept.name.clone(),
            inode: handle.ino,
            access: ACCESS[(handle.flags & 3) as usize],
            deleted: handle.is_deleted(),
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}
