//! How far the ring has been written and read.

use std::{
    io,
    os::fd::AsRawFd,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};

/// The two positions that the kernel shares with the ring's reader, each in a page of its own.
pub(super) struct Progress {
    consumer: MmapRaw,
    producer: MmapRaw,
}

impl Progress {
    /// Of a ring, by its map.
    ///
    /// # Errors
    /// When its pages cannot be mapped.
    pub(super) fn of(ring: &impl AsRawFd) -> io::Result<Self> {
        let page = page_bytes()?;
        let map = |offset| {
            let mut options = MmapOptions::new();
            options.offset(offset).len(page).map_raw_read_only(ring.as_raw_fd())
        };
        Ok(Self { consumer: map(0)?, producer: map(page as u64)? })
    }

    /// Bytes that have been reserved in it since it was made: what happened before is in it, or was lost.
    pub(super) fn written(&self) -> u64 {
        position(&self.producer)
    }

    /// Bytes that have been read from it.
    pub(super) fn read(&self) -> u64 {
        position(&self.consumer)
    }
}

fn position(page: &MmapRaw) -> u64 {
    // SAFETY: a page begins with the position, an aligned word that others change by whole stores only.
    let word = unsafe { &*page.as_ptr().cast::<AtomicU64>() };
    word.load(Ordering::Acquire)
}

fn page_bytes() -> io::Result<usize> {
    // SAFETY: takes a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).map_err(|_| io::Error::last_os_error())
}
