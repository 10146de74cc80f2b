//! Bytes of a file that is mapped, or that were unpacked from it.

use std::{
    fs::File,
    io,
    ops::{Deref, Range},
    sync::Arc,
};

use gimli::{CloneStableDeref, EndianReader, RunTimeEndian, StableDeref};
use memmap2::{Mmap, UncheckedAdvice};

/// Larger files are not read.
const LARGEST: u64 = 32 << 30;

/// A part of a file, which stays mapped as long as there is one.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    whole: Arc<Whole>,
    range: Range<usize>,
}

/// What DWARF is read from.
pub(super) type Dwarf = EndianReader<RunTimeEndian, Bytes>;

#[derive(Debug)]
enum Whole {
    Mapped(Mmap),
    Unpacked(Vec<u8>),
}

impl Bytes {
    /// Maps a file. Where it ends earlier by the time it is read, this process ends, which is made for that.
    pub(super) fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // SAFETY: only bytes are read from the mapping, which no assumption rests on; who truncates the file ends a child
        // that its parent replaces.
        let map = unsafe { Mmap::map(file) }?;
        let range = 0..map.len();
        Ok(Self { whole: Arc::new(Whole::Mapped(map)), range })
    }

    /// A part; `None` where it is not all there.
    pub(super) fn part(&self, offset: u64, size: u64) -> Option<Self> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(usize::try_from(size).ok()?)?;
        let range = self.range.start.checked_add(offset)?..self.range.start.checked_add(end)?;
        (range.end <= self.range.end).then(|| Self { whole: Arc::clone(&self.whole), range })
    }

    /// Gives the pages that were read back to the kernel, which has them still.
    pub(super) fn forget_pages(&self) {
        if let Whole::Mapped(map) = &*self.whole {
            // SAFETY: the mapping is of a file and is not written to: whoever reads a page gets it again. What cannot be
            // given back is kept.
            let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { whole: Arc::new(Whole::Unpacked(bytes)), range }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let whole = match &*self.whole {
            Whole::Mapped(map) => &map[..],
            Whole::Unpacked(bytes) => bytes,
        };
        &whole[self.range.clone()]
    }
}

// SAFETY: the bytes lie where they lie as long as anybody holds the reference-counted whole, which never changes.
unsafe impl StableDeref for Bytes {}
// SAFETY: a clone leads to the same bytes.
unsafe impl CloneStableDeref for Bytes {}
