//! What all backends do at the two ends of a handle's life.

use core::ffi::c_void;
use fdtrace_common::{
    config::{EMIT_MIN_AGE, EMIT_STREAM},
    counters::Counter,
    wire::{Cause, Entry, NO_SYSCALL, Release, Tag, flag, state},
};

use crate::{
    closers, config,
    counters::count,
    events, filter,
    handles::{self, Added, Known},
    kernel::{Ptr, file},
    mappings, short_lived,
    stacks::{self, Call},
    task::{Registers, Task, current_process, current_thread, ids, now},
};

/// `FMODE_OPENED`: `do_dentry_open` got that far (include/linux/fs.h).
const FMODE_OPENED: u32 = 1 << 19;

/// A handle was allocated by the current task.
#[inline(always)]
pub(crate) fn allocated(ctx: *mut c_void, handle: u64) {
    let (tgid, tid) = ids();
    if tgid == config::get!(tracer) {
        count(Counter::Own);
        reused(handle);
        return;
    }
    if !filter::admits(tgid) {
        reused(handle);
        return;
    }
    let task = Task::current();
    let kernel_task = task.flags() & config::get!(kernel_task_flags) != 0;
    let registers = task.registers();
    let (syscall, detail) = registers.map_or((NO_SYSCALL, 0), Registers::call);
    let call = Call { registers, syscall, detail };
    let stack = stacks::take(ctx, task, tgid, kernel_task, &call);
    let flags = if kernel_task { flag::KERNEL_TASK } else { 0 };
    let generation = now();
    let entry = Entry {
        generation,
        user_stack: stack.user,
        kernel_stack: stack.kernel,
        tgid,
        tid,
        detail,
        syscall,
        flags,
        state: if stack.asked { state::ASKED } else { 0 },
    };
    if !insert(handle, &entry) {
        count(Counter::LostHandles);
        return;
    }
    mappings::note_attach(syscall, tid, handle);
    closers::note_made(handle);
    let allocations = count(Counter::Allocated);
    if config::get!(emit) == EMIT_STREAM {
        events::send_often(&handles::birth(handle, &entry), allocations);
    }
}

#[inline(always)]
fn insert(handle: u64, entry: &Entry) -> bool {
    match handles::add(handle, entry) {
        Added::New => true,
        Added::Known => {
            count(Counter::Phantoms);
            // The event of the new one tells that the former one is gone, where there is such an event.
            if config::get!(emit) == EMIT_MIN_AGE
                && let Some(former) = handles::get(handle)
            {
                let former = *former;
                short_lived::gone(&former, &missed(handle, former.generation), 0);
            }
            handles::replace(handle, entry)
        }
        Added::NoRoom => false,
    }
}

/// Somebody who is not traced gets the memory of a handle that seems to live: its release was missed.
#[inline(always)]
fn reused(handle: u64) {
    if config::get!(releases_can_be_missed) == 0 {
        return;
    }
    let Some(known) = handles::find(handle) else { return };
    let former = *known.entry();
    known.remove();
    count(Counter::Phantoms);
    count(Counter::Released);
    let release = missed(handle, former.generation);
    if config::get!(emit) == EMIT_MIN_AGE {
        short_lived::gone(&former, &release, 0);
    } else {
        events::send(&release);
    }
}

/// The release of a handle that was not seen when it happened.
#[inline(always)]
fn missed(handle: u64, generation: u64) -> Release {
    Release {
        tag: Tag::Release as u8,
        cause: Cause::Unknown as u8,
        handle,
        generation,
        time: now(),
        ..Release::default()
    }
}

/// The memory of a handle is about to be given back, by the current task; says whether to tell who that is.
#[inline(always)]
pub(crate) fn released(handle: u64) -> bool {
    let Some(known) = handles::find(handle) else {
        count(Counter::ReleasedUnknown);
        return false;
    };
    if config::get!(emit) == EMIT_MIN_AGE {
        // Before it leaves the table: then its memory is another's. Nobody else can release the same handle.
        let entry = *known.entry();
        let (release, number) = leave(handle, &known, &Maker::of(&entry));
        short_lived::released(&entry, &release, number);
        false
    } else {
        let maker = Maker::of(known.entry());
        let (release, number) = leave(handle, &known, &maker);
        if config::get!(emit) == EMIT_STREAM {
            events::send_often(&release, number);
        }
        closers::is_wanted(&release)
    }
}

/// What of an entry is needed once it has left the table.
struct Maker {
    generation: u64,
    tgid: u32,
    tid: u32,
    syscall: i16,
}

impl Maker {
    #[inline(always)]
    const fn of(entry: &Entry) -> Self {
        Self { generation: entry.generation, tgid: entry.tgid, tid: entry.tid, syscall: entry.syscall }
    }

    /// The call that made the handle is the one that takes it back, and fails: nobody ever had it.
    #[inline(always)]
    fn fails(&self, registers: Option<Registers>) -> bool {
        config::get!(free_is_late) == 0
            && self.syscall != NO_SYSCALL
            && registers.is_some_and(|registers| {
                registers.number() == i32::from(self.syscall)
                    && current_thread() == self.tid
                    && registers.fails()
            })
    }
}

/// Takes a handle out of the table and makes the record of its release; says as well how many there were on this CPU.
#[inline(always)]
fn leave(handle: u64, known: &Known, maker: &Maker) -> (Release, u64) {
    known.remove();
    let releases = count(Counter::Released);
    let tgid = current_process();
    let task = Task::current();
    let registers = task.registers();
    let mut flags = mode_flags(handle);
    if maker.fails(registers) {
        flags |= flag::NEVER_OPENED;
    }
    if flags & flag::NEVER_OPENED != 0 {
        count(Counter::NeverOpened);
    }
    let release = Release {
        tag: Tag::Release as u8,
        cause: task.cause(tgid, maker.tgid, registers.map_or(-1, Registers::number)) as u8,
        flags,
        reserved: 0,
        tgid,
        handle,
        generation: maker.generation,
        time: now(),
    };
    (release, releases)
}

/// What `f_mode` says of a handle at the end of its life.
#[inline(always)]
fn mode_flags(handle: u64) -> u8 {
    let mode = Ptr::<file>::at(handle).f_mode();
    let mut flags = 0;
    if mode & FMODE_OPENED == 0 {
        flags |= flag::NEVER_OPENED;
    }
    if mode & config::get!(unaccounted_modes) != 0 {
        flags |= flag::UNACCOUNTED;
    }
    flags
}
