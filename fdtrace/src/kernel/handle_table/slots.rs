//! The slots, as plain memory.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use fdtrace_common::{
    handle_slots::{SLOTS, Shared, WORDS, bucket, read},
    wire::Entry,
};
use memmap2::{MmapOptions, MmapRaw};

use super::Size;

/// The arrays of `fdtrace-ebpf`'s `handles::slots`. They are mapped while somebody looks at them: their pages would count as memory
/// of this process all the time.
pub(in crate::kernel) struct Slots {
    keys: OwnedFd,
    entries: OwnedFd,
    size: Size,
}

/// A map's memory as words that others write.
struct Words(MmapRaw);

impl Words {
    fn of(map: &OwnedFd, count: usize) -> io::Result<Self> {
        MmapOptions::new().len(count * size_of::<u64>()).map_raw(map.as_raw_fd()).map(Self)
    }

    fn as_slice(&self) -> &[AtomicU64] {
        // SAFETY: mapped as long as this lives, page-aligned; all bits are an integer, and who else writes does so by words.
        unsafe { std::slice::from_raw_parts(self.0.as_mut_ptr().cast(), self.0.len() / size_of::<u64>()) }
    }
}

impl Slots {
    /// Of two arrays of this size.
    pub(in crate::kernel) const fn new(keys: OwnedFd, entries: OwnedFd, size: Size) -> Self {
        Self { keys, entries, size }
    }

    /// Keys, and entries.
    fn map(&self) -> io::Result<(Words, Words)> {
        let slots = self.size.slots() as usize;
        Ok((Words::of(&self.keys, slots)?, Words::of(&self.entries, slots * WORDS)?))
    }

    /// Calls `each` for every entry that is there all the time, once; others may or may not be among them.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub(super) fn each(&self, mut each: impl FnMut(u64, Entry)) -> io::Result<()> {
        let (keys, entries) = self.map()?;
        for (key, entry) in keys.as_slice().iter().zip(entries.as_slice().chunks_exact(WORDS)) {
            if key.load(Ordering::Relaxed) != 0
                && let Some((handle, words)) = read(&Slot { key, entry })
            {
                each(handle, of_words(words));
            }
        }
        Ok(())
    }

    /// Takes the entry of a handle out, if it is of that generation; false where the handle has no slot. It is gone, so that nobody
    /// else takes it out; but its memory may be given to a new one right now, which then replaces the entry. Who comes
    /// between the two exchanges loses that one, which is counted when it is released.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub(super) fn forget(&self, handle: u64, generation: u64) -> io::Result<bool> {
        let (keys, entries) = self.map()?;
        let first = (bucket(handle, self.size.buckets) * SLOTS) as usize;
        let keys = &keys.as_slice()[first..first + SLOTS as usize];
        let Some(slot) = keys.iter().position(|key| key.load(Ordering::Acquire) == handle) else {
            return Ok(false);
        };
        let entry = &entries.as_slice()[(first + slot) * WORDS];
        let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
        if entry.compare_exchange(generation, 0, success, failure).is_ok() {
            // Gone already is gone.
            let _ = keys[slot].compare_exchange(handle, 0, success, failure);
        }
        Ok(true)
    }
}

struct Slot<'words> {
    key: &'words AtomicU64,
    entry: &'words [AtomicU64],
}

impl Shared for Slot<'_> {
    fn key(&self) -> u64 {
        self.key.load(Ordering::Acquire)
    }

    fn word(&self, word: usize) -> u64 {
        self.entry[word].load(Ordering::Acquire)
    }
}

fn of_words(words: [u64; WORDS]) -> Entry {
    // SAFETY: an entry is as long as these words, and all bits are one.
    unsafe { std::mem::transmute(words) }
}
