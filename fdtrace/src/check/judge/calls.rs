//! Which handles were made by one system call.

use std::collections::HashMap;

use crate::stream::Alloc;

/// Numbers calls.
#[derive(Default)]
pub(crate) struct Calls {
    numbered: u64,
    /// The first handle of two that a thread gets from one call, and the call.
    pairs: HashMap<u32, (u64, u64)>,
}

impl Calls {
    /// The number of the call that made a handle. `pipe` and `socketpair` make two in one call, one right after the other.
    pub(crate) fn number(&mut self, alloc: &Alloc) -> u64 {
        if !makes_two(alloc) {
            self.numbered += 1;
            return self.numbered;
        }
        if let Some((_, call)) = self.pairs.remove(&alloc.tid) {
            return call;
        }
        self.numbered += 1;
        self.pairs.insert(alloc.tid, (alloc.handle, self.numbered));
        self.numbered
    }

    /// A call that fails after the first of two takes that one back.
    pub(crate) fn release(&mut self, handle: u64) {
        if !self.pairs.is_empty() {
            self.pairs.retain(|_, (first, _)| *first != handle);
        }
    }
}

/// System calls that make two handles.
fn makes_two(alloc: &Alloc) -> bool {
    let is =
        |number: libc::c_long| alloc.call.syscall.is_some_and(|known| libc::c_long::from(known) == number);
    #[cfg(target_arch = "x86_64")]
    let pipe = is(libc::SYS_pipe);
    #[cfg(not(target_arch = "x86_64"))]
    let pipe = false;
    pipe || is(libc::SYS_pipe2) || is(libc::SYS_socketpair)
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
    fn a_pipe_is_one_call_also_beside_another_threads() {
        let mut calls = Calls::default();
        let pipe = |calls: &mut Calls, handle, tid| calls.number(&alloc(handle, tid, libc::SYS_pipe2));
        let (one, other) = (pipe(&mut calls, 8, 1), pipe(&mut calls, 16, 2));
        assert_ne!(one, other);
        assert_eq!((pipe(&mut calls, 24, 1), pipe(&mut calls, 32, 2)), (one, other));
        assert_ne!(pipe(&mut calls, 40, 1), one);
    }

    #[test]
    fn a_pipe_that_fails_leaves_nothing_half() {
        let mut calls = Calls::default();
        let first = calls.number(&alloc(8, 1, libc::SYS_socketpair));
        calls.release(8);
        let second = calls.number(&alloc(16, 1, libc::SYS_socketpair));
        assert_ne!(first, second);
        assert_eq!(calls.number(&alloc(24, 1, libc::SYS_socketpair)), second);
        assert_ne!(
            calls.number(&alloc(32, 1, libc::SYS_openat)),
            calls.number(&alloc(40, 1, libc::SYS_openat))
        );
    }
}
