//! The state that an interpreter keeps of the current thread.

use aya_ebpf::{macros::map, maps::Array};
use fdtrace_common::scripts::{ABSENT, Interpreter, local};

use super::memory::{read, word};

/// `struct pthread.specific_1stblock` of the GNU C library on x86_64, and what an entry has: a sequence number and the value.
/// The library's first 32 keys are there.
const FIRST_KEYS: u32 = 0x310;
const KEY_BYTES: u32 = 16;
const KEY_VALUE: u32 = 8;
const KEYS: u32 = 32;

/// Threads of the interpreter that are looked through where no key leads there, the youngest first.
const MAX_THREADS: u32 = 64;

/// What is read of a state; a power of two, which user space knows that all offsets are within.
pub(super) const STATE_WORDS: usize = 32;
const STATE_BYTES: u32 = 192;

/// A power of two.
const SLOTS: u32 = 1024;

/// Where the states of threads were found. What is found there is checked each time.
#[map]
static THREAD_STATES: Array<u64> = Array::with_max_entries(SLOTS, 0);

/// Reads the state; false for a thread that the interpreter does not know. `pthread_self` returns the address of the thread's
/// own memory, so that what was found can be checked.
#[inline(always)]
pub(super) fn find(
    has: &Interpreter,
    state: &mut [u64; STATE_WORDS],
    bias: u64,
    own: u64,
    space: u64,
) -> bool {
    let index = ((own ^ space).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as u32 & (SLOTS - 1);
    let Some(slot) = THREAD_STATES.get_ptr_mut(index) else { return false };
    // SAFETY: the pointer is to a value of the map, not null; any address may be there.
    let known = unsafe { *slot };
    if known != 0 && read(state, STATE_BYTES, known) && part(state, has.pthread) == own {
        return true;
    }
    let found = look_for(has, bias, own);
    // SAFETY: as above.
    unsafe { *slot = found };
    found != 0 && read(state, STATE_BYTES, found) && part(state, has.pthread) == own
}

#[inline(always)]
pub(super) fn part(state: &[u64; STATE_WORDS], offset: u32) -> u64 {
    state[(offset >> 3) as usize & (STATE_WORDS - 1)]
}

/// What a thread has under a key of `pthread_getspecific`; 0 where that is not known.
#[inline(always)]
pub(super) fn value(own: u64, key: u32) -> u64 {
    if key < KEYS { word(own, FIRST_KEYS + key * KEY_BYTES + KEY_VALUE) } else { 0 }
}

/// The vector of thread-local memory that a thread has in the GNU C library, and what an entry of it has.
const VECTOR: u32 = 8;
const ENTRY_BYTES: u32 = 16;
const MAX_ENTRIES: u64 = 1024;

/// What a thread-local variable has, which the interpreter says where to find.
#[inline(always)]
pub(super) fn local<const WORDS: usize>(
    has: &Interpreter,
    block: &mut [u64; WORDS],
    bias: u64,
    own: u64,
) -> u64 {
    let place = bias.wrapping_add(has.runtime);
    match has.thread_key {
        local::KEY => value(own, word(place, 0) as u32),
        local::LOADED => word(own.wrapping_add(word(place, 0)), 0),
        local::FIXED => word(own.wrapping_add(has.code_type), 0),
        _ => {
            if !read(block, 16, place) {
                return 0;
            }
            let (module, offset) = (block[0], block[1]);
            if module == 0 || module >= MAX_ENTRIES {
                return 0;
            }
            let own = word(word(own, VECTOR), module as u32 * ENTRY_BYTES);
            if own == 0 { 0 } else { word(own.wrapping_add(offset), 0) }
        }
    }
}

#[inline(always)]
fn look_for(has: &Interpreter, bias: u64, own: u64) -> u64 {
    let runtime = bias.wrapping_add(has.runtime);
    if has.thread_key != ABSENT {
        let state = value(own, word(runtime, has.thread_key) as u32);
        if state != 0 && word(state, has.pthread) == own {
            return state;
        }
    }
    let mut state = word(word(runtime, has.interpreters), has.threads);
    let mut looked = 0;
    while looked < MAX_THREADS {
        if state == 0 || word(state, has.pthread) == own {
            return state;
        }
        state = word(state, has.next_thread);
        looked += 1;
    }
    0
}
