//! The slots, as plain memory.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use fdtrace_common::{
    handle_slots::{SLOTS, Shared, WORDS, bucket, read},
    wire::Entry,
};
use memmap2::{MmapOptions, MmapRaw};

use super::Size;

/// The arrays of `fdtrace-ebpf`'s `handles::slots`, mapped.
pub(in crate::kernel) struct Slots {
    keys: Words,
    entries: Words,
    size: Size,
}

/// A map's memory as words that others write.
struct Words(MmapRaw);

impl Words {
    fn of(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        MmapOptions::new().len(count * size_of::<u64>()).map_raw(map.as_raw_fd()).map(Self)
    }

    fn as_slice(&self) -> &[AtomicU64] {
        // SAFETY: mapped as long as this lives, page-aligned; all bits are an integer, and who else writes does so by words.
        unsafe { std::slice::from_raw_parts(self.0.as_mut_ptr().cast(), self.0.len() / size_of::<u64>()) }
    }
}

impl Slots {
    /// Of two arrays of this size.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub(in crate::kernel) fn map(
        keys: BorrowedFd<'_>,
        entries: BorrowedFd<'_>,
        size: Size,
    ) -> io::Result<Self> {
        let slots = size.slots() as usize;
        Ok(Self { keys: Words::of(keys, slots)?, entries: Words::of(entries, slots * WORDS)?, size })
    }

    /// Calls `each` for every entry that is there all the time, once; others may or may not be among them.
    pub(super) fn each(&self, mut each: impl FnMut(u64, Entry)) {
        let (keys, entries) = (self.keys.as_slice(), self.entries.as_slice());
        for (key, entry) in keys.iter().zip(entries.chunks_exact(WORDS)) {
            if key.load(Ordering::Relaxed) != 0
                && let Some((handle, words)) = read(&Slot { key, entry })
            {
                each(handle, of_words(words));
            }
        }
    }

    /// Takes the entry of a handle out, if it is there and of that generation. The handle is gone, so that nobody else takes it
    /// out; but its memory may be given to a new one right now, which then replaces the entry. Whoever is in between the two
    /// exchanges loses that one, which is counted when it is released.
    pub(super) fn forget(&self, handle: u64, generation: u64) -> bool {
        let first = (bucket(handle, self.size.buckets) * SLOTS) as usize;
        let keys = &self.keys.as_slice()[first..first + SLOTS as usize];
        let Some(slot) = keys.iter().position(|key| key.load(Ordering::Acquire) == handle) else {
            return false;
        };
        let entry = &self.entries.as_slice()[(first + slot) * WORDS];
        let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
        if entry.compare_exchange(generation, 0, success, failure).is_ok() {
            // Gone already is gone.
            let _ = keys[slot].compare_exchange(handle, 0, success, failure);
        }
        true
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
