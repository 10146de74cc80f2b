//! The kernel's memory, as far as a walk needs it.

use std::io;

use fdtrace_common::holder_walk::File;

use crate::kernel::HolderWalk;
pub(super) use crate::kernel::walk_records::{half, word};

/// Reads memory and describes handles, many at a time: one at a time would cost more than the walk.
pub trait Memory {
    /// So many bytes at each address; `None` where they cannot be read. At most 4,096 bytes each.
    ///
    /// # Errors
    /// When nothing can be read at all.
    fn read(&mut self, wanted: &[(u64, usize)]) -> io::Result<Vec<Option<Vec<u8>>>>;

    /// What lies at addresses that should be handles. What cannot be one is left out, and so is one without references.
    ///
    /// # Errors
    /// When nothing can be read at all.
    fn describe(&mut self, handles: &[u64]) -> io::Result<Vec<File>>;

    /// A number of 64 bits at each address; 0 where it cannot be read.
    ///
    /// # Errors
    /// When nothing can be read at all.
    fn words(&mut self, addresses: &[u64]) -> io::Result<Vec<u64>> {
        let wanted: Vec<(u64, usize)> = addresses.iter().map(|address| (*address, 8)).collect();
        let found = self.read(&wanted)?;
        Ok(found.iter().map(|bytes| bytes.as_deref().map_or(0, |bytes| word(bytes, 0))).collect())
    }
}

/// Whether a number can be the address of a kernel structure. How much of the upper half is the kernel's depends on the
/// machine: from 0xffff_8000_0000_0000 on with 4 levels of tables on x86-64, from 0xff00_0000_0000_0000 on with 5, from
/// 0xffff_0000_0000_0000 or 0xfff0_0000_0000_0000 on on aarch64. Nothing lies in the last page, whose addresses are
/// errors (`ERR_PTR`, include/linux/err.h).
pub(super) const fn is_address(word: u64) -> bool {
    const ERRORS: u64 = 4095;
    word >> 56 == 0xff && word <= u64::MAX - ERRORS && word.is_multiple_of(8)
}

impl Memory for &HolderWalk {
    fn read(&mut self, wanted: &[(u64, usize)]) -> io::Result<Vec<Option<Vec<u8>>>> {
        HolderWalk::read(self, wanted)
    }

    fn describe(&mut self, handles: &[u64]) -> io::Result<Vec<File>> {
        HolderWalk::describe(self, handles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_machine() {
        // 4 and 5 levels of tables on x86-64, 48 and 52 bits on aarch64, and the last structure before errors begin.
        let some = [
            0xffff_8880_1234_5678,
            0xff11_0000_1234_5678,
            0xffff_0000_c012_3458,
            0xfff0_0000_c012_3458,
            0xffff_ffff_ffff_f000,
        ];
        assert!(some.into_iter().all(is_address));
    }

    #[test]
    fn others_are_none() {
        let none = [
            0,
            8,
            0x7fff_ffff_fff8,
            0x0011_0000_1234_5678,
            0xffff_8880_1234_5671,
            0xffff_ffff_ffff_fff8,
            u64::MAX,
        ];
        assert!(!none.into_iter().any(is_address));
    }
}
