//! The state that an interpreter keeps of the current thread.

use fdtrace_common::scripts::{ABSENT, Interpreter};

use super::memory::word;

/// `struct pthread.specific_1stblock` of the GNU C library on x86_64, and what an entry has: a sequence number and the value.
/// The library's first 32 keys are there.
const FIRST_KEYS: u32 = 0x310;
const KEY_BYTES: u32 = 16;
const KEY_VALUE: u32 = 8;
const KEYS: u32 = 32;

/// Threads of the interpreter that are looked through where no key leads there, the youngest first.
const MAX_THREADS: u32 = 64;

/// 0 for a thread that the interpreter does not know. `pthread_self` returns the address of the thread's own memory, so that
/// what was found can be checked.
#[inline(always)]
pub(super) fn find(has: &Interpreter, bias: u64, own: u64) -> u64 {
    let runtime = bias.wrapping_add(has.runtime);
    if has.thread_key != ABSENT {
        let key = word(runtime, has.thread_key) as u32;
        if key < KEYS {
            let state = word(own, FIRST_KEYS + key * KEY_BYTES + KEY_VALUE);
            if state != 0 && word(state, has.pthread) == own {
                return state;
            }
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
