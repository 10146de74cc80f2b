//! The event stream: what the kernel side says, as values.
//!
//! [`decode()`] is the only way from bytes to events, so every length and every tag is checked there. Nothing behind it
//! knows a kernel.

mod decode;

pub use decode::{Malformed, decode, entry_call};
pub use fdtrace_common::wire::{Cause, Side};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A handle was allocated.
    Alloc(Alloc),
    /// A handle was released.
    Release(Release),
    /// A stack that later events name by its hash.
    Stack(Stack),
    /// A process was made.
    Fork {
        /// The parent.
        parent: u32,
        /// The child.
        child: u32,
        /// The child's name.
        comm: Name,
    },
    /// A process began to run another program.
    Exec {
        /// The process.
        tgid: u32,
        /// Its new name.
        comm: Name,
        /// The path as it was given to `execve`; empty when it could not be read.
        path: Vec<u8>,
    },
    /// A process ended; its handles are released after this.
    Exit {
        /// The process.
        tgid: u32,
    },
    /// An allocation failed.
    Failure {
        /// The process that got the error.
        tgid: u32,
        /// The error number, positive.
        errno: i32,
    },
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

/// From where and by what system call a handle was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// A call chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its name.
    pub hash: u64,
    /// Which half.
    pub side: Side,
    /// The process in whose address space it was taken.
    pub tgid: u32,
    /// Return addresses, innermost first.
    pub frames: Box<[u64]>,
}

/// A task's name: up to 15 bytes that anybody may choose.
pub type Name = [u8; fdtrace_common::wire::COMM_LEN];
