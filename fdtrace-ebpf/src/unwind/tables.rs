//! User stacks by the programs' unwind tables: exact without frame pointers.
//!
//! Each address of a stack is looked up in PC_CACHE, which says where in which file it lies and how its frame leads to the
//! caller's. An address that is met for the first time in an address space is found in the process's mappings, and its
//! rule in UNWIND_RULES, where it is once one process has been there before. A place that nobody has been to is user space's to
//! look up: it is asked, with the rest of the stack, and answers by putting the rule into UNWIND_RULES. So stacks are named
//! by files and offsets, the same for every process that runs the same code.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{HashMap, LruHashMap},
};
use fdtrace_common::{
    counters::Counter,
    hash,
    unwind::{ANONYMOUS, Code, Registers, Rule, VDSO, end, kind, module_key, note, place_key},
    wire::{DUMP_BYTES, MAX_FRAMES, Side},
};

use super::{
    mappings::{self, Node},
    memory::{self, Memory},
    pc_cache,
    trace::Trace,
};
use crate::{
    counters::count,
    kernel::{Ptr, file, mm_struct},
    task::{Space, Task, now},
};

const BPF_ANY: u64 = 0;

/// How often one address is asked for before there is an answer, each time with the whole stack: a program can open
/// hundreds of files before its tables are read.
const MAX_MISSES: u32 = 1024;
/// From then on with less of the stack: so many more stacks find room in the ring.
const MANY_MISSES: u32 = 64;
const SMALL_WINDOW: u64 = 2 << 10;

/// The vDSO is at most so long.
const VDSO_BYTES: u64 = 4 << 12;
const PAGE_SHIFT: u64 = 12;

/// What a function may have pushed between its return address, which is read first, and the caller's frame pointer: five
/// other registers.
const REGISTERS_BYTES: u64 = 48;

/// Addresses that were met, by [`place_key`] of the address space and the address. An evicted one is looked up again.
#[map]
static PC_CACHE: LruHashMap<u64, Code> = LruHashMap::with_max_entries(65536, 0);

/// What user space has found out, by [`place_key`] of the module and the offset. User space empties it when it is full.
#[map]
static UNWIND_RULES: HashMap<u64, Rule> = HashMap::with_max_entries(65536, 0);

/// How often user space was asked for an address, by its key in PC_CACHE.
#[map]
static UNWIND_MISSES: LruHashMap<u64, u32> = LruHashMap::with_max_entries(4096, 0);

/// What the walk needs besides the stack's own record.
#[repr(C)]
pub(crate) struct Workspace {
    memory: Memory,
    pub(crate) node: Node,
    walk: Walk,
    /// Where the walk has stopped, if a rule was missing.
    pub(crate) stopped: Stopped,
    /// The innermost code of an interpreter.
    pub(crate) met: Met,
    /// Where the walk begins, and what it depended on.
    pub(crate) start: Registers,
    pub(crate) trace: Trace,
    /// Each frame's stack pointer, innermost first; room for one more, as in [`Frames`].
    pub(crate) stacks: [u64; MAX_FRAMES + 1],
}

/// Where a walk met an interpreter.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) struct Met {
    /// Its file; 0 for none.
    pub(crate) module: u64,
    /// Where the file's first byte would be.
    pub(crate) start: u64,
}

impl Workspace {
    /// Memory for a walk that reads nothing but the stack.
    #[inline(always)]
    pub(crate) fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// The name of the address space.
    #[inline(always)]
    pub(crate) const fn space(&self) -> u64 {
        self.walk.space.name
    }

    /// The same, and where its memory is described.
    #[inline(always)]
    pub(crate) const fn address_space(&self) -> Space {
        self.walk.space
    }
}

/// How far a walk is. In memory between the steps, where the verifier knows nothing of its values: in registers, every
/// way through a step would be another way through all that follow.
#[repr(C)]
struct Walk {
    at: Registers,
    space: Space,
    hash: u64,
    /// The address of what is in [`Memory`].
    block: u64,
    frames: u32,
    /// 1 when the instruction pointer is a return address.
    returns: u8,
    /// Bits of [`note`], of all frames.
    notes: u8,
    /// One of [`end`].
    how: u8,
    reserved: u8,
}

/// Where a walk stopped for want of a rule.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Stopped {
    pub(crate) registers: Registers,
    pub(crate) space: u64,
    pub(crate) module: u64,
    pub(crate) offset: u64,
    pub(crate) mm: Ptr<mm_struct>,
    /// No frame lies above, on the first thread's stack.
    pub(crate) top: u64,
    pub(crate) exact: u64,
    /// How many bytes of the stack are worth sending.
    pub(crate) room: u64,
}

