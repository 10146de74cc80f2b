//! What the programs need to know of the current task.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf, bpf_ktime_get_ns,
        bpf_probe_read_kernel, bpf_task_pt_regs,
    },
};
use fdtrace_common::{
    config::{ABSENT, CODE_SEGMENT_64},
    hash,
    unwind::Registers as UserRegisters,
    wire::{Cause, NO_SYSCALL},
};

use crate::config;

/// `PF_EXITING` (include/linux/sched.h; the same on all kernels with BTF).
const PF_EXITING: u32 = 0x4;

/// `struct upid { int nr; struct pid_namespace *ns; }`
const NUMBER_BYTES: u32 = 16;
/// The namespace lies in a number at this offset.
const NUMBER_NAMESPACE: u32 = 8;
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
    let task = Task::current().address();
    (seen_number(leader(task)), seen_number(task))
}

/// The current process, as in [`ids`].
#[inline(always)]
pub(crate) fn current_process() -> u32 {
    if config::get!(pid_namespace) == 0 {
        return (bpf_get_current_pid_tgid() >> 32) as u32;
    }
    process_of(Task::current().address())
}

/// The current thread, as in [`ids`].
#[inline(always)]
pub(crate) fn current_thread() -> u32 {
    if config::get!(pid_namespace) == 0 {
        return bpf_get_current_pid_tgid() as u32;
    }
    seen_number(Task::current().address())
}

/// The process of any task, as in [`ids`].
#[inline(always)]
pub(crate) fn process_of(task: u64) -> u32 {
    if config::get!(pid_namespace) == 0 {
        return read(task, config::get!(offsets.task_tgid));
    }
    seen_number(leader(task))
}

/// The first thread of a task's process. It keeps its numbers until the last of its threads is gone.
#[inline(always)]
fn leader(task: u64) -> u64 {
    read(task, config::get!(offsets.task_leader))
}

