//! Where a thread has its isolate, by the code of `v8::Isolate::GetCurrent`.

use serde::{Deserialize, Serialize};

use crate::runtimes::memory::Memory;

/// Where a thread has its isolate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Isolate {
    /// Under a key of `pthread_getspecific`, whose number is at this address.
    Key(u64),
    /// In a thread-local variable: the loader puts at this address how far it is from the thread's own memory.
    Loaded(u64),
    /// So far from the thread's own memory.
    Fixed(i32),
    /// The loader puts at this address the module, and behind that the offset.
    Dynamic(u64),
}

/// How much of the function is looked at.
const LOOKED_AT: usize = 64;
const JUMP_BYTES: usize = 5;

/// By the first instruction that is one of four; the function may be nothing but a jump to where they are.
pub(super) fn isolate(memory: &(impl Memory + ?Sized), function: u64) -> Option<Isolate> {
    let jump = memory.array::<JUMP_BYTES>(function, 0)?;
    let function = match jump {
        [0xe9, a, b, c, d] => {
            let next = function.checked_add(JUMP_BYTES as u64)?;
            next.checked_add_signed(i32::from_le_bytes([a, b, c, d]).into())?
        }
        _ => function,
    };
    let code = memory.array::<LOOKED_AT>(function, 0)?;
    (0..LOOKED_AT).find_map(|at| {
        let rest = &code[at..];
        let target = |length: u64, distance: [u8; 4]| {
            let next = function.checked_add(at as u64)?.checked_add(length)?;
            next.checked_add_signed(i32::from_le_bytes(distance).into())
        };
        match *rest {
            // `mov edi, [rip + distance]`, and a jump.
            [0x8b, 0x3d, a, b, c, d, 0xe9, ..] => target(6, [a, b, c, d]).map(Isolate::Key),
            // `mov rax, [rip + distance]; pop rbp; mov rax, fs:[rax]`, with the second where there was a call.
            [0x48, 0x8b, 0x05, a, b, c, d, 0x5d, 0x64, 0x48, 0x8b, 0x00, ..]
            | [0x48, 0x8b, 0x05, a, b, c, d, 0x64, 0x48, 0x8b, 0x00, ..] => {
                target(7, [a, b, c, d]).map(Isolate::Loaded)
            }
            // `mov rax, fs:[offset]`
            [0x64, 0x48, 0x8b, 0x04, 0x25, a, b, c, d, ..] => {
                Some(Isolate::Fixed(i32::from_le_bytes([a, b, c, d])))
            }
            // `data16 lea rdi, [rip + distance]`, and a call of `__tls_get_addr`.
            [0x66, 0x48, 0x8d, 0x3d, a, b, c, d, ..] => target(8, [a, b, c, d]).map(Isolate::Dynamic),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::memory::tests::Made;

    fn found(code: &[u8]) -> Option<Isolate> {
        let mut code = code.to_vec();
        code.resize(LOOKED_AT, 0x90);
        isolate(&Made(0x1000, code), 0x1000)
    }

    #[test]
    fn as_each_version_loads_it() {
        assert_eq!(found(&[0x8b, 0x3d, 0x10, 0, 0, 0, 0xe9]), Some(Isolate::Key(0x1016)), "to Node 18");
        let checked = [0x5d, 0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0x5d, 0x64, 0x48, 0x8b, 0x00];
        assert_eq!(found(&checked), Some(Isolate::Loaded(0x1018)), "Node 20 and 22");
        let fixed = [0x55, 0x48, 0x89, 0xe5, 0x64, 0x48, 0x8b, 0x04, 0x25, 0x38, 0xff, 0xff, 0xff];
        assert_eq!(found(&fixed), Some(Isolate::Fixed(-200)), "from Node 24 on");
        assert_eq!(found(&[0x66, 0x48, 0x8d, 0x3d, 8, 0, 0, 0]), Some(Isolate::Dynamic(0x1010)));
        let mut jump = vec![0xe9, 0x3b, 0, 0, 0];
        jump.resize(64, 0xcc);
        jump.extend(fixed);
        jump.resize(64 + LOOKED_AT, 0x90);
        assert_eq!(isolate(&Made(0x1000, jump), 0x1000), Some(Isolate::Fixed(-200)), "Debian's Node 24");
        assert_eq!([found(&[]), found(&[0x8b, 0x3d])], [None; 2]);
        assert_eq!(isolate(&Made(0x1000, vec![0x8b; 8]), 0x1000), None);
    }
}
