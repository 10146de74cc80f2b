//! Records that travel through the ring buffer, and the entry of the kernel's own handle table.
//!
//! Every record begins with a [`Tag`] byte. All numbers are in host byte order: the ring buffer never leaves the machine.

use core::mem::{offset_of, size_of};

use crate::unwind::Registers;

/// The most frames of one stack; `kernel.perf_event_max_stack` allows no more by default.
pub const MAX_FRAMES: usize = 127;

/// The longest task name, with its terminating zero (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// The longest executable path that an [`Exec`] carries; a longer one is cut.
pub const PATH_LEN: usize = 256;

/// What a record is; its first byte.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// [`Alloc`]
    Alloc = 1,
    /// [`Release`]
    Release = 2,
    /// [`StackHeader`], followed by the frames
    Stack = 3,
    /// [`Fork`]
    Fork = 4,
    /// [`Exec`]
    Exec = 5,
    /// [`Exit`]
    Exit = 6,
    /// [`Failure`]
    Failure = 7,
    /// [`Mapped`]
    Mapped = 8,
    /// [`StackDump`], followed by stack memory
    StackDump = 9,
    /// [`Open`]
    Open = 10,
    /// [`OpenWhat`]
    OpenWhat = 11,
    /// [`Cut`]
    Cut = 12,
    /// [`crate::descriptor::Acquired`]
    Acquired = 13,
    /// [`crate::scripts::Calls`], followed by the calls
    Calls = 14,
    /// [`crate::scripts::Code`]
    Code = 15,
}

/// `Alloc::syscall` and `Entry::syscall` outside a system call.
pub const NO_SYSCALL: i16 = -1;

/// `Entry::generation` of a handle that is pre-existing: no clock says 1 when a process can run.
pub const PREEXISTING: u64 = 1;

/// A handle was allocated. Reserved in the ring before anyone but the allocator has the pointer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alloc {
    /// [`Tag::Alloc`]
    pub tag: u8,
    /// [`flag`] bits.
    pub flags: u8,
    /// Number of the system call in progress, or [`NO_SYSCALL`].
    pub syscall: i16,
    /// Thread that allocated it.
    pub tid: u32,
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Time of the allocation, `CLOCK_MONOTONIC` in ns.
    pub generation: u64,
    /// Name of the user stack ([`crate::hash::stack`]), 0 for none.
    pub user_stack: u64,
    /// Name of the kernel stack, 0 for none.
    pub kernel_stack: u64,
    /// Process that allocated it.
    pub tgid: u32,
    /// What distinguishes calls of one system call: open flags, or the command of ioctl and bpf.
    pub detail: u32,
}

/// Bits of `Alloc::flags` and `Release::flags`.
pub mod flag {
    /// Released without ever having been opened: FMODE_OPENED was not set, or the call that made it failed.
    pub const NEVER_OPENED: u8 = 1;
    /// Does not count in file-nr: FMODE_NOACCOUNT or FMODE_BACKING was set.
    pub const UNACCOUNTED: u8 = 2;
    /// The task was a kernel thread, a worker, or an io_uring worker.
    pub const KERNEL_TASK: u8 = 4;
}

/// Why the last reference to a handle went away, as far as the releasing task tells.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Freed after an RCU grace period by a bystander.
    #[default]
    Unknown = 0,
    /// The allocating process let go of it.
    Close = 1,
    /// The releasing task is in `execve`.
    Exec = 2,
    /// The releasing task is exiting.
    Exit = 3,
    /// A kernel thread, a worker or an io worker.
    Kernel = 4,
    /// Another process than the one that allocated it.
    OtherProcess = 5,
    /// The tracer itself.
    Tracer = 6,
}

/// How many causes there are.
pub const CAUSES: usize = 7;

