//! The shape of the JSON that others read: keys may be added, never renamed. A key that a document does not have, because
//! an older fdtrace wrote it, reads as empty.

pub mod growth;
pub mod handle;

use std::collections::BTreeMap;

use growth::Growth;
use serde::{Deserialize, Serialize};

/// Name and version of the shape.
pub const SCHEMA: &str = "fdtrace.explain/1";

/// Where all handles are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    /// [`SCHEMA`]
    pub schema: String,
    /// When the walk was taken, RFC 3339, UTC.
    pub time: String,
    /// The same moment, in ns since the machine was started; 0 where that is not known.
    pub uptime_ns: u64,
    /// The process that took it.
    pub taken_by: u32,
    /// The kernel's release.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`: processes of two documents can be compared only when these are equal.
    pub boot_id: String,
    /// How long the walk took.
    pub duration_ns: u64,
    /// What was asked for, as options; empty for everything.
    pub focus: Vec<String>,
    /// What the kernel says; null where it says nothing.
    pub file_nr: Option<FileNr>,
    /// What was found.
    pub handles: Handles,
    /// What is left over.
    pub residual: Residual,
    /// Why the walk is not whole.
    pub partial: Vec<String>,
    /// The walks that were not done to their end: `processes`, `descriptors`, `shared memory segments`, `mappings`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<String>,
    /// Entries of all tables of descriptors, each table once.
    pub descriptors: u64,
    /// What lsof would count.
    pub lsof_view: LsofView,
    /// Hidden handles, those that are alike together, most first.
    pub hidden: Vec<Hidden>,
    /// Handles without a descriptor that file-nr does not count, likewise: files behind overlayfs that are only mapped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uncounted: Vec<Hidden>,
    /// Segments of SysV shared memory.
    pub segments: Vec<SegmentLine>,
    /// Handles of files that have no name any more.
    pub deleted: DeletedFiles,
    /// Objects in the kernel's own caches; null where they are not readable.
    pub slabs: Slabs,
    /// Processes, those with most handles first.
    pub processes: Vec<ProcessLine>,
    /// Processes by what they belong to (`--by`), those with most handles first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ProcessGroupLine>,
    /// `vm.max_map_count`: the most mappings that a process may have; 0 where it is not known.
    pub max_map_count: u64,
    /// `kernel.shmmni`: the most segments that an IPC namespace may have; 0 where it is not known.
    pub shmmni: u64,
    /// Limits that are not of descriptors, and how much of each is used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitLine>,
    /// Limits that are to be reported (`--alert`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Alarm>,
    /// What is new since another document (`--interval`, `--diff`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// The trace that says who allocated what (`--trace`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceLine>,
}

/// See [`Party`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessGroupLine {
    /// What makes a group: `process`, `cgroup` or `container`.
    pub by: String,
    /// A process (`name (id)`), the path of a cgroup (empty for processes that have ended meanwhile), the id of a container, or `mnt:[N]`, the mount namespace of
    /// processes whose cgroup names no container.
    pub name: String,
    /// Different handles that its processes hold.
    pub handles: u64,
    /// Entries of its tables, each table once.
    pub descriptors: u64,
    /// Of its handles, those without a descriptor anywhere.
    pub hidden: u64,
    /// Its handles, each under the first way in which the group holds it.
    pub by_holder: BTreeMap<String, u64>,
    /// How many processes there are in it.
    pub processes: u64,
    /// The process with most handles.
    pub largest: Option<SharerLine>,
}

/// A trace that was joined.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceLine {
    /// The file.
    pub file: String,
    /// When it began, RFC 3339, UTC.
    pub start: String,
    /// When its last event was.
    pub end: String,
    /// Handles whose allocation is in the trace.
    pub traced: u64,
    /// Handles that the trace found when it began: they are older than it.
    pub older: u64,
    /// Handles that the trace does not know; see `remarks`.
    pub unknown: u64,
    /// What cannot be said, and why.
    pub remarks: Vec<String>,
}

/// See [`crate::explain::FileNr`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileNr {
    /// Handles, at the end of the walk.
    pub allocated: u64,
    /// The least during the walk.
    pub min: u64,
    /// The most.
    pub max: u64,
    /// The range is that of the walk, not that of a number that may be wrong.
    pub exact: bool,
    /// `file-nr`, or `summed` where the kernel's counter was summed instead.
    pub source: String,
    /// `fs.file-max`
    pub limit: u64,
    /// `fs.nr_open`: the most descriptors that a process may have.
    pub nr_open: u64,
}

