//! What the code of functions says that every build exports, of things that have no symbol in stripped ones.

use serde::{Deserialize, Serialize};

use crate::runtimes::memory::Memory;

/// Where a thread-local variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ThreadLocal {
    /// The loader decides: at this address it says the module, and behind that the offset.
    Dynamic(u64),
    /// So far from the thread's own memory.
    Static(i32),
}

/// `endbr64`, and what keeps the stack aligned.
const LANDING: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const ALIGNED: &[u8] = &[0x48, 0x83, 0xec, 0x08];

/// The variable that a function loads first: `rb_thread_current` has the thread from the context.
pub(super) fn thread_local(memory: &(impl Memory + ?Sized), function: u64) -> Option<ThreadLocal> {
    let code = memory.array::<32>(function, 0)?;
    let mut rest = &code[..];
    for prefix in [LANDING, ALIGNED] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    let next = function.checked_add((code.len() - rest.len()) as u64)?;
    match *rest {
        // `data16 lea rdi, [rip + distance]`, and a call of `__tls_get_addr` that is as long as the linker wants it.
        [0x66, 0x48, 0x8d, 0x3d, a, b, c, d, 0x66, 0x66, 0x48, 0xe8, ..]
        | [0x66, 0x48, 0x8d, 0x3d, a, b, c, d, 0x66, 0x48, 0xff, 0x15, ..] => {
            let distance = i32::from_le_bytes([a, b, c, d]);
            next.checked_add(8)?.checked_add_signed(distance.into()).map(ThreadLocal::Dynamic)
        }
        // `mov rax, fs:[offset]`; and `mov rax, offset; mov rax, fs:[rax]`, which linkers make of more.
        [0x64, 0x48, 0x8b, 0x04, 0x25, a, b, c, d, ..]
        | [0x48, 0xc7, 0xc0, a, b, c, d, 0x64, 0x48, 0x8b, 0x00, ..] => {
            Some(ThreadLocal::Static(i32::from_le_bytes([a, b, c, d])))
        }
        _ => None,
    }
}

/// How much of a function is looked at for its last jump, which is all there is of such a one.
const LOOKED_AT: usize = 256;

/// The one function that both of two end with, by a jump.
pub(super) fn both_end_with(memory: &(impl Memory + ?Sized), functions: [u64; 2]) -> Option<u64> {
    let [first, second] = functions.map(|function| jumps(memory, function));
    let mut both =
        first?.into_iter().filter(|target| second.as_ref().is_some_and(|all| all.contains(target)));
    both.next().filter(|found| both.all(|other| other == *found))
}

/// Where the jumps among so many bytes lead that lead out of them. Some are none: instructions are not told apart.
fn jumps(memory: &(impl Memory + ?Sized), function: u64) -> Option<Vec<u64>> {
    const JUMP: u8 = 0xe9;
    let code = memory.array::<LOOKED_AT>(function, 0)?;
    let found =
        code.windows(5).enumerate().filter(|(_, window)| window[0] == JUMP).filter_map(|(at, window)| {
            let distance = i32::from_le_bytes([window[1], window[2], window[3], window[4]]);
            function.checked_add(at as u64 + 5)?.checked_add_signed(distance.into())
        });
    Some(found.filter(|target| target.wrapping_sub(function) >= LOOKED_AT as u64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::memory::tests::Made;

    fn variable(code: &[u8]) -> Option<ThreadLocal> {
        let mut code = code.to_vec();
        code.resize(32, 0x90);
        thread_local(&Made(0x1000, code), 0x1000)
    }

    #[test]
    fn variables_of_a_thread() {
        let dynamic = [
            0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x83, 0xec, 0x08, 0x66, 0x48, 0x8d, 0x3d, 0x10, 0, 0, 0, 0x66,
            0x66, 0x48, 0xe8,
        ];
        assert_eq!(variable(&dynamic), Some(ThreadLocal::Dynamic(0x1020)));
        assert_eq!(variable(&dynamic[8..]), Some(ThreadLocal::Dynamic(0x1018)));
        let fixed = [0x64, 0x48, 0x8b, 0x04, 0x25, 0xf8, 0xff, 0xff, 0xff];
        let relaxed = [0x48, 0xc7, 0xc0, 0xf8, 0xff, 0xff, 0xff, 0x64, 0x48, 0x8b, 0x00];
        assert_eq!([variable(&fixed), variable(&relaxed)], [Some(ThreadLocal::Static(-8)); 2]);
        assert_eq!([variable(&dynamic[..16]), variable(&[]), variable(&[0x48, 0x8b])], [None; 3]);
        assert_eq!(thread_local(&Made(0x1000, vec![0x64; 8]), 0x1000), None);
    }

    #[test]
    fn a_jump_that_two_functions_have() {
        let mut code = vec![0x90; 2048];
        let mut jump = |at: usize, to: i32| {
            code[at] = 0xe9;
            let distance = to - i32::try_from(at).expect("small") - 5;
            code[at + 1..at + 5].copy_from_slice(&distance.to_le_bytes());
        };
        // One of each to its own, one inside of itself, and one to the same.
        jump(16, 1500);
        jump(32, 64);
        jump(48, 1024);
        jump(1536 + 8, 900);
        jump(1536 + 32, 1024);
        let memory = Made(0x1000, code);
        assert_eq!(both_end_with(&memory, [0x1000, 0x1600]), Some(0x1400));
        assert_eq!(both_end_with(&memory, [0x1000, 0x1300]), None);
        assert_eq!(both_end_with(&memory, [0x1000, 0x9000]), None);
    }
}