/// The number of a task in the tracer's namespace. A process has one in its own namespace and in each above it.
///
/// No loop: the compiler counts in ways whose end the verifier does not see.
#[inline(always)]
fn seen_number(task: u64) -> u32 {
    let pid: u64 = read(task, config::get!(offsets.task_thread_pid));
    let level: u32 = read(pid, config::get!(offsets.pid_level));
    if pid == 0 || level > DEEPEST {
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
fn number_at(pid: u64, level: u32) -> u32 {
    let offset = config::get!(offsets.pid_numbers).wrapping_add(level * NUMBER_BYTES);
    let namespace: u64 = read(pid, offset.wrapping_add(NUMBER_NAMESPACE));
    if read::<u32>(namespace, config::get!(offsets.namespace_number)) == config::get!(pid_namespace) {
        read(pid, offset)
    } else {
        0
    }
}

/// The current task, read in the cheapest way that this kernel knows.
#[derive(Clone, Copy)]
pub(crate) struct Task(*const u8);

impl Task {
    #[inline(always)]
    pub(crate) fn current() -> Self {
        if config::get!(has_task_btf) != 0 {
            // SAFETY: takes nothing, returns a pointer that the verifier knows as a `task_struct`.
            Self(unsafe { bpf_get_current_task_btf() }.cast())
        } else {
            // SAFETY: takes nothing, returns the task's address.
            Self(unsafe { bpf_get_current_task() } as *const u8)
        }
    }

    /// Where the `task_struct` lies.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    pub(crate) fn flags(self) -> u32 {
        self.field(config::get!(offsets.task_flags))
    }

    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: u32) -> T {
        if config::get!(has_task_btf) != 0 {
            // SAFETY: the verifier checks that a field of this size lies there; the load is fault-tolerant.
            unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast::<T>()) }
        } else {
            read(self.0 as u64, offset)
        }
    }

    /// Registers at the entry to the kernel, where they can be found.
    #[inline(always)]
    fn registers(self) -> Option<Registers> {
        if config::get!(has_task_regs) != 0 {
            // SAFETY: the pointer came from `bpf_get_current_task_btf`.
            let regs = unsafe { bpf_task_pt_regs(self.0.cast_mut().cast::<task_struct>()) };
            return Some(Registers(regs as *const u8));
        }
        let offset = config::get!(regs_offset);
        if offset == 0 {
            return None;
        }
        let stack: u64 = self.field(config::get!(offsets.task_stack));
        Some(Registers((stack + offset) as *const u8))
    }

    /// The system call in progress: its number, and what tells apart the things that one call can do.
    #[inline(always)]
    pub(crate) fn syscall(self) -> (i16, u32) {
        let Some(registers) = self.registers() else { return (NO_SYSCALL, 0) };
        let number = registers.read(config::get!(offsets.regs_syscall)) as i64 as i32;
        if number < 0 {
            return (NO_SYSCALL, 0);
        }
        (number as i16, registers.detail(number))
    }

    /// The number of the system call in progress; negative outside of one.
    #[inline(always)]
    pub(crate) fn syscall_number(self) -> i32 {
        self.registers()
            .map_or(-1, |registers| registers.read(config::get!(offsets.regs_syscall)) as i64 as i32)
    }

    /// An argument of the system call in progress.
    #[inline(always)]
    pub(crate) fn argument(self, number: usize) -> u64 {
        self.registers().map_or(0, |registers| registers.read(config::get!(offsets.regs_arg[number])))
    }

    /// What the system call returns that is about to end.
    #[inline(always)]
    pub(crate) fn result(self) -> Option<u64> {
        self.registers().map(|registers| registers.read(config::get!(offsets.regs_return)))
    }

    /// Its table of descriptors.
    #[inline(always)]
    pub(crate) fn files(self) -> u64 {
        read(self.address(), config::get!(offsets.task_files))
    }

    /// 32-bit code entered the kernel, whose system calls have other numbers.
    #[inline(always)]
    pub(crate) fn is_32_bit(self) -> bool {
        let segment = config::get!(offsets.regs_code_segment);
        let Some(registers) = self.registers() else { return false };
        segment != ABSENT && registers.read(segment) & 0xffff != CODE_SEGMENT_64
    }

    /// The file behind a descriptor; 0 for none.
    #[inline(always)]
    pub(crate) fn file(self, descriptor: u32) -> u64 {
        let files: u64 = self.field(config::get!(offsets.task_files));
        let table: u64 = read(files, config::get!(offsets.files_table));
        if descriptor >= read::<u32>(table, config::get!(offsets.table_length)) {
            return 0;
        }
        let slots: u64 = read(table, config::get!(offsets.table_files));
        read(slots.wrapping_add(u64::from(descriptor) * 8), 0)
    }

    /// Whether the call that is about to end gives its caller an error.
    #[inline(always)]
    pub(crate) fn fails(self) -> bool {
        self.result().is_some_and(|result| (result as i64) < 0)
    }

    /// Whether 64-bit code entered the kernel: other code has other numbers for system calls.
    #[inline(always)]
    pub(crate) fn is_64_bit(self) -> bool {
        let segment = config::get!(offsets.regs_code_segment);
        let Some(registers) = self.registers() else { return false };
        segment == ABSENT || registers.read(segment) & 0xffff == CODE_SEGMENT_64
    }

    /// Where the stack begins of the 64-bit code that entered the kernel.
    #[inline(always)]
    pub(crate) fn user_stack(self) -> Option<UserRegisters> {
        if config::get!(offsets.regs_frame) == ABSENT {
            return None;
        }
        if !self.is_64_bit() {
            return None;
        }
        let registers = self.registers()?;
        Some(UserRegisters {
            instruction: registers.read(config::get!(offsets.regs_instruction)),
            stack: registers.read(config::get!(offsets.regs_stack)),
            frame: registers.read(config::get!(offsets.regs_frame)),
        })
    }

    /// The system call that 64-bit code is in, the instruction that made it, and where the stack was.
    #[inline(always)]
    pub(crate) fn caller(self) -> Option<(i32, u64, u64)> {
        let registers = self.registers()?;
        let segment = config::get!(offsets.regs_code_segment);
        if segment != ABSENT && registers.read(segment) & 0xffff != CODE_SEGMENT_64 {
            return None;
        }
        let number = registers.read(config::get!(offsets.regs_syscall)) as i64 as i32;
        let instruction = registers.read(config::get!(offsets.regs_instruction));
        Some((number, instruction, registers.read(config::get!(offsets.regs_stack))))
    }

    /// The `mm_struct` of its address space, as a number: the verifier lets nobody calculate with a pointer that it knows.
    #[inline(always)]
    pub(crate) fn memory(self) -> u64 {
        read(self.address(), config::get!(offsets.task_mm))
    }

    /// A name of an address space as it is now: the same in all threads, another when anything is unmapped from it (then
    /// processors have to forget translations, which the kernel counts), when another program runs, and when the kernel uses
    /// the structure again (it begins each stack elsewhere).
    #[inline(always)]
    pub(crate) fn space(mm: u64) -> u64 {
        let changes: u64 = read(mm, config::get!(offsets.mm_changes));
        hash::mix(hash::mix(mm, changes), Self::first_stack(mm))
    }

    /// Where the stack of the first thread begins: the arguments and the environment lie above.
    #[inline(always)]
    pub(crate) fn first_stack(mm: u64) -> u64 {
        read(mm, config::get!(offsets.mm_stack))
    }

    /// Why this task drops the last reference of a handle that `owner` allocated.
    #[inline(always)]
    pub(crate) fn cause(self, tgid: u32, owner: u32) -> Cause {
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
        if self.in_exec() {
            return Cause::Exec;
        }
        if tgid != owner { Cause::OtherProcess } else { Cause::Close }
    }

    /// By the number of the system call: what exec closes is released on the way back to the process, when the kernel has
    /// forgotten its own `in_execve`.
    #[inline(always)]
    fn in_exec(self) -> bool {
        let number = self.syscall_number();
        number == config::get!(syscalls.execve) || number == config::get!(syscalls.execveat)
    }
}