/// Sums over the system.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handles {
    /// All that were found.
    pub total: u64,
    /// Those that file-nr counts.
    pub accounted: u64,
    /// Those that it does not.
    pub unaccounted_by_file_nr: u64,
    /// Those without a descriptor that file-nr counts.
    pub hidden: u64,
    /// Each once, under its first holder.
    pub by_holder: BTreeMap<String, u64>,
    /// The same of those that file-nr does not count.
    pub unaccounted_by_holder: BTreeMap<String, u64>,
    /// Each once.
    pub by_kind: BTreeMap<String, u64>,
}

impl Handles {
    /// Those under a holder that file-nr counts.
    pub(crate) fn counted(&self, holder: &str) -> u64 {
        self.by_holder.get(holder).copied().unwrap_or(0).saturating_sub(self.uncounted(holder))
    }

    /// Those that it does not.
    pub(crate) fn uncounted(&self, holder: &str) -> u64 {
        self.unaccounted_by_holder.get(holder).copied().unwrap_or(0)
    }
}

/// See [`crate::explain::Residual`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Residual {
    /// At least; null where no number can be given.
    pub min: Option<i64>,
    /// At most.
    pub max: Option<i64>,
    /// Processes that could not be looked into.
    pub unreadable_processes: Vec<Unreadable>,
    /// What may hold the rest.
    pub reasons: Vec<String>,
}

/// A process that could not be looked into.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Unreadable {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its descriptors, if that much is reported.
    pub descriptors: Option<u64>,
}

/// What lsof would count.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LsofView {
    /// Entries of the processes' tables, as `/proc/PID/fd` shows them.
    pub descriptors: u64,
    /// Handles with descriptors that `/proc/PID/fd` does not show: the main threads of their processes have ended.
    #[serde(default)]
    pub behind_dead_threads: u64,
}

/// See [`HiddenGroup`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hidden {
    /// What hides them.
    pub holder: String,
    /// What they are.
    pub kind: String,
    /// What they are called.
    pub name: String,
    /// How many.
    pub count: u64,
    /// What the files take.
    pub bytes: u64,
    /// The files have no name any more.
    #[serde(skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// Mapped as code.
    #[serde(skip_serializing_if = "is_false")]
    pub code: bool,
    /// What every program has that runs: itself, libraries, and files that programs share.
    #[serde(skip_serializing_if = "is_false")]
    pub ordinary: bool,
    /// The segment that they belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shmid: Option<u32>,
    /// Who holds them, most first.
    pub processes: Vec<SharerLine>,
    /// Who allocated them and where, if a trace says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<SiteLine>,
    /// Those that are pre-existing.
    #[serde(skip_serializing_if = "is_zero")]
    pub older: u64,
}

/// A call site of a trace, and how many of a group's handles it allocated.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SiteLine {
    /// The site's id, as `report` has it.
    pub id: String,
    /// How many of them.
    pub count: u64,
    /// The stack in a line, innermost first.
    pub stack: String,
    /// The processes that allocated them.
    pub pids: Vec<u32>,
}

/// A process and its share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SharerLine {
    /// Its id.
    pub pid: u32,
    /// Its name; empty when it is gone.
    pub comm: String,
    /// Its handles of the group.
    pub count: u64,
}

/// See [`Segment`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SegmentLine {
    /// Its id.
    pub shmid: u32,
    /// Its key; 0 for a private one.
    pub key: u32,
    /// Who made it.
    pub creator: u32,
    /// How often it is attached.
    pub attaches: u64,
    /// Its size.
    pub bytes: u64,
    /// It goes with its last attach.
    pub removed: bool,
    /// The IPC namespace's number.
    pub ipc_namespace: u32,
}

/// See [`Deleted`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeletedFiles {
    /// How many handles.
    pub handles: u64,
    /// What the files take, each once.
    pub bytes: u64,
}

/// Objects in use in the kernel's own caches; null where `/proc/slabinfo` cannot be read.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Slabs {
    /// `struct file`
    pub filp: Option<u64>,
    /// Mappings.
    pub vm_area_struct: Option<u64>,
}

