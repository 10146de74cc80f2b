//! A function of a few instructions that says where a variable is which has no symbol.

use crate::runtimes::memory::Memory;

/// `mov rax, [rip + distance]; ret`: the address of what it returns.
pub(super) fn loaded_from(memory: &(impl Memory + ?Sized), function: u64) -> Option<u64> {
    const LENGTH: u64 = 7;
    let code = memory.array::<8>(function, 0)?;
    let [0x48, 0x8b, 0x05, distance @ .., 0xc3] = code else { return None };
    function.checked_add(LENGTH)?.checked_add_signed(i32::from_le_bytes(distance).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::memory::tests::Made;

    #[test]
    fn a_load_that_is_returned() {
        let code = [0x48, 0x8b, 0x05, 0xf9, 0xff, 0xff, 0xff, 0xc3];
        assert_eq!(loaded_from(&Made(0x1000, code.to_vec()), 0x1000), Some(0x1000));
        assert_eq!(loaded_from(&Made(0x1000, vec![0x90; 8]), 0x1000), None);
        assert_eq!(loaded_from(&Made(0x1000, vec![]), 0x1000), None);
    }
}
