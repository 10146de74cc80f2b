//! Descriptors for handles that were there before: `dup` and its kin, and what comes over sockets or from other processes.
//!
//! Only what installs them is watched. A descriptor that is closed leaves its entry in ACQUIRED behind, which no longer
//! agrees with the table of descriptors: whoever looks at an entry compares ([`is_there`]).

use aya_ebpf::{
    helpers::bpf_probe_read_user,
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray},
};
use core::ffi::c_void;
use fdtrace_common::{
    counters::Counter,
    descriptor::{self, Acquired},
    wire::Tag,
};

use crate::{
    config,
    counters::count,
    events, filter, handles,
    kernel::{Ptr, file, files_struct},
    stacks,
    takers::Taker,
    task::{Task, ids, now},
};

const BPF_ANY: u64 = 0;

/// Standard input, output and error are meant to be installed over and over.
const LAST_STANDARD: u32 = 2;

/// `F_DUPFD`, `F_DUPFD_CLOEXEC` (include/uapi/linux/fcntl.h).
const F_DUPFD: u32 = 0;
const F_DUPFD_CLOEXEC: u32 = 1030;

/// `SOL_SOCKET`, `SCM_RIGHTS` (include/linux/socket.h).
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
/// The most descriptors that a message brings (`SCM_MAX_FD`).
const MAX_RIGHTS: u64 = 253;
/// `struct user_msghdr`: where the control messages are, and how long; the size of a `struct mmsghdr`, which begins with one.
const CONTROL: u64 = 32;
const CONTROL_LENGTH: u64 = 40;
const MESSAGE_BYTES: u64 = 64;
/// `struct cmsghdr { size_t cmsg_len; int cmsg_level; int cmsg_type; }`
const HEADER_BYTES: u64 = 16;
/// The most messages of one call, and headers of them, that are looked through.
const MAX_HEADERS: u32 = 64;
const EMFILE: i64 = -24;
/// A process that is refused is reported no more often.
const REFUSAL_NS: u64 = 1_000_000;
/// The descriptors of one call are taken in so many stretches of so many at most.
const STRETCHES: u32 = 32;
const ROUNDS: u32 = 32;

/// By [`descriptor::key`]. Sized by the loader: nobody needs it where nothing is watched.
#[map]
pub(crate) static ACQUIRED: HashMap<u64, Acquired> = HashMap::with_max_entries(65_536, 0);

/// When the message came whose descriptors a thread is being given.
#[map]
static MESSAGES: LruHashMap<u32, u64> = LruHashMap::with_max_entries(1024, 0);

/// When it was reported last that a process was refused.
#[map]
static REFUSED: LruHashMap<u32, u64> = LruHashMap::with_max_entries(1024, 0);

/// What a call acquires, in memory between the rounds of a walk over its messages.
#[repr(C)]
struct Call {
    record: Acquired,
    /// The next message, and how many there are from it on.
    message: u64,
    messages: u64,
    /// The next header in the control messages, and their end.
    header: u64,
    end: u64,
    /// The next descriptor in the message's memory, and how many there are from it on.
    data: u64,
    left: u64,
    /// `fdtable.fd`
    slots: Ptr<Ptr<file>>,
    /// An [`Outcome`].
    outcome: u64,
}

/// What is installed, and what is refused. Only one of the programs that tell of the same is attached, and the kernel never runs
/// it twice at once on a CPU; those on entry to functions never meet, for no such function calls another one.
#[map]
static CALL: PerCpuArray<Call> = PerCpuArray::with_max_entries(2, 0);

/// A system call is about to return: what it has installed is in the table.
#[inline(always)]
pub(crate) fn syscall_returns(ctx: *mut c_void, result: i64) {
    let task = Task::current();
    let number = i32::from(task.syscall().0);
    let kind = Syscall::of(number);
    if kind == Syscall::Other {
        return;
    }
    let Some(call) = CALL.get_ptr_mut(0) else { return };
    // SAFETY: the map's value is one `Call`, which only this program uses on this CPU.
    let call = unsafe { &mut *call };
    call.outcome = outcome(task, number, kind, result, call) as u64;
    // The stack is taken at one place for all, and the outcome waits in memory: in a register, each of its values would be
    // another way through all that follows.
    // SAFETY: a field of a map's value.
    let outcome = unsafe { core::ptr::read_volatile(&raw const call.outcome) };
    if outcome == Outcome::Nothing as u64 || !begin(ctx, task, call, Taker::Acquired) {
        return;
    }
    // SAFETY: a field of a map's value.
    match unsafe { core::ptr::read_volatile(&raw const call.outcome) } {
        MESSAGE => walk(),
        REFUSED_ONE => events::send(&call.record),
        _ => {
            let fd = result as u32;
            install(&mut call.record, fd, call.slots.nth(fd.into()));
        }
    }
}

/// What came of a call.
#[repr(u64)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Nothing = 0,
    /// Its result is a new descriptor.
    One = 1,
    /// It brought a message with descriptors.
    Message = 2,
    /// There was no descriptor left.
    Refused = 3,
}