impl Cause {
    /// The cause with this number on the wire.
    #[must_use]
    pub const fn from_wire(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Unknown,
            1 => Self::Close,
            2 => Self::Exec,
            3 => Self::Exit,
            4 => Self::Kernel,
            5 => Self::OtherProcess,
            6 => Self::Tracer,
            _ => return None,
        })
    }

    /// The word for it in help, JSON and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Close => "close",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Kernel => "kernel",
            Self::OtherProcess => "other_process",
            Self::Tracer => "tracer",
        }
    }
}

/// A handle's last reference went away. Submitted after it left HANDLES.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// [`Tag::Release`]
    pub tag: u8,
    /// [`Cause`] by number.
    pub cause: u8,
    /// [`flag`] bits.
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
    /// Process that released it.
    pub tgid: u32,
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Generation of the handle: when it was allocated.
    pub generation: u64,
    /// When it was released, `CLOCK_MONOTONIC` in ns.
    pub time: u64,
}

/// A handle was mapped into memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// [`Tag::Mapped`]
    pub tag: u8,
    /// [`flag`] bits.
    pub flags: u8,
    /// Number of the system call in progress, or [`NO_SYSCALL`].
    pub syscall: i16,
    /// Thread that mapped it.
    pub tid: u32,
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Generation of the handle: when it was allocated.
    pub generation: u64,
    /// Name of the user stack ([`crate::hash::stack`]), 0 for none.
    pub user_stack: u64,
    /// Where in the process's memory.
    pub address: u64,
    /// How many bytes.
    pub length: u64,
    /// When, `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// Process that mapped it.
    pub tgid: u32,
    /// The protection that `mmap` was asked for (`PROT_*`); 0 for other system calls.
    pub detail: u32,
    /// Kernel address of the handle's inode: handles of one file that live at once have the same.
    pub inode: u64,
}

/// Which half of a stack a stack record holds.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Return addresses in the process.
    User = 0,
    /// Return addresses in the kernel.
    Kernel = 1,
    /// Places in the process's code: a module ([`crate::unwind::Code`]) and an offset each.
    Code = 2,
}

impl Side {
    /// How many words a frame has.
    #[must_use]
    pub const fn words(self) -> usize {
        match self {
            Self::User | Self::Kernel => 1,
            Self::Code => 2,
        }
    }
}

/// A stack, sent once per name; `frames` frames of [`Side::words`] words follow, innermost first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackHeader {
    /// [`Tag::Stack`]
    pub tag: u8,
    /// [`Side`] by number.
    pub side: u8,
    /// How many frames follow, at most [`MAX_FRAMES`].
    pub frames: u16,
    /// Process in whose address space a user stack was taken.
    pub tgid: u32,
    /// Name of the stack.
    pub hash: u64,
    /// How it ended ([`crate::unwind::end`]); places only.
    pub end: u8,
    /// 1 when calls of scripts are in its name ([`crate::scripts::Calls`]).
    pub has_calls: u8,
    /// Zero.
    pub reserved: [u8; 6],
    /// Name of the stack that submitted what this one works on, 0 for none. It is part of this one's name.
    pub submitter: u64,
}

/// Stack memory from the first frame on that the kernel side has no rule for; `bytes` bytes of it follow. The frames
/// before came as a stack of the same name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackDump {
    /// [`Tag::StackDump`]
    pub tag: u8,
    /// The instruction pointer is an instruction's, not a return address.
    pub exact: u8,
    /// Zero.
    pub reserved: u16,
    /// Process in whose address space the stack is.
    pub tgid: u32,
    /// Name of the stack.
    pub hash: u64,
    /// Name of the address space, for [`crate::unwind::place_key`].
    pub space: u64,
    /// The module of the frame, [`crate::unwind::ANONYMOUS`] when the kernel side could not tell.
    pub module: u64,
    /// Offset of the frame in the module's file.
    pub offset: u64,
    /// The frame's registers; the memory begins at its stack pointer.
    pub registers: Registers,
    /// How many bytes of memory follow.
    pub bytes: u32,
    /// Zero.
    pub reserved2: u32,
    /// Where the process has code that words of that memory point into, as far as there was room: the process may be gone
    /// before anybody looks. Empty ones are all zeros.
    pub code: [CodeMapping; DUMP_MAPPINGS],
}

