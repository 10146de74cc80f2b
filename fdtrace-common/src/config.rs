//! What the loader decides before the programs are verified.
//!
//! One read-only global of the BPF object. The verifier knows its value, so a branch on it that is not taken costs
//! nothing, and a kernel that does not know a helper never sees the call to it. Where fields lie comes the same way
//! ([`crate::fields`]).

use core::mem::size_of;

use crate::wire::COMM_LEN;

/// A half-open range of kernel text.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
}

/// `__USER_CS` of x86: what `pt_regs.cs` is in 64-bit code.
pub const CODE_SEGMENT_64: u16 = 0x33;

/// `Config::emit`: every allocation and release goes through the ring.
pub const EMIT_STREAM: u8 = 0;
/// `Config::emit`: a handle that its own process closes before `min_age_ns` never leaves the kernel.
pub const EMIT_MIN_AGE: u8 = 1;
/// `Config::emit`: nothing of handles leaves the kernel. For measuring what the ring costs.
pub const EMIT_NOTHING: u8 = 2;

/// `Config::stacks`: none.
pub const STACKS_OFF: u8 = 0;
/// `Config::stacks`: user stacks only.
pub const STACKS_USER: u8 = 1;
/// `Config::stacks`: user and kernel stacks.
pub const STACKS_BOTH: u8 = 2;

/// `Config::unwind`: user stacks by frame pointers.
pub const UNWIND_FRAME_POINTERS: u8 = 0;
/// `Config::unwind`: user stacks by the programs' unwind tables.
pub const UNWIND_TABLES: u8 = 1;
/// `Config::unwind`: no user stacks.
pub const UNWIND_OFF: u8 = 2;

/// Everything that the loader tells the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Return addresses of slab allocations that make a handle (tracepoint backend); unused ones are empty.
    pub slab_callers: [Range; 4],
    /// Min-age filter: the age under which a closed handle is only counted, in ns.
    pub min_age_ns: u64,
    /// Only tasks below this cgroup v2 (its id), 0 for no filter.
    pub cgroup: u64,
    /// From `task_struct.stack` to the user's `pt_regs`, where `bpf_task_pt_regs` does not exist; 0 for unknown.
    pub regs_offset: u64,
    /// Bits of `task_struct.flags` that mean "not a user's thread" on this kernel.
    pub kernel_task_flags: u32,
    /// `file.f_mode` bits that keep a file out of file-nr on this kernel.
    pub unaccounted_modes: u32,
    /// Process id of the tracer.
    pub tracer: u32,
    /// Only tasks of this uid, if `filter_uid`.
    pub uid: u32,
    /// Depth of `cgroup` below the root.
    pub cgroup_level: u32,
    /// Number of the PID namespace whose process ids are meant; 0 for the first one.
    pub pid_namespace: u32,
    /// Ring bytes that wait to be read before the reader is woken.
    pub wakeup_bytes: u32,
    /// Buckets of the table of handles ([`crate::handle_slots`]); 0 where BPF has no atomic exchanges.
    pub handle_buckets: u32,
    /// Numbers of the system calls that the programs distinguish.
    pub syscalls: Syscalls,
    /// Only tasks of this name, if its first byte is not 0.
    pub comm: [u8; COMM_LEN],
    /// [`EMIT_STREAM`], [`EMIT_MIN_AGE`] or [`EMIT_NOTHING`].
    pub emit: u8,
    /// [`STACKS_OFF`], [`STACKS_USER`] or [`STACKS_BOTH`].
    pub stacks: u8,
    /// Only processes in the TREE map.
    pub filter_tree: u8,
    /// A child of a process in the TREE map is added to it.
    pub follow: u8,
    /// `uid` is a filter.
    pub filter_uid: u8,
    /// The kernel has `bpf_get_current_task_btf` (5.11).
    pub has_task_btf: u8,
    /// The kernel has `bpf_task_pt_regs` (5.15).
    pub has_task_regs: u8,
    /// `sched_process_exit` says whether the whole group is dead (6.16).
    pub exit_tells_group: u8,
    /// `kmem_cache_free` names its cache (6.1).
    pub free_names_cache: u8,
    /// Slab frees run after a grace period, in a bystander (before `file_free_rcu` was removed).
    pub free_is_late: u8,
    /// `file_count` is a `file_ref_t`, which counts from 0 (6.13).
    pub count_from_zero: u8,
    /// A release can be skipped: the kernel preempts programs, or frees handles in interrupts.
    pub releases_can_be_missed: u8,
    /// The handle of an attach of a SysV segment is remembered until the system call returns (tracepoint backend).
    pub note_attach: u8,
    /// [`UNWIND_FRAME_POINTERS`], [`UNWIND_TABLES`] or [`UNWIND_OFF`].
    pub unwind: u8,
    /// A dump tells of the code that its stack points into: verifiers before 6.1 take minutes to see that it may.
    pub dump_code: u8,
    /// What is open when a program ends includes the descriptors that it acquired.
    pub acquired: u8,
    /// Who closes a handle is reported, where that may decide something.
    pub closers: u8,
    /// Work that one thread submits and another one does is followed back.
    pub submitters: u8,
    /// A stack that is found again without a walk is walked all the same, and what differs is counted. For tests.
    pub compare_stacks: u8,
    /// Zero: it makes the size a multiple of eight.
    pub reserved: [u8; 5],
}

/// System call numbers that matter, by architecture.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syscalls {
    /// `open`; -1 where there is none.
    pub open: i32,
    /// `openat`
    pub openat: i32,
    /// `ioctl`
    pub ioctl: i32,
    /// `bpf`
    pub bpf: i32,
    /// `execve`
    pub execve: i32,
    /// `execveat`
    pub execveat: i32,
    /// `io_uring_enter`
    pub io_uring_enter: i32,
    /// `mmap`
    pub mmap: i32,
    /// `shmat`
    pub shmat: i32,
    /// `exit`
    pub exit: i32,
    /// `exit_group`
    pub exit_group: i32,
    /// `dup`
    pub dup: i32,
    /// `dup2`; -1 where there is none.
    pub dup2: i32,
    /// `dup3`
    pub dup3: i32,
    /// `fcntl`
    pub fcntl: i32,
    /// `recvmsg`
    pub recvmsg: i32,
    /// `recvmmsg`
    pub recvmmsg: i32,
    /// `pidfd_getfd`
    pub pidfd_getfd: i32,
    /// `close`
    pub close: i32,
    /// `close_range`
    pub close_range: i32,
}

// No padding: the loader hands the programs this structure as bytes.
const _: () = assert!(
    size_of::<Config>() == 4 * size_of::<Range>() + 3 * 8 + 8 * 4 + size_of::<Syscalls>() + COMM_LEN + 24
);
