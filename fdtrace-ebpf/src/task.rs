//! What the programs need to know of the current task.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf, bpf_ktime_get_ns,
    bpf_task_pt_regs,
};
use fdtrace_common::{
    config::CODE_SEGMENT_64,
    hash,
    unwind::Registers as UserRegisters,
    wire::{Cause, NO_SYSCALL},
};

use crate::{
    config,
    kernel::{Access, Plain, Probe, Ptr, fdtable, file, mm_struct, pid, pt_regs, task_struct},
};

/// `PF_EXITING` (include/linux/sched.h; the same on all kernels with BTF).
const PF_EXITING: u32 = 0x4;

/// `struct upid { int nr; struct pid_namespace *ns; }`
const UPID_BYTES: u64 = 16;
/// The kernel nests namespaces no deeper than this (`MAX_PID_NS_LEVEL`).
const DEEPEST: u32 = 32;

/// The current process and thread, by the numbers that the tracer's PID namespace has for them; 0 for what it cannot see, or
/// what lives more than three namespaces below.
#[inline(always)]
pub(crate) fn ids() -> (u32, u32) {
    if config::get!(pid_namespace) == 0 {
        let ids = bpf_get_current_pid_tgid();
        return ((ids >> 32) as u32, ids as u32);
    }
    let task = Task::current().plain();
    (seen_number(task.group_leader()), seen_number(task))
}

/// Whether the current thread is the one that its process began with.
#[inline(always)]
pub(crate) fn is_first_thread() -> bool {
    let ids = bpf_get_current_pid_tgid();
    (ids >> 32) as u32 == ids as u32
}

/// The current process, as in [`ids`].
#[inline(always)]
pub(crate) fn current_process() -> u32 {
    if config::get!(pid_namespace) == 0 {
        return (bpf_get_current_pid_tgid() >> 32) as u32;
    }
    process_of(Task::current().plain())
}

/// The current thread, as in [`ids`].
#[inline(always)]
pub(crate) fn current_thread() -> u32 {
    if config::get!(pid_namespace) == 0 {
        return bpf_get_current_pid_tgid() as u32;
    }
    seen_number(Task::current().plain())
}

/// The process of any task, as in [`ids`]: the number of its first thread, which keeps that until the last of its threads is
/// gone.
#[inline(always)]
pub(crate) fn process_of(task: Ptr<task_struct>) -> u32 {
    if config::get!(pid_namespace) == 0 {
        return task.tgid();
    }
    seen_number(task.group_leader())
}

/// The number of a task in the tracer's namespace. A process has one in its own namespace and in each above it.
///
/// No loop: the compiler counts in ways whose end the verifier does not see.
#[inline(always)]
fn seen_number(task: Ptr<task_struct>) -> u32 {
    let pid = task.thread_pid();
    let level = pid.level();
    if pid.is_null() || level > DEEPEST {
        return 0;
    }
    let own = number_at(pid, level);
    if own != 0 || level < 1 {
        return own;
    }
    let above = number_at(pid, level - 1);
    if above != 0 || level < 2 {
        return above;
    }
    let above = number_at(pid, level - 2);
    if above != 0 || level < 3 {
        return above;
    }
    number_at(pid, level - 3)
}

/// The number at a level, if that level's namespace is the tracer's.
#[inline(always)]
fn number_at(pid: Ptr<pid>, level: u32) -> u32 {
    let number = pid.numbers().skip(u64::from(level) * UPID_BYTES);
    if number.ns().inum() == config::get!(pid_namespace) { number.nr() } else { 0 }
}

/// The current task, and its registers at the entry to the kernel: read in the cheapest way that this kernel knows.
pub(crate) type Task = Ptr<task_struct, Current>;
pub(crate) type Registers = Ptr<pt_regs, AtEntry>;