/// A part of a file that a process has mapped as code.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeMapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Offset in the file.
    pub offset: u64,
    /// The file ([`crate::unwind::module_key`]).
    pub module: u64,
}

/// How many mappings a [`StackDump`] can tell of, the same one more than once. A power of two.
pub const DUMP_MAPPINGS: usize = 32;

/// The most stack memory that a [`StackDump`] brings.
pub const DUMP_BYTES: usize = 16 << 10;

/// A process was made (not a thread).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fork {
    /// [`Tag::Fork`]
    pub tag: u8,
    /// 1 when the child has the parent's table of descriptors, and not a copy (CLONE_FILES).
    pub shares: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// The parent.
    pub parent: u32,
    /// The child.
    pub child: u32,
    /// Zero.
    pub reserved2: u32,
    /// `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// The child's name.
    pub comm: [u8; COMM_LEN],
}

/// A process began to run another program.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec {
    /// [`Tag::Exec`]
    pub tag: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// The process.
    pub tgid: u32,
    /// `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// Its new name.
    pub comm: [u8; COMM_LEN],
    /// The path as it was given to `execve`, zero-terminated.
    pub path: [u8; PATH_LEN],
}

/// The last thread of a process is exiting; its descriptors are not released yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// [`Tag::Exit`]
    pub tag: u8,
    /// The signal that killed it; 0 for none.
    pub signal: u8,
    /// The status that it exits with.
    pub status: u8,
    /// Zero.
    pub reserved: u8,
    /// The process.
    pub tgid: u32,
    /// `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// Its soft limit of descriptors; 0 when it could not be read.
    pub limit: u64,
}

/// When a descriptor was found to be open.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// A table of descriptors goes away with the last task that uses it.
    Exit = 0,
    /// A process is about to run another program, and closes this descriptor because it has the close-on-exec flag.
    Exec = 1,
}

/// A descriptor that is open when its program ends. Comes before the [`Exit`] or [`Exec`] of that process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// [`Tag::Open`]
    pub tag: u8,
    /// [`Moment`] by number.
    pub moment: u8,
    /// 1 when it has the close-on-exec flag.
    pub close_on_exec: u8,
    /// State of a socket (`TCP_*`); 0 for what is none.
    pub socket_state: u8,
    /// The process.
    pub tgid: u32,
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Generation of the handle.
    pub generation: u64,
    /// `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// The descriptor.
    pub fd: u32,
    /// 1 for a regular file that no directory has an entry for (its link count is 0).
    pub deleted: u8,
    /// 1 when it is not the process that ends: a thread had a table of its own.
    pub of_thread: u8,
    /// Zero.
    pub reserved: u16,
    /// The thread.
    pub tid: u32,
    /// For a socket in CLOSE_WAIT: how long it has been so, in ms; `u32::MAX` when nobody saw that begin.
    pub waiting: u32,
}

/// A thread ends that did not end itself: another one ended the process, or a signal killed it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// [`Tag::Cut`]
    pub tag: u8,
    /// Zero.
    pub reserved: u8,
    /// Number of the system call that it was in, or [`NO_SYSCALL`].
    pub syscall: i16,
    /// The thread.
    pub tid: u32,
    /// When the thread began, `CLOCK_MONOTONIC` in ns.
    pub began: u64,
    /// When it ends.
    pub time: u64,
}

