//! Memory of a stranger: what is read there may be anything, and may change while it is read.

use std::{fs::File, os::unix::fs::FileExt as _};

/// Memory by address.
pub(crate) trait Memory {
    /// Fills `into`; `None` when not all of it can be read.
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()>;

    /// A word at `base + offset`.
    fn word(&self, base: u64, offset: u64) -> Option<u64> {
        self.array(base, offset).map(u64::from_ne_bytes)
    }

    /// Half a word.
    fn half(&self, base: u64, offset: u64) -> Option<u32> {
        self.array(base, offset).map(u32::from_ne_bytes)
    }

    /// A pointer at `base + offset`; `None` for a null pointer.
    fn pointer(&self, base: u64, offset: u64) -> Option<u64> {
        self.word(base, offset).filter(|pointer| *pointer != 0)
    }

    /// So many bytes at `base + offset`.
    fn array<const BYTES: usize>(&self, base: u64, offset: u64) -> Option<[u8; BYTES]> {
        let mut bytes = [0; BYTES];
        self.read(base.checked_add(offset)?, &mut bytes)?;
        Some(bytes)
    }

    /// The same, where the number is not known beforehand.
    fn bytes(&self, address: u64, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.read(address, &mut bytes)?;
        Some(bytes)
    }
}

/// `/proc/PID/mem`. It stays the memory of the program that ran when it was opened, and ends with it.
impl Memory for File {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        // The kernel takes signed offsets.
        i64::try_from(address).ok()?;
        self.read_exact_at(into, address).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Memory of a few bytes at an address.
    pub(crate) struct Made(pub(crate) u64, pub(crate) Vec<u8>);

    impl Memory for Made {
        fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
            let start = usize::try_from(address.checked_sub(self.0)?).ok()?;
            into.copy_from_slice(self.1.get(start..start.checked_add(into.len())?)?);
            Some(())
        }
    }

    #[test]
    fn what_is_not_all_there_is_not_read() {
        let memory = Made(0x1000, (0..16).collect());
        assert_eq!(memory.half(0x1000, 4), Some(0x0706_0504));
        assert_eq!(memory.word(0x1000, 9), None);
        assert_eq!(memory.word(u64::MAX, 9), None);
        assert_eq!(memory.bytes(0x1004, 2), Some(vec![4, 5]));
    }

    #[test]
    fn a_process_reads_itself() {
        let here = 0x1234_5678_9abc_u64;
        let memory = File::open("/proc/self/mem").expect("memory");
        assert_eq!(memory.word(&raw const here as u64, 0), Some(here));
        assert_eq!([memory.word(0, 0), memory.word(u64::MAX - 7, 0)], [None; 2]);
    }
}