/// Where the verifier knows what a pointer points to, it checks that a field of this size lies there, and the load itself is
/// fault-tolerant.
macro_rules! access {
    ($access:ident if $known:ident) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $access;

        impl Access for $access {
            #[inline(always)]
            fn load<T: Plain>(field: *const T) -> T {
                if config::get!($known) != 0 {
                    // SAFETY: as above; the pointer is the helper's, and a `T` is made of integers.
                    unsafe { core::ptr::read_volatile(field) }
                } else {
                    Probe::load(field)
                }
            }
        }
    };
}
access!(Current if has_task_btf);
access!(AtEntry if has_task_regs);

impl Task {
    #[inline(always)]
    pub(crate) fn current() -> Self {
        if config::get!(has_task_btf) != 0 {
            // SAFETY: takes nothing, returns a pointer that the verifier knows as a `task_struct`.
            Self::new(unsafe { bpf_get_current_task_btf() }.cast())
        } else {
            // SAFETY: takes nothing, returns the task's address.
            Self::at(unsafe { bpf_get_current_task() })
        }
    }

    /// The same, read by the helper: with a pointer that the verifier knows, and with those that are read from it, nobody may
    /// calculate.
    #[inline(always)]
    pub(crate) const fn plain(self) -> Ptr<task_struct> {
        self.cast()
    }

    /// Registers at the entry to the kernel, where they can be found. A call of the kernel: whoever needs them twice keeps them.
    #[inline(always)]
    pub(crate) fn registers(self) -> Option<Registers> {
        if config::get!(has_task_regs) != 0 {
            // SAFETY: the pointer came from `bpf_get_current_task_btf`.
            let regs = unsafe { bpf_task_pt_regs(self.pointer().cast_mut().cast()) };
            return Some(Registers::new(regs as *const u8));
        }
        let offset = config::get!(regs_offset);
        (offset != 0).then(|| Registers::at(self.stack() + offset))
    }

    /// The system call in progress: its number, and what tells apart the things that one call can do.
    #[inline(always)]
    pub(crate) fn syscall(self) -> (i16, u32) {
        self.registers().map_or((NO_SYSCALL, 0), Registers::call)
    }

    /// The number of the system call in progress; negative outside of one.
    #[inline(always)]
    pub(crate) fn syscall_number(self) -> i32 {
        self.registers().map_or(-1, |registers| registers.syscall() as i32)
    }

    /// An argument of the system call in progress.
    #[inline(always)]
    pub(crate) fn argument(self, number: usize) -> u64 {
        self.registers().map_or(0, |registers| registers.argument(number))
    }

    /// What the system call returns that is about to end.
    #[inline(always)]
    pub(crate) fn result(self) -> Option<u64> {
        self.registers().map(Registers::result)
    }

    /// The file behind a descriptor; null for none.
    #[inline(always)]
    pub(crate) fn file(self, descriptor: u32) -> Ptr<file> {
        self.files().fdt().entry(descriptor)
    }

    /// Whether 64-bit code entered the kernel: other code has other numbers for system calls.
    #[inline(always)]
    pub(crate) fn is_64_bit(self) -> bool {
        self.registers().is_some_and(Registers::is_64_bit)
    }

    /// 32-bit code entered the kernel.
    #[inline(always)]
    pub(crate) fn is_32_bit(self) -> bool {
        self.registers().is_some_and(|registers| !registers.is_64_bit())
    }

    /// Where the stack begins of the 64-bit code that entered the kernel.
    #[inline(always)]
    pub(crate) fn user_stack(self) -> Option<UserRegisters> {
        self.registers()?.user_stack()
    }

    /// The system call that 64-bit code is in, the instruction that made it, and where the stack was.
    #[inline(always)]
    pub(crate) fn caller(self) -> Option<(i32, u64, u64)> {
        let registers = self.registers()?;
        registers
            .is_64_bit()
            .then(|| (registers.syscall() as i32, registers.instruction(), registers.stack()))
    }

    /// Why this task, in the system call of that number, drops the last reference of a handle that `owner` allocated.
    #[inline(always)]
    pub(crate) fn cause(self, tgid: u32, owner: u32, number: i32) -> Cause {
        if config::get!(free_is_late) != 0 {
            return Cause::Unknown;
        }
        let flags = self.flags();
        if flags & PF_EXITING != 0 {
            return Cause::Exit;
        }
        if flags & config::get!(kernel_task_flags) != 0 {
            return Cause::Kernel;
        }
        if tgid == config::get!(tracer) && owner != tgid {
            return Cause::Tracer;
        }
        if is_exec(number) {
            return Cause::Exec;
        }
        if tgid != owner { Cause::OtherProcess } else { Cause::Close }
    }
}