/// What the handle of the [`Open`] before is: said of the first few of each stack, while it can be said.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenWhat {
    /// [`Tag::OpenWhat`]
    pub tag: u8,
    /// 1 when the file's entry is in no directory any more, or never was in one.
    pub deleted: u8,
    /// How `path` ended: 1 at the root of the mounts, 0 at the root of a file system that is nowhere mounted, 2 for want of
    /// room.
    pub path_end: u8,
    /// Zero.
    pub reserved: u8,
    /// The descriptor.
    pub fd: u32,
    /// The process.
    pub tgid: u32,
    /// Bytes of `path`.
    pub path_bytes: u32,
    /// What it is.
    pub description: crate::description::Description,
    /// The names of the directory entries from the file's own to the root, a zero behind each.
    pub path: [u8; OPEN_PATH_LEN],
}

/// The most bytes of names that an [`OpenWhat`] has. A power of two.
pub const OPEN_PATH_LEN: usize = 256;

/// An allocation failed, so there is no handle; or there was no descriptor for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// [`Tag::Failure`]
    pub tag: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// The process that got the error.
    pub tgid: u32,
    /// The error number, positive (ENFILE is 23, EMFILE is 24).
    pub errno: i32,
    /// How many of this error the process has got so far; again from 1 when it has become another program.
    pub times: u32,
    /// `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// The process's soft limit of descriptors; 0 when it could not be read.
    pub limit: u64,
    /// The name of the task.
    pub comm: [u8; COMM_LEN],
}

/// Value of the HANDLES map: what the kernel knows of a live handle, by its address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// As in [`Alloc`].
    pub generation: u64,
    /// As in [`Alloc`].
    pub user_stack: u64,
    /// As in [`Alloc`].
    pub kernel_stack: u64,
    /// As in [`Alloc`].
    pub tgid: u32,
    /// As in [`Alloc`].
    pub tid: u32,
    /// As in [`Alloc`].
    pub detail: u32,
    /// As in [`Alloc`].
    pub syscall: i16,
    /// As in [`Alloc`].
    pub flags: u8,
    /// [`state`] bits, set later than the allocation.
    pub state: u8,
}

/// Bits of `Entry::state`.
pub mod state {
    /// What the handle is has been told to user space.
    pub const DESCRIBED: u8 = 1;
    /// It was mapped into memory since. The bits have two writers on two CPUs and no lock, so that one of them can
    /// take another's back; what must not be missed is in the ring.
    pub const MAPPED: u8 = 2;
    /// Its user stack has a name of its own, since user space has to complete it.
    pub const ASKED: u8 = 4;
}

// Layout: both sides are little-endian 64-bit, but one wrong field order would be a wrong answer, not a crash.
const _: () = {
    assert!(size_of::<Alloc>() == 48 && offset_of!(Alloc, handle) == 8 && offset_of!(Alloc, detail) == 44);
    assert!(size_of::<Mapped>() == 72 && offset_of!(Mapped, handle) == 8 && offset_of!(Mapped, detail) == 60);
    assert!(size_of::<Release>() == 32 && offset_of!(Release, tgid) == 4 && offset_of!(Release, time) == 24);
    assert!(size_of::<StackHeader>() == 32 && offset_of!(StackHeader, hash) == 8);
    assert!(size_of::<StackDump>() == 72 + 32 * DUMP_MAPPINGS && offset_of!(StackDump, bytes) == 64);
    assert!(size_of::<Fork>() == 40 && offset_of!(Fork, time) == 16);
    assert!(size_of::<Exec>() == 32 + PATH_LEN && offset_of!(Exec, comm) == 16);
    assert!(size_of::<Exit>() == 24 && offset_of!(Exit, time) == 8);
    assert!(size_of::<Failure>() == 48 && offset_of!(Failure, time) == 16);
    assert!(size_of::<Open>() == 48 && offset_of!(Open, fd) == 32);
    assert!(size_of::<Cut>() == 24 && offset_of!(Cut, began) == 8);
    assert!(size_of::<OpenWhat>() == 16 + size_of::<crate::description::Description>() + OPEN_PATH_LEN);
    assert!(size_of::<Entry>() == 40 && offset_of!(Entry, state) == 39);
};