/// See [`Process`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessLine {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its program.
    pub exe: String,
    /// Its cgroup.
    pub cgroup: String,
    /// The user that it runs as; null where that is not known.
    pub user: Option<u32>,
    /// Its parent.
    pub parent: u32,
    /// When it was started, in ns since the machine was; 0 where that is not known. With the id it names one process.
    pub started_ns: u64,
    /// How many threads it has.
    pub threads: u64,
    /// Different handles that it holds.
    pub handles: u64,
    /// Entries of its tables.
    pub descriptors: u64,
    /// Of its handles, those without a descriptor anywhere.
    pub hidden: u64,
    /// Its limit.
    pub limit: Limit,
    /// Its handles, each under the first way in which it holds it.
    pub by_holder: BTreeMap<String, u64>,
    /// Its main thread has ended: lsof sees nothing of it.
    #[serde(skip_serializing_if = "is_false")]
    pub main_thread_is_gone: bool,
    /// What they are, most first.
    pub files: Vec<Files>,
    /// What `files` leaves out: groups, and handles that found none.
    pub files_left_out: u64,
}

/// A limit of descriptors.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limit {
    /// Soft; null for none.
    pub soft: Option<u64>,
    /// Hard; null for none.
    pub hard: Option<u64>,
    /// Entries of the process's fullest table.
    pub used: u64,
    /// How much of the soft one is used up.
    pub used_percent: f64,
}

/// See [`Group`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Files {
    /// What they are.
    pub kind: String,
    /// What they are called.
    pub name: String,
    /// References by which the process holds them.
    pub holders: BTreeMap<String, u64>,
    /// Handles.
    pub count: u64,
    /// Those without a descriptor anywhere.
    #[serde(skip_serializing_if = "is_zero")]
    pub hidden: u64,
    /// The files have no name any more.
    #[serde(skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// What the files take.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// The state of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What waits in a socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// A few descriptors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<u32>,
    /// Who is at their other ends, a line for each sort of end: pipes, connected sockets, pseudo terminals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peer: Vec<PeerLine>,
    /// Descriptors that came over exec unasked.
    #[serde(skip_serializing_if = "is_zero")]
    pub inherited: u64,
    /// Another process that allocated them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_by: Option<u32>,
    /// Who allocated them and where, if a trace says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<SiteLine>,
    /// Those that are pre-existing.
    #[serde(skip_serializing_if = "is_zero")]
    pub older: u64,
}

/// See [`Peer`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerLine {
    /// What the other end is: `write`, `read`, `socket`, `listener` (nobody has accepted the connection yet), `master`,
    /// `slave`.
    pub end: String,
    /// Handles that have such an end.
    pub count: u64,
    /// Those whose other end nobody has open any more.
    #[serde(skip_serializing_if = "is_zero")]
    pub closed: u64,
    /// Those whose other end another process than this one holds.
    #[serde(skip_serializing_if = "is_zero")]
    pub elsewhere: u64,
    /// Who has the other end, and of how many of the handles; this process too, if it has.
    pub processes: Vec<SharerLine>,
    /// Processes that are not named.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// What waits in a socket: bytes; of a listener connections, and how many may wait.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// To be read.
    pub receive: u64,
    /// To be sent.
    pub send: u64,
}

impl Document {
    /// Whether a walk was not done to its end.
    pub(crate) fn is_unfinished(&self, walk: &str) -> bool {
        self.unfinished.iter().any(|unfinished| unfinished == walk)
    }

    /// Whether a process took this document: that one, or the child that walked for it.
    #[must_use]
    pub const fn took(&self, process: &ProcessLine) -> bool {
        self.taken_by != 0 && (process.pid == self.taken_by || process.parent == self.taken_by)
    }
}

/// How much is used of a limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitLine {
    /// The setting that says how much may be.
    pub name: String,
    /// The user that it is for; null for the whole machine.
    pub user: Option<u32>,
    /// The cgroup that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// How much is used.
    pub used: u64,
    /// How much may be.
    pub limit: u64,
    /// The same, in percent.
    pub used_percent: f64,
    /// Who has most of it.
    pub processes: Vec<SharerLine>,
}

/// A limit that is to be reported.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Alarm {
    /// The limit.
    pub limit: String,
    /// Whose it is; null for a user's, a cgroup's and the machine's.
    pub pid: Option<u32>,
    /// What is used of it, in percent.
    pub percent: f64,
    /// When it is reached; null where that was not asked for.
    pub seconds_left: Option<f64>,
    /// The same in words.
    pub sentence: String,
}

impl Alarm {
    /// What it is about, as long as it lasts.
    #[must_use]
    pub fn subject(&self) -> (String, Option<u32>) {
        (self.limit.clone(), self.pid)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}
