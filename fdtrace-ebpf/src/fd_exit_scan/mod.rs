//! What is open when a program ends: one walk over the table of descriptors that goes away.
//!
//! The steps of the walk are global functions, which the verifier checks once and not once for each round of the loop.
//! Such a function takes numbers only, so it finds the walk by the number of the program that it belongs to.

mod hung_up;
mod path;
mod sharing;
mod threads;

pub(crate) use sharing::{is_shared, share};
pub(crate) use threads::{cut, ending};

use aya_ebpf::{
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use fdtrace_common::{
    counters::Counter,
    description::{Description, NAME_LEN},
    descriptor, hash,
    wire::{Moment, OPEN_PATH_LEN, Open, OpenWhat, Tag},
};

use crate::{
    acquired::{self, ACQUIRED},
    config,
    counters::count,
    description, events, handles,
    kernel::{Ptr, file, files_struct},
    task::{current_thread, now},
};

const BPF_ANY: u64 = 0;

/// A walk has so many stretches of so many rounds at most: a round is a word of the table's bits, or a descriptor.
const STRETCHES: u32 = 256;
const ROUNDS: u32 = 512;

/// So many handles of each stack of a process are described.
const MAX_DESCRIBED: u32 = 4;

/// A walk, in memory between its rounds: in registers, every way through a round would be another way through all that
/// follow.
#[repr(C)]
struct Walk {
    open: Open,
    what: OpenWhat,
    climb: path::Climb,
    /// Whose table it is.
    files: Ptr<files_struct>,
    /// The `struct file` of the descriptor that was reported last.
    file: Ptr<file>,
    /// `fdtable.fd`
    slots: Ptr<Ptr<file>>,
    /// `fdtable.open_fds`
    open_bits: Ptr<u64>,
    /// `fdtable.close_on_exec`
    close_bits: Ptr<u64>,
    /// The descriptors that are left of the current word.
    word: u64,
    /// The close-on-exec flags of the current word.
    close: u64,
    /// First descriptor of the current word.
    base: u32,
    /// First descriptor of the next word.
    next: u32,
    /// `fdtable.max_fds`
    length: u32,
    reserved: u32,
}

/// The walks of each CPU: at an exit, and at an exec. One program each, which the kernel never runs twice at once on a CPU.
#[map]
static WALKS: PerCpuArray<Walk> = PerCpuArray::with_max_entries(2, 0);

/// How many handles of a stack were described. An evicted stack is described again.
#[map]
static DESCRIBED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(8192, 0);

/// Tells of all traced handles that the table of a task has open; at an exec, of those that it closes.
#[inline(always)]
pub(crate) fn walk(files: Ptr<files_struct>, tgid: u32, moment: Moment, of_thread: bool) {
    let number = moment as u32;
    let Some(walk) = WALKS.get_ptr_mut(number) else { return };
    // SAFETY: the map's value is one `Walk`, which only this program uses on this CPU.
    begin(unsafe { &mut *walk }, files, tgid, moment, u8::from(of_thread));
    let mut stretches = 0;
    while stretches < STRETCHES {
        if fd_scan_stretch(number) == 0 {
            return;
        }
        stretches += 1;
    }
    count(Counter::CutWalks);
}

/// Some rounds; 0 at the end of the table.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fd_scan_stretch(number: u32) -> i32 {
    let mut rounds = 0;
    while rounds < ROUNDS {
        if fd_scan_round(number) == 0 {
            return 0;
        }
        rounds += 1;
    }
    1
}

#[inline(always)]
fn begin(walk: &mut Walk, files: Ptr<files_struct>, tgid: u32, moment: Moment, of_thread: u8) {
    let table = files.fdt();
    walk.open = Open {
        tag: Tag::Open as u8,
        moment: moment as u8,
        close_on_exec: 0,
        socket_state: 0,
        tgid,
        handle: 0,
        generation: 0,
        time: now(),
        fd: 0,
        deleted: 0,
        of_thread,
        reserved: 0,
        tid: current_thread(),
        waiting: 0,
    };
    walk.files = files;
    walk.slots = table.fd();
    walk.open_bits = table.open_fds();
    walk.close_bits = table.close_on_exec();
    walk.length = table.max_fds();
    walk.word = 0;
    walk.close = 0;
    walk.base = 0;
    walk.next = 0;
}