/// Places, innermost first; room for one more than are taken, so that the verifier sees that an index fits.
pub(crate) type Frames = [u64; (MAX_FRAMES + 1) * Side::Code.words()];

/// What a walk has found: frames of two words each, the stack's name, and how it ended.
#[repr(C)]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Walked {
    pub(crate) name: u64,
    pub(crate) frames: u32,
    pub(crate) end: u8,
    /// 1 where it is complete if what made code as the process ran keeps frame pointers.
    pub(crate) completes: u8,
    pub(crate) reserved: u16,
}

/// Prepares a walk of the current task's stack.
#[inline(always)]
pub(crate) fn begin(task: Task, start: Registers, work: &mut Workspace) {
    task.note_space(&mut work.walk.space);
    work.start = start;
}

/// Goes from frame to frame, from where [`begin`] was told: `steps` takes each [`step`], innermost first, until one is the last.
/// What the walk depended on is noted where that `is_wanted`.
#[inline(always)]
pub(crate) fn walk(work: &mut Workspace, is_wanted: bool, steps: impl Fn()) -> Walked {
    work.walk = Walk {
        at: work.start,
        space: work.walk.space,
        hash: hash::SEED,
        block: 0,
        frames: 0,
        returns: 0,
        notes: 0,
        how: end::CUT,
        reserved: 0,
    };
    work.met = Met::default();
    work.trace.begin(is_wanted);
    steps();
    let walk = &work.walk;
    if walk.how != end::COMPLETE {
        work.trace.give_up();
    }
    let completes = walk.how == end::COMPLETE && walk.notes & note::GUESSED == 0;
    let is_sure = completes && walk.notes & note::MADE == 0;
    let how = if walk.how == end::COMPLETE && !is_sure { end::CUT } else { walk.how };
    Walked {
        frames: walk.frames,
        end: how,
        completes: u8::from(completes),
        reserved: 0,
        name: hash::finish(hash::mix(walk.hash, u64::from(how))),
    }
}

/// Takes one frame, and goes to its caller; false when the walk is over. `made` has the rule of code that a runtime made, and where that
/// has its file.
#[inline(always)]
pub(crate) fn step(
    work: &mut Workspace,
    frames: &mut Frames,
    made: impl Fn(Registers) -> Option<(Rule, Met)>,
) -> bool {
    let walk = &mut work.walk;
    // A return address may be another function's first: the call lies before it.
    let address = walk.at.instruction.wrapping_sub(u64::from(walk.returns));
    let pc_cache = pc_cache::key(walk.space.name, address);
    let code = match pc_cache::find(pc_cache) {
        Some(code) => code,
        None => match far(walk, pc_cache, address, &mut work.node, &mut work.stopped) {
            Some(code) => code,
            None => return false,
        },
    };
    let mut rule = code.rule;
    if code.module == ANONYMOUS
        && let Some((found, met)) = made(walk.at)
    {
        (rule, work.met) = (found, met);
    }
    if code.module == ANONYMOUS {
        work.trace.give_up();
    }
    let slot = (walk.frames as usize & MAX_FRAMES) * Side::Code.words();
    frames[slot] = code.module;
    frames[slot + 1] = code.offset;
    work.stacks[walk.frames as usize & MAX_FRAMES] = walk.at.stack;
    walk.frames += 1;
    walk.hash = hash::mix(hash::mix(walk.hash, code.module), code.offset);
    walk.notes |= rule.notes;
    // The innermost counts: further out V8 may run from the copy that it has made of its own code, from where nothing else is found.
    if rule.notes & note::INTERPRETER != 0 && work.met.module == 0 {
        work.met = Met { module: code.module, start: address.wrapping_sub(code.offset) };
    }
    work.trace.note_use(rule, walk.at);
    let (memory, block) = (&mut work.memory, &mut walk.block);
    let Some(caller) = rule.caller(walk.at, |address| word(memory, block, address)) else {
        if rule.begins(walk.at) {
            walk.how = end::COMPLETE;
        }
        return false;
    };
    work.trace.note_caller(rule, walk.at, caller);
    walk.at = caller;
    walk.returns = u8::from(rule.kind != kind::SIGNAL);
    if caller.instruction == 0 {
        walk.how = end::COMPLETE;
        return false;
    }
    true
}

