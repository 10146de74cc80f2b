//! The shape of the JSON: keys may be added, never renamed.

use serde::{Deserialize, Serialize};

use super::{PeerLine, SharerLine, SiteLine, TraceLine, is_zero};

/// Name and version of the shape.
pub const SCHEMA: &str = "fdtrace.explain-handle/1";

/// Handles, and what keeps them alive.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    /// [`SCHEMA`]
    pub schema: String,
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
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
    pub access: String,
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
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