/// One round: the next word of the table's bits, or the next descriptor of this one; 0 when there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fd_scan_round(number: u32) -> i32 {
    let Some(walk) = WALKS.get_ptr_mut(number) else { return 0 };
    // SAFETY: as above.
    let walk = unsafe { &mut *walk };
    if walk.word == 0 {
        return i32::from(next_word(walk));
    }
    let bit = walk.word.trailing_zeros();
    walk.word &= walk.word - 1;
    let fd = walk.base + bit;
    walk.file = walk.slots.nth(fd.into());
    let handle = walk.file.address();
    walk.open.fd = fd;
    walk.open.close_on_exec = (walk.close >> bit) as u8 & 1;
    if config::get!(acquired) != 0 {
        fd_scan_acquired(number);
    }
    let Some(entry) = handles::get(handle) else { return 1 };
    walk.open.handle = handle;
    walk.open.generation = entry.generation;
    if tell(walk) && is_to_be_described(entry.user_stack, entry.tgid, entry.detail) {
        fd_scan_description(number);
    }
    1
}

/// Tells of the descriptor itself, if it was acquired by its process; its handle may be nobody's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fd_scan_acquired(number: u32) -> i32 {
    let Some(walk) = WALKS.get_ptr_mut(number) else { return 0 };
    // SAFETY: as above.
    let walk = unsafe { &mut *walk };
    let key = descriptor::key(walk.files.address(), walk.open.fd);
    let Some(record) = ACQUIRED.get_ptr(key) else { return 0 };
    // SAFETY: the pointer is to a value of the map, not null.
    let record = unsafe { *record };
    // An entry may have been left behind by another process with a table at the same address.
    if record.handle != walk.file.address() || record.tgid != walk.open.tgid || !acquired::is_same(&record) {
        return 0;
    }
    let _ = ACQUIRED.remove(key);
    walk.open.handle = key;
    walk.open.generation = record.time;
    if tell(walk) && is_to_be_described(record.user_stack, record.tgid, record.syscall as u32) {
        fd_scan_description(number);
    }
    0
}

#[inline(always)]
fn tell(walk: &mut Walk) -> bool {
    let inode = walk.file.f_inode();
    let sock = description::sock_of(walk.file, inode);
    walk.open.socket_state = sock.state();
    walk.open.waiting = hung_up::since(sock, walk.open.socket_state, walk.open.time);
    walk.open.deleted = u8::from(description::is_deleted(walk.file, inode));
    let reported = events::tell(&walk.open);
    if !reported {
        count(Counter::LostEnds);
    }
    reported
}

#[inline(always)]
fn next_word(walk: &mut Walk) -> bool {
    if walk.next >= walk.length {
        return false;
    }
    let at = u64::from(walk.next / u64::BITS);
    walk.close = walk.close_bits.nth(at);
    walk.word = walk.open_bits.nth(at);
    if walk.open.moment == Moment::Exec as u8 {
        walk.word &= walk.close;
    }
    walk.base = walk.next;
    walk.next += u64::BITS;
    true
}

/// Whether a handle is one of the first of its stack and process.
#[inline(always)]
fn is_to_be_described(user_stack: u64, tgid: u32, detail: u32) -> bool {
    let stack = hash::mix(hash::mix(user_stack, tgid.into()), detail.into());
    let Some(described) = DESCRIBED.get_ptr_mut(stack) else {
        let _ = DESCRIBED.insert(stack, 1, BPF_ANY);
        return true;
    };
    // SAFETY: the pointer is to a value of the map, not null; a race with another CPU loses a count.
    unsafe {
        *described += 1;
        *described <= MAX_DESCRIBED
    }
}

/// Tells what the handle is that was reported last.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fd_scan_description(number: u32) -> i32 {
    let Some(walk) = WALKS.get_ptr_mut(number) else { return 0 };
    // SAFETY: as above.
    let walk = unsafe { &mut *walk };
    let inode = walk.file.f_inode();
    if inode.is_null() {
        return 0;
    }
    walk.what.tag = Tag::OpenWhat as u8;
    walk.what.reserved = 0;
    walk.what.fd = walk.open.fd;
    walk.what.tgid = walk.open.tgid;
    walk.what.description.handle = walk.file.address();
    walk.what.description.generation = walk.open.generation;
    description::describe(&mut walk.what.description, inode);
    walk.what.description.handle = walk.open.handle;
    path::begin(&mut walk.climb, walk.file);
    walk.what.deleted = u8::from(path::is_deleted(walk.file.dentry()));
    let mut steps = 0;
    while steps < path::MAX_STEPS {
        if fd_scan_climb(number) == 0 {
            break;
        }
        steps += 1;
    }
    walk.what.path_bytes = walk.climb.bytes;
    walk.what.path_end = walk.climb.end;
    if !events::tell(&walk.what) {
        count(Counter::LostStacks);
    }
    0
}

/// One step towards the root; 0 when there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fd_scan_climb(number: u32) -> i32 {
    let Some(walk) = WALKS.get_ptr_mut(number) else { return 0 };
    // SAFETY: as above.
    let walk = unsafe { &mut *walk };
    i32::from(path::climb(&mut walk.climb, &mut walk.what.path))
}

const _: () = assert!(size_of::<Description>() > NAME_LEN && OPEN_PATH_LEN.is_power_of_two());
