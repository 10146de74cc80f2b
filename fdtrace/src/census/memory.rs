//! The kernel's memory, as far as a walk needs it.

use std::io;

use fdtrace_common::census::File;

use crate::kernel::CensusPrograms;
pub(super) use crate::kernel::census_records::{half, word};

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

/// Whether a number can be the address of a kernel structure: in the upper half, which with page tables of five levels
/// begins at 0xff00_0000_0000_0000.
pub(super) const fn is_address(word: u64) -> bool {
    word >> 56 == 0xff && word.is_multiple_of(8)
}

impl Memory for &CensusPrograms {
    fn read(&mut self, wanted: &[(u64, usize)]) -> io::Result<Vec<Option<Vec<u8>>>> {
        CensusPrograms::read(self, wanted)
    }

    fn describe(&mut self, handles: &[u64]) -> io::Result<Vec<File>> {
        CensusPrograms::describe(self, handles)
    }
}