/// A `struct pt_regs` of the current task.
#[derive(Clone, Copy)]
struct Registers(*const u8);

impl Registers {
    #[inline(always)]
    fn read(self, offset: u32) -> u64 {
        if config::get!(has_task_regs) != 0 {
            // SAFETY: the verifier knows the pointer as `pt_regs`; the load is fault-tolerant.
            unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast::<u64>()) }
        } else {
            read(self.0 as u64, offset)
        }
    }

    #[inline(always)]
    fn detail(self, number: i32) -> u32 {
        if number == config::get!(syscalls.openat) {
            self.read(config::get!(offsets.regs_arg[2])) as u32
        } else if number == config::get!(syscalls.open) || number == config::get!(syscalls.ioctl) {
            self.read(config::get!(offsets.regs_arg[1])) as u32
        } else if number == config::get!(syscalls.bpf) {
            self.read(config::get!(offsets.regs_arg[0])) as u32
        } else {
            0
        }
    }
}

/// Reads a field of a kernel structure; 0 when it cannot be read. Any address may be given: the helper checks it.
#[inline(always)]
pub(crate) fn read<T: Copy + Default>(base: u64, offset: u32) -> T {
    let field = (base as *const u8).wrapping_add(offset as usize).cast::<T>();
    // SAFETY: a probe read never faults, and a `T` is made of integers.
    unsafe { bpf_probe_read_kernel(field) }.unwrap_or_default()
}

/// `CLOCK_MONOTONIC` in ns.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: takes nothing, returns a time.
    unsafe { bpf_ktime_get_ns() }
}
