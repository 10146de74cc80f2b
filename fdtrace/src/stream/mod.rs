//! The event stream: what happened, and what was found out about it, as values.
//!
//! [`decode()`] is the only way from the ring's bytes to events, so every length and every tag is checked there. What
//! the kernel's events cannot say (names, programs, functions) is found out beside the stream and put into it as
//! [`Fact`]s. Whoever has the stream has everything: a view of it needs no kernel, live or years later.

mod decode;
mod facts;
mod scripts;

pub use decode::{Malformed, Record, What, acquisition, decode, entry_call};
pub use facts::{Described, Existing, Fact, FdLookup, ImageKey, Site, Stats, UserStack};
pub use fdtrace_common::wire::{Cause, Moment, Side};
pub use scripts::ScriptCalls;

pub use crate::runtimes::{CodeObject, RawText};

use fdtrace_common::{
    hash,
    unwind::{Registers, SUBMISSION, end},
    wire::CodeMapping,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A handle was allocated.
    Alloc(Alloc),
    /// A descriptor was installed for a handle that was there before.
    Acquired(Acquired),
    /// There was no descriptor left for a handle that was there before; told now and then only. It has no handle.
    Refused(Alloc),
    /// A handle was released; or a descriptor that was acquired was closed.
    Release(Release),
    /// It is reported who closed what a thread has just closed.
    ClosedBy(ClosedBy),
    /// A stack that later events name by its hash.
    Stack(Stack),
    /// A handle was mapped into memory.
    Mapped(Mapped),
    /// A process was made.
    Fork {
        /// When, `CLOCK_MONOTONIC` in ns; the child's image begins then.
        time: u64,
        /// The parent.
        parent: u32,
        /// The child.
        child: u32,
        /// The child has the parent's table of descriptors, and not a copy.
        shares: bool,
        /// The child's name.
        comm: Name,
    },
    /// A process began to run another program.
    Exec {
        /// When, `CLOCK_MONOTONIC` in ns; the new image begins then.
        time: u64,
        /// The process.
        tgid: u32,
        /// Its new name.
        comm: Name,
        /// The path as it was given to `execve`; empty when it could not be read.
        path: Vec<u8>,
    },
    /// A process ended; its handles are released after this.
    Exit {
        /// When, `CLOCK_MONOTONIC` in ns.
        time: u64,
        /// The process.
        tgid: u32,
        /// How.
        how: Leaving,
    },
    /// A thread ends that did not end itself. May come after the exit of its process.
    Cut(Cut),
    /// A descriptor is open when its program ends; comes before the exit or exec that ends it.
    Open(Open),
    /// An allocation failed, or there was no descriptor for it.
    Failure(AllocError),
    /// Events were lost before this one.
    Gap {
        /// When that was noticed, `CLOCK_MONOTONIC` in ns.
        time: u64,
        /// How many.
        events: u64,
    },
    /// The kernel's table has a handle whose allocation was not seen.
    FoundLive(Alloc),
    /// The kernel's table has no longer a handle whose release was not seen.
    FoundGone {
        /// When that was noticed, `CLOCK_MONOTONIC` in ns.
        time: u64,
        /// Its address.
        handle: u64,
        /// Its generation.
        generation: u64,
    },
    /// Handles that came and went without an event of their own, as the min-age filter has it.
    ShortLived(ShortLived),
    /// Something that was found out beside the stream.
    Fact(Box<Fact>),
    /// Somebody looked: the moment, and what the kernel side had counted by then.
    Sample(Box<Stats>),
}

impl Event {
    /// When it happened, `CLOCK_MONOTONIC` in ns; `None` for what has no moment of its own.
    #[must_use]
    pub const fn time(&self) -> Option<u64> {
        match self {
            Self::Alloc(alloc) | Self::Acquired(Acquired { alloc, .. }) | Self::Refused(alloc) => {
                Some(alloc.generation)
            }
            Self::Release(release) => Some(release.time),
            Self::ClosedBy(closed_by) => Some(closed_by.time),
            Self::Mapped(mapped) => Some(mapped.time),
            Self::Open(open) => Some(open.time),
            Self::Cut(cut) => Some(cut.time),
            Self::Failure(failure) => Some(failure.time),
            Self::Sample(stats) => Some(stats.time),
            Self::Fork { time, .. }
            | Self::Exec { time, .. }
            | Self::Exit { time, .. }
            | Self::Gap { time, .. }
            | Self::FoundGone { time, .. } => Some(*time),
            Self::Stack(_) | Self::FoundLive(_) | Self::ShortLived(_) | Self::Fact(_) => None,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// The signal that killed it; 0 for none.
    pub signal: u8,
    /// The status that it exited with.
    pub status: u8,
    /// Its soft limit of descriptors; 0 when nobody knows.
    pub limit: u64,
}

/// A descriptor that is open when its program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Its generation.
    pub generation: u64,
    /// When, `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// The process.
    pub tgid: u32,
    /// The descriptor.
    pub fd: u32,
    /// At its exit; or at an exec, which closes this descriptor.
    pub moment: Moment,
    /// It has the close-on-exec flag.
    pub close_on_exec: bool,
    /// State of a socket (`TCP_*`); 0 for what is none.
    pub socket_state: u8,
    /// A regular file that no directory has an entry for.
    pub deleted: bool,
    /// It was not the process that ended, but this thread, which had a table of its own.
    pub of_thread: Option<u32>,
    /// How long a socket has been in CLOSE_WAIT, in ms; `u32::MAX` when nobody saw that begin, 0 for what is not.
    pub waiting: u32,
}

/// A thread that is cut off: another one ended the process, or a signal killed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// When it ends, `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// The thread.
    pub tid: u32,
    /// When it began.
    pub began: u64,
    /// The system call that it was in.
    pub syscall: Option<u16>,
}

