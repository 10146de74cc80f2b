//! Which handles were made by one system call.

use std::collections::HashMap;

use crate::stream::Alloc;

/// Threads whose last message is remembered.
const MAX_THREADS: usize = 1 << 16;

/// Numbers calls.
#[derive(Clone, Default)]
pub(crate) struct Calls {
    numbered: u64,
    /// The first handle of two that a thread gets from one call, and the call.
    pairs: HashMap<u32, (u64, u64)>,
    /// How many handles live of calls that make several.
    live: HashMap<u64, u16>,
    /// The message that a thread was given descriptors by last, and the call.
    messages: HashMap<u32, (u64, u64)>,
}

impl Calls {
    /// The number of the call that made a handle, and whether the handle is its first. `pipe` and `socketpair` make two in one
    /// call, one right after the other.
    pub(crate) fn number(&mut self, alloc: &Alloc) -> (u64, bool) {
        if alloc.call.acquired {
            return self.number_acquired(alloc);
        }
        let two = makes_two(alloc);
        if two && let Some((_, call)) = self.pairs.remove(&alloc.tid) {
            *self.live.entry(call).or_default() += 1;
            return (call, false);
        }
        self.numbered += 1;
        if two {
            self.pairs.insert(alloc.tid, (alloc.handle, self.numbered));
            self.live.insert(self.numbered, 1);
        }
        (self.numbered, true)
    }

    /// The descriptors of one message have come at one moment.
    fn number_acquired(&mut self, alloc: &Alloc) -> (u64, bool) {
        if let Some((time, call)) = self.messages.get(&alloc.tid).copied()
            && time == alloc.generation
            && let Some(live) = self.live.get_mut(&call)
        {
            *live += 1;
            return (call, false);
        }
        if self.messages.len() > MAX_THREADS {
            self.messages.clear();
        }
        self.numbered += 1;
        self.messages.insert(alloc.tid, (alloc.generation, self.numbered));
        self.live.insert(self.numbered, 1);
        (self.numbered, true)
    }

    /// A handle of a call is gone; says whether it was the last one.
    pub(crate) fn release(&mut self, handle: u64, call: u64) -> bool {
        // A call that fails after the first of two takes that one back.
        if !self.pairs.is_empty() {
            self.pairs.retain(|_, (first, _)| *first != handle);
        }
        let Some(live) = self.live.get_mut(&call) else { return true };
        *live -= 1;
        if *live > 0 {
            return false;
        }
        self.live.remove(&call);
        true
    }
}

/// System calls that make two handles.
fn makes_two(alloc: &Alloc) -> bool {
    #[cfg(target_arch = "x86_64")]
    let pipe = alloc.call.is(libc::SYS_pipe);
    #[cfg(not(target_arch = "x86_64"))]
    let pipe = false;
    pipe || alloc.call.is(libc::SYS_pipe2) || alloc.call.is(libc::SYS_socketpair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Call;

    fn alloc(handle: u64, tid: u32, syscall: libc::c_long) -> Alloc {
        let call = Call { syscall: u16::try_from(syscall).ok(), user_stack: handle, ..Call::default() };
        Alloc { handle, generation: 2, tgid: 1, tid, call }
    }

    #[test]
    fn descriptors_of_one_message_are_one_call() {
        let mut calls = Calls::default();
        let acquired = |calls: &mut Calls, key, time| {
            let alloc = alloc(key, 1, libc::SYS_recvmsg);
            let call = Call { acquired: true, ..alloc.call };
            calls.number(&Alloc { generation: time, call, ..alloc })
        };
        let (first, is_first) = acquired(&mut calls, 8, 10);
        assert!(is_first);
        assert_eq!(acquired(&mut calls, 16, 10), (first, false));
        assert_ne!(acquired(&mut calls, 24, 11).0, first);
        assert!(!calls.release(8, first), "the other one is open");
        assert!(calls.release(16, first));
    }

    #[test]
    fn a_pipe_is_one_call_also_beside_another_threads() {
        let mut calls = Calls::default();
        let pipe = |calls: &mut Calls, handle, tid| calls.number(&alloc(handle, tid, libc::SYS_pipe2)).0;
        let (one, other) = (pipe(&mut calls, 8, 1), pipe(&mut calls, 16, 2));
        assert_ne!(one, other);
        assert_eq!((pipe(&mut calls, 24, 1), pipe(&mut calls, 32, 2)), (one, other));
        assert_ne!(pipe(&mut calls, 40, 1), one);
        assert!(!calls.release(8, one), "the other end lives");
        assert!(calls.release(24, one));
    }

    #[test]
    fn a_pipe_that_fails_leaves_nothing_half() {
        let mut calls = Calls::default();
        let (first, _) = calls.number(&alloc(8, 1, libc::SYS_socketpair));
        assert!(calls.release(8, first));
        let (second, _) = calls.number(&alloc(16, 1, libc::SYS_socketpair));
        assert_ne!(first, second);
        assert_eq!(calls.number(&alloc(24, 1, libc::SYS_socketpair)), (second, false));
        let (open, _) = calls.number(&alloc(32, 1, libc::SYS_openat));
        assert_ne!(open, calls.number(&alloc(40, 1, libc::SYS_openat)).0);
        assert!(calls.release(32, open));
    }
}