/// An address that is not near.
#[inline(always)]
fn far(walk: &mut Walk, pc_cache: u64, address: u64, node: &mut Node, stopped: &mut Stopped) -> Option<Code> {
    let key = place_key(walk.space.name, address);
    let code = match PC_CACHE.get_ptr(key) {
        // SAFETY: the pointer is to a value of the map, not null.
        Some(known) => unsafe { *known },
        None => meet(walk, key, address, node, stopped)?,
    };
    // A rule that is missing may come: it is looked for again.
    if code.rule.kind != kind::UNKNOWN {
        pc_cache::keep(pc_cache, code);
    }
    Some(code)
}

/// Finds out what an address is that was not met before; `None` when its rule is missing, for which user space may be
/// asked.
#[inline(always)]
fn meet(walk: &mut Walk, key: u64, address: u64, node: &mut Node, stopped: &mut Stopped) -> Option<Code> {
    let mut place = find(walk.space.mm, address, node);
    if learn(&mut place, key) {
        return Some(place.code);
    }
    *stopped = Stopped {
        registers: walk.at,
        space: walk.space.name,
        module: place.code.module,
        offset: place.code.offset,
        mm: walk.space.mm,
        top: walk.space.mm.start_stack(),
        exact: u64::from(walk.returns == 0),
        room: DUMP_BYTES as u64,
    };
    let asked = ask(key);
    if asked > MANY_MISSES {
        stopped.room = SMALL_WINDOW;
    }
    if asked > MAX_MISSES {
        // The stack ends here, and says where that is.
        count(Counter::LostStacks);
        return Some(place.code);
    }
    walk.how = end::ASKED;
    // No other stack is completed under this name. The time alone is not enough: with some clocks (HPET) the kernel gives
    // two CPUs that ask at once one answer.
    walk.hash = hash::mix(hash::mix(walk.hash, bpf_get_current_pid_tgid()), now());
    None
}

#[inline(always)]
fn word(memory: &mut Memory, block: &mut u64, address: u64) -> Option<u64> {
    // The word that is wanted is the second of a pair more often than not: it lies below the CFA, above a register.
    memory::pair(memory, block, address.wrapping_sub(8), REGISTERS_BYTES).map(|(_, word)| word)
}

/// An address as its mapping has it.
#[derive(Clone, Copy)]
struct Place {
    code: Code,
    known: bool,
}

/// Where in which file an address lies. Anonymous code was made by a compiler that keeps frame pointers, or nobody can
/// follow it.
#[inline(always)]
fn find(mm: Ptr<mm_struct>, address: u64, node: &mut Node) -> Place {
    let nowhere = Code { module: ANONYMOUS, offset: address, rule: Rule::UNKNOWN };
    let Some(mapping) = mappings::find(mm, address, node) else {
        return Place { code: nowhere, known: false };
    };
    if !mapping.file.is_null() {
        let offset = address.wrapping_sub(mapping.start).wrapping_add(mapping.page << PAGE_SHIFT);
        let code = Code { module: module(mapping.file), offset, rule: Rule::UNKNOWN };
        return Place { code, known: false };
    }
    let vdso = mm.vdso();
    if address.wrapping_sub(vdso) < VDSO_BYTES {
        let code = Code { module: VDSO, offset: address.wrapping_sub(vdso), rule: Rule::UNKNOWN };
        return Place { code, known: false };
    }
    let rule = Rule { notes: note::MADE, ..Rule::FRAME_POINTER };
    Place { code: Code { rule, ..nowhere }, known: true }
}

#[inline(always)]
pub(crate) fn module(file: Ptr<file>) -> u64 {
    let inode = file.f_inode();
    module_key(inode.i_sb().s_dev(), inode.i_ino(), inode.mtime_sec(), inode.mtime_nsec().into())
}

/// Finds the rule of a place, and remembers it for this address space; false when there is none yet.
#[inline(always)]
fn learn(place: &mut Place, key: u64) -> bool {
    if !place.known {
        if place.code.module == ANONYMOUS {
            return false;
        }
        let Some(rule) = UNWIND_RULES.get_ptr(place_key(place.code.module, place.code.offset)) else {
            return false;
        };
        // SAFETY: the pointer is to a value of the map, not null.
        place.code.rule = unsafe { *rule };
    }
    // Where there is no room, it is found again.
    let _ = PC_CACHE.insert(key, place.code, BPF_ANY);
    true
}

/// How often an address was asked for, this time included.
#[inline(always)]
fn ask(key: u64) -> u32 {
    if let Some(asked) = UNWIND_MISSES.get_ptr_mut(key) {
        // SAFETY: the pointer is to a value of the map, not null; a race with another CPU loses a count.
        return unsafe {
            *asked += 1;
            *asked
        };
    }
    let _ = UNWIND_MISSES.insert(key, 1, BPF_ANY);
    1
}