const MESSAGE: u64 = Outcome::Message as u64;
const REFUSED_ONE: u64 = Outcome::Refused as u64;

#[inline(always)]
fn outcome(task: Task, number: i32, kind: Syscall, result: i64, call: &mut Call) -> Outcome {
    if kind == Syscall::Message {
        if result < 0 {
            return Outcome::Nothing;
        }
        call.message = task.argument(1);
        call.messages = if number == config::get!(syscalls.recvmmsg) { result as u64 } else { 1 };
        call.header = 0;
        call.end = 0;
        return if acquired_seek(0) == 0 { Outcome::Nothing } else { Outcome::Message };
    }
    if kind == Syscall::Fcntl && !duplicates(task) {
        return Outcome::Nothing;
    }
    if result == EMFILE {
        return if is_due(ids().0) { Outcome::Refused } else { Outcome::Nothing };
    }
    // `dup2` of a descriptor to itself does nothing.
    let same = number == config::get!(syscalls.dup2) && i64::from(task.argument(0) as u32) == result;
    if result <= i64::from(LAST_STANDARD) || same { Outcome::Nothing } else { Outcome::One }
}

#[inline(always)]
fn walk() {
    let mut stretches = 0;
    while stretches < STRETCHES {
        if acquired_stretch(0) == 0 {
            return;
        }
        stretches += 1;
    }
    count(Counter::LostDescriptors);
}

/// Takes some descriptors; 0 when there are no more.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn acquired_stretch(number: u32) -> i32 {
    let mut rounds = 0;
    while rounds < ROUNDS {
        if acquired_next(number) == 0 {
            return 0;
        }
        rounds += 1;
    }
    1
}

/// A system call is about to fail: who would have acquired a descriptor, had there been one left.
#[inline(always)]
pub(crate) fn refused(ctx: *mut c_void, result: i64) {
    if result != EMFILE {
        return;
    }
    let task = Task::current();
    let number = i32::from(task.syscall().0);
    let kind = Syscall::of(number);
    let Some(call) = CALL.get_ptr_mut(1) else { return };
    // SAFETY: as above.
    let call = unsafe { &mut *call };
    let asks = kind == Syscall::One || kind == Syscall::Fcntl;
    if asks
        && outcome(task, number, kind, result, call) == Outcome::Refused
        && begin(ctx, task, call, Taker::Refused)
    {
        events::send(&call.record);
    }
}

/// Who has no descriptors left asks again and again; where, is reported now and then.
#[inline(always)]
fn is_due(tgid: u32) -> bool {
    let time = now();
    if let Some(last) = REFUSED.get_ptr(tgid) {
        // SAFETY: the pointer is to a value of the map, not null.
        if time.wrapping_sub(unsafe { *last }) < REFUSAL_NS {
            return false;
        }
    }
    let _ = REFUSED.insert(tgid, time, BPF_ANY);
    true
}

/// What a system call does with descriptors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syscall {
    /// Its result is the new one.
    One,
    /// The same, if it is asked to.
    Fcntl,
    /// They are in a message.
    Message,
    Other,
}

impl Syscall {
    #[inline(always)]
    fn of(number: i32) -> Self {
        if number == config::get!(syscalls.fcntl) {
            Self::Fcntl
        } else if number == config::get!(syscalls.recvmsg) || number == config::get!(syscalls.recvmmsg) {
            Self::Message
        } else if number >= 0
            && (number == config::get!(syscalls.dup)
                || number == config::get!(syscalls.dup2)
                || number == config::get!(syscalls.dup3)
                || number == config::get!(syscalls.pidfd_getfd))
        {
            Self::One
        } else {
            Self::Other
        }
    }
}

#[inline(always)]
fn duplicates(task: Task) -> bool {
    let command = task.argument(1) as u32;
    command == F_DUPFD || command == F_DUPFD_CLOEXEC
}

/// `fd_install(fd, file)` and `do_dup2(files, file, fd, flags)`: the current task is about to install a descriptor.
#[inline(always)]
pub(crate) fn installed(ctx: *mut c_void, fd: u32, file: Ptr<file>) {
    let task = Task::current();
    // All that makes a handle installs a descriptor for it; these make none.
    let kind = Syscall::of(i32::from(task.syscall().0));
    if fd <= LAST_STANDARD || kind == Syscall::Other {
        return;
    }
    let Some(call) = CALL.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    let call = unsafe { &mut *call };
    if !begin(ctx, task, call, Taker::Acquired) {
        return;
    }
    if kind == Syscall::Message
        && let Some(time) = MESSAGES.get_ptr(call.record.tid)
    {
        // SAFETY: the pointer is to a value of the map, not null.
        call.record.time = unsafe { *time };
    }
    install(&mut call.record, fd, file);
}

/// `scm_detach_fds`: the current task is about to be given the descriptors of one message.
#[inline(always)]
pub(crate) fn message_comes() {
    // Where there is no room, each descriptor counts as a message.
    let _ = MESSAGES.insert(ids().1, now(), BPF_ANY);
}