/// By the number of the system call: what exec closes is released on the way back to the process, when the kernel has
/// forgotten its own `in_execve`.
#[inline(always)]
fn is_exec(number: i32) -> bool {
    number == config::get!(syscalls.execve) || number == config::get!(syscalls.execveat)
}

impl Registers {
    /// As [`Task::syscall`].
    #[inline(always)]
    pub(crate) fn call(self) -> (i16, u32) {
        let number = self.number();
        if number < 0 {
            return (NO_SYSCALL, 0);
        }
        (number as i16, self.detail(number))
    }

    /// The number of the system call in progress; negative outside of one.
    #[inline(always)]
    pub(crate) fn number(self) -> i32 {
        self.syscall() as i32
    }

    /// As [`Task::user_stack`].
    #[inline(always)]
    pub(crate) fn user_stack(self) -> Option<UserRegisters> {
        self.is_64_bit().then(|| UserRegisters {
            instruction: self.instruction(),
            stack: self.stack(),
            frame: self.frame(),
        })
    }

    /// Whether the call that is about to end gives its caller an error.
    #[inline(always)]
    pub(crate) fn fails(self) -> bool {
        (self.result() as i64) < 0
    }

    #[inline(always)]
    fn is_64_bit(self) -> bool {
        !pt_regs::cs().exists() || self.cs() == CODE_SEGMENT_64
    }

    #[inline(always)]
    fn argument(self, number: usize) -> u64 {
        match number {
            0 => self.arg0(),
            1 => self.arg1(),
            2 => self.arg2(),
            3 => self.arg3(),
            _ => self.arg4(),
        }
    }

    #[inline(always)]
    fn detail(self, number: i32) -> u32 {
        if number == config::get!(syscalls.openat) {
            self.arg2() as u32
        } else if number == config::get!(syscalls.open) || number == config::get!(syscalls.ioctl) {
            self.arg1() as u32
        } else if number == config::get!(syscalls.bpf) {
            self.arg0() as u32
        } else {
            0
        }
    }
}

impl Ptr<fdtable> {
    /// The file behind a descriptor; null for none.
    #[inline(always)]
    pub(crate) fn entry(self, descriptor: u32) -> Ptr<file> {
        if descriptor < self.max_fds() { self.fd().nth(descriptor.into()) } else { Ptr::NULL }
    }
}

/// Where memory of a task is described, and what that memory is known by.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Space {
    pub(crate) mm: Ptr<mm_struct>,
    /// A name of the address space as it is now: the same in all threads, another when anything is unmapped from it (then
    /// processors have to forget translations, which the kernel counts), when another program runs, and when the kernel uses
    /// the structure again (it begins each stack elsewhere).
    pub(crate) name: u64,
}

impl Task {
    /// Writes down the address space of the task; by way of memory, since nobody may calculate with a pointer that the verifier
    /// knows.
    #[inline(always)]
    pub(crate) fn note_space(self, space: &mut Space) {
        let known = self.mm();
        // SAFETY: a field of the structure that is borrowed.
        unsafe { core::ptr::write_volatile(&raw mut space.mm, known) };
        // SAFETY: as above.
        let mm = unsafe { core::ptr::read_volatile(&raw const space.mm) };
        let known = Ptr::<mm_struct, Current>::new(known.pointer());
        space.name = hash::mix(hash::mix(mm.address(), known.tlb_gen()), known.start_stack());
    }
}

/// The most descriptors that a process may have (RLIMIT_NOFILE).
#[inline(always)]
pub(crate) fn limit(task: Ptr<task_struct>) -> u64 {
    task.signal().soft_limit()
}

/// `CLOCK_MONOTONIC` in ns.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: takes nothing, returns a time.
    unsafe { bpf_ktime_get_ns() }
}