/// Something that could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError {
    /// When, `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// The process that got the error.
    pub tgid: u32,
    /// The error number, positive.
    pub errno: i32,
    /// How often: from the ring, so far; in the stream, since the last event of this process and error.
    pub times: u32,
    /// The process's soft limit of descriptors; 0 when nobody knows.
    pub limit: u64,
}

/// Short lives that were only counted: made, and closed by the process that made them before they were old enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShortLived {
    /// The site that made them; `None` when it cannot be reported.
    pub site: Option<u64>,
    /// How many, since the last event of this kind for that site.
    pub handles: u64,
    /// Of those, the ones that no open completed.
    pub never_opened: u64,
}

/// A handle was mapped into memory: that keeps it alive after its descriptors are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Its generation.
    pub generation: u64,
    /// When, `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// Who mapped it.
    pub tgid: u32,
    /// Which of its threads.
    pub tid: u32,
    /// Where in the process's memory; 0 when the kernel had not decided yet.
    pub address: u64,
    /// How many bytes.
    pub length: u64,
    /// Kernel address of the handle's inode, the same for all handles of one file that live at once; 0 when nobody knows.
    pub inode: u64,
    /// From where, and by what call.
    pub call: Call,
}

/// A handle was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alloc {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// `CLOCK_MONOTONIC` in ns; with the address, the handle's identity.
    pub generation: u64,
    /// Who allocated it.
    pub tgid: u32,
    /// Which of its threads.
    pub tid: u32,
    /// From where, and by what call.
    pub call: Call,
}

/// A descriptor was installed for a handle that was there before: by `dup` and its kin, or received.
///
/// It lives as a handle does, from here to its [`Release`]; where a handle has its address, it has a
/// [`key`](fdtrace_common::descriptor::key).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// Who installed it, when and how.
    pub alloc: Alloc,
    /// Kernel address of the handle that it points to.
    pub of: u64,
}

/// A thread has closed handles. Of those that are closed right after they were made nobody is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedBy {
    /// From when on, `CLOCK_MONOTONIC` in ns.
    pub since: u64,
    /// Until when.
    pub time: u64,
    /// Its process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// From where.
    pub call: Call,
}

/// From where and by what system call a handle was allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Call {
    /// Name of the user stack; 0 for none.
    pub user_stack: u64,
    /// Name of the kernel stack; 0 for none.
    pub kernel_stack: u64,
    /// The open flags, or the command of ioctl and bpf.
    pub detail: u32,
    /// The system call's number; `None` outside of one.
    pub syscall: Option<u16>,
    /// A kernel thread, a worker or an io_uring worker made the call.
    pub kernel_task: bool,
    /// It made no handle, but a descriptor for one that was there before.
    pub acquired: bool,
}

impl Call {
    /// Whether it is the system call with this number.
    pub(crate) fn is(&self, syscall: libc::c_long) -> bool {
        self.syscall.is_some_and(|known| libc::c_long::from(known) == syscall)
    }
}

/// A handle was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Its generation.
    pub generation: u64,
    /// When, `CLOCK_MONOTONIC` in ns.
    pub time: u64,
    /// Who dropped the last reference.
    pub tgid: u32,
    /// Why.
    pub cause: Cause,
    /// No open ever completed on it.
    pub never_opened: bool,
    /// It never counted in file-nr.
    pub unaccounted: bool,
}

/// A stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its name.
    pub hash: u64,
    /// Which half.
    pub side: Side,
    /// The process in whose address space it was taken.
    pub tgid: u32,
    /// Frames of [`Side::words`] words each, innermost first: return addresses, or places.
    pub frames: Box<[u64]>,
    /// It reaches the function that a thread or a process begins with. Only stacks of places say so.
    pub complete: bool,
    /// Name of the stack that submitted what this one works on, 0 for none.
    pub submitter: u64,
}

impl Stack {
    /// The name that its frames give it; that of a stack which user space has completed is another.
    #[must_use]
    pub fn name(&self) -> u64 {
        let name = match self.side {
            Side::User | Side::Kernel => hash::stack(&self.frames),
            Side::Code => hash::places(&self.frames, if self.complete { end::COMPLETE } else { end::CUT }),
        };
        if self.submitter == 0 { name } else { hash::submitted(name, self.submitter) }
    }

    /// With the frames of the stack that submitted its work, behind a [`SUBMISSION`].
    #[must_use]
    pub fn submitted_by(&self, submitter: &Self) -> Self {
        let frames = [&self.frames, &[SUBMISSION, 0][..], &submitter.frames].concat();
        Self { frames: frames.into(), complete: submitter.complete, ..self.clone() }
    }
}

/// Stack memory for user space to complete a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackDump {
    /// The stack's name.
    pub hash: u64,
    /// The process whose stack it is.
    pub tgid: u32,
    /// The instruction pointer is an instruction's, not a return address.
    pub exact: bool,
    /// Name of the address space.
    pub space: u64,
    /// The module of the frame that has no rule; 0 when the kernel side could not tell.
    pub module: u64,
    /// Offset of that frame in the module's file.
    pub offset: u64,
    /// That frame's registers.
    pub registers: Registers,
    /// Code of the process that the stack points into, as far as the kernel side had room for it.
    pub code: Box<[CodeMapping]>,
    /// Memory from its stack pointer on.
    pub stack: Box<[u8]>,
}

/// A task's name: up to 15 bytes that anybody may choose.
pub type Name = [u8; fdtrace_common::wire::COMM_LEN];

/// A task's name as text, without the zeros at its end.
#[must_use]
pub fn name_text(name: &Name) -> String {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}