/// Fills in what all descriptors of a call have in common; false when they are nobody's business.
#[inline(always)]
fn begin(ctx: *mut c_void, task: Task, call: &mut Call, taker: Taker) -> bool {
    let (tgid, tid) = ids();
    if tgid == config::get!(tracer) || !filter::admits(tgid) || task.is_32_bit() {
        return false;
    }
    let files = task.plain().files();
    call.slots = files.fdt().fd();
    call.record = Acquired {
        tag: Tag::Acquired as u8,
        reserved: 0,
        syscall: task.syscall().0,
        tid,
        key: 0,
        time: now(),
        user_stack: stacks::take_user(ctx, task, tgid, taker),
        handle: 0,
        files: files.address(),
        tgid,
        reserved2: 0,
    };
    true
}

/// Remembers one descriptor, and tells of it.
#[inline(always)]
fn install(record: &mut Acquired, fd: u32, file: Ptr<file>) {
    if fd > descriptor::LAST_NUMBER {
        count(Counter::LostDescriptors);
        return;
    }
    if fd <= LAST_STANDARD || file.is_null() {
        return;
    }
    record.handle = file.address();
    record.key = descriptor::key(record.files, fd);
    if ACQUIRED.insert(record.key, *record, BPF_ANY).is_err() {
        count(Counter::LostDescriptors);
    }
    events::send(record);
}

/// Takes the next descriptor of the messages; 0 when there is none. Global functions, which the verifier checks once and not
/// once for each round; such functions take numbers only.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn acquired_next(number: u32) -> i32 {
    let Some(call) = CALL.get_ptr_mut(number) else { return 0 };
    // SAFETY: as above.
    let call = unsafe { &mut *call };
    if call.left == 0 {
        return acquired_seek(number);
    }
    let fd: u32 = read_user(call.data);
    call.data += 4;
    call.left -= 1;
    install(&mut call.record, fd, call.slots.nth(fd.into()));
    1
}

/// Finds the next header that brings descriptors; 0 when there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn acquired_seek(number: u32) -> i32 {
    let mut headers = 0;
    while headers < MAX_HEADERS {
        let found = acquired_header(number);
        if found >= 0 {
            return found;
        }
        headers += 1;
    }
    0
}

/// Looks at the next header, or goes on to the next message: 1 when it brings descriptors, 0 at the end of all, or -1.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn acquired_header(number: u32) -> i32 {
    let Some(call) = CALL.get_ptr_mut(number) else { return 0 };
    // SAFETY: as above.
    let call = unsafe { &mut *call };
    let room = call.end.wrapping_sub(call.header);
    let length: u64 = if room >= HEADER_BYTES && call.header != 0 { read_user(call.header) } else { 0 };
    if length < HEADER_BYTES || length > room {
        return next_message(call);
    }
    let at = call.header;
    call.header = at + ((length + 7) & !7);
    if call.header > call.end {
        call.header = call.end;
    }
    if read_user::<i32>(at + 8) != SOL_SOCKET || read_user::<i32>(at + 12) != SCM_RIGHTS {
        return -1;
    }
    call.data = at + HEADER_BYTES;
    let count = (length - HEADER_BYTES) / 4;
    call.left = if count > MAX_RIGHTS { MAX_RIGHTS } else { count };
    1
}

#[inline(always)]
fn next_message(call: &mut Call) -> i32 {
    if call.messages == 0 {
        return 0;
    }
    call.header = read_user(call.message + CONTROL);
    call.end = call.header.wrapping_add(read_user(call.message + CONTROL_LENGTH));
    call.message += MESSAGE_BYTES;
    call.messages -= 1;
    // What came by another message was got by another call, as far as it is counted.
    call.record.time += 1;
    -1
}

#[inline(always)]
fn read_user<T: Copy + Default>(address: u64) -> T {
    // SAFETY: a probe read never faults, and a `T` is made of integers.
    unsafe { bpf_probe_read_user(address as *const T) }.unwrap_or_default()
}

/// What was acquired with that key.
#[inline(always)]
pub(crate) fn get(key: u64) -> Option<Acquired> {
    // SAFETY: not null, and a value of the map, whose memory stays. One that is replaced meanwhile is another.
    ACQUIRED.get_ptr(key).map(|record| unsafe { *record })
}

/// Whether a descriptor is still the one that was acquired.
#[inline(always)]
pub(crate) fn is_there(record: &Acquired) -> bool {
    let table = Ptr::<files_struct>::at(record.files).fdt();
    table.entry(record.key as u32 & descriptor::LAST_NUMBER).address() == record.handle && is_same(record)
}

/// Whether the handle is the one that the descriptor was acquired for, and not a younger one at the same address.
#[inline(always)]
pub(crate) fn is_same(record: &Acquired) -> bool {
    handles::get(record.handle).is_none_or(|entry| entry.generation < record.time)
}
