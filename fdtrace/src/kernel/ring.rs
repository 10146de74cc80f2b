//! The ring's reader. Its data are mapped once: aya maps them twice in a row, so that no record seems to be in two parts, and
//! both count as memory of this process. Here the few that are get copied.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd, BorrowedFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};

/// Bits of a record's length (include/uapi/linux/bpf.h): it is being written, and it is none.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// Bytes before a record: its length, and where its page is; records begin at multiples of these.
const HEADER: usize = 8;

/// A ring buffer of BPF, with one reader (kernel/bpf/ringbuf.c).
pub(super) struct Ring {
    map: MapData,
    /// The page with the position up to which it was read, the only one that this side writes.
    consumer: MmapRaw,
    /// The page with the position up to which it is reserved, and behind it the data.
    producer: MmapRaw,
    page: usize,
    /// Bytes of data, a power of two.
    size: usize,
    read: u64,
    /// A record that goes over the end of the data.
    in_parts: Vec<u8>,
}

impl Ring {
    /// Of a map of so many bytes.
    ///
    /// # Errors
    /// When its pages cannot be mapped.
    pub(super) fn of(map: MapData, size: usize) -> io::Result<Self> {
        let page = page_bytes()?;
        let fd = map.fd().as_fd().as_raw_fd();
        let consumer = MmapOptions::new().len(page).map_raw(fd)?;
        let producer = MmapOptions::new().offset(page as u64).len(page + size).map_raw_read_only(fd)?;
        let read = position(&consumer).load(Ordering::Acquire);
        Ok(Self { map, consumer, producer, page, size, read, in_parts: Vec::new() })
    }

    /// Bytes that have been reserved in it since it was made: what happened before is in it, or was lost.
    pub(super) fn written(&self) -> u64 {
        position(&self.producer).load(Ordering::Acquire)
    }

    /// Bytes that have been read from it.
    pub(super) const fn read(&self) -> u64 {
        self.read
    }

    /// Hands the next record to `take`; false where none is ready. One that is being written holds up those behind it.
    pub(super) fn take(&mut self, take: &mut impl FnMut(&[u8])) -> bool {
        while self.read != self.written() {
            let start = offset(self.read, self.size);
            let length = self.length(start).load(Ordering::Acquire);
            if length & BUSY != 0 {
                return false;
            }
            let bytes = (length & !DISCARDED) as usize;
            let is_record = length & DISCARDED == 0;
            if is_record {
                take(record(data(&self.producer, self.page), start, bytes, &mut self.in_parts));
            }
            self.read += (HEADER + bytes).next_multiple_of(HEADER) as u64;
            // The kernel may write there from now on: it acquires this position.
            position(&self.consumer).store(self.read, Ordering::Release);
            if is_record {
                return true;
            }
        }
        false
    }

    fn length(&self, start: usize) -> &AtomicU32 {
        // SAFETY: `start` is inside of the data.
        let header = unsafe { self.producer.as_ptr().add(self.page + start) };
        // SAFETY: a multiple of eight, where a header begins; the kernel writes the length as one word.
        unsafe { &*header.cast::<AtomicU32>() }
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> i32 {
        let fd: BorrowedFd<'_> = self.map.fd().as_fd();
        fd.as_raw_fd()
    }
}

fn data(producer: &MmapRaw, page: usize) -> &[u8] {
    // SAFETY: more than a page is mapped.
    let start = unsafe { producer.as_ptr().add(page) };
    // SAFETY: mapped as long as it is borrowed. The kernel writes in it, but not where a record is that was not read yet, and
    // nobody looks elsewhere.
    unsafe { std::slice::from_raw_parts(start, producer.len() - page) }
}

fn position(page: &MmapRaw) -> &AtomicU64 {
    // SAFETY: a page begins with the position, an aligned word that others change by whole stores only.
    unsafe { &*page.as_ptr().cast::<AtomicU64>() }
}

#[expect(clippy::cast_possible_truncation, reason = "what is cut off is a multiple of the size")]
const fn offset(position: u64, size: usize) -> usize {
    position as usize & (size - 1)
}

/// The bytes of the record whose header is at `start`.
fn record<'data>(data: &'data [u8], start: usize, bytes: usize, in_parts: &'data mut Vec<u8>) -> &'data [u8] {
    let start = (start + HEADER) % data.len();
    let bytes = bytes.min(data.len());
    let before_end = bytes.min(data.len() - start);
    if before_end == bytes {
        return &data[start..start + bytes];
    }
    in_parts.clear();
    in_parts.extend_from_slice(&data[start..]);
    in_parts.extend_from_slice(&data[..bytes - before_end]);
    in_parts
}

fn page_bytes() -> io::Result<usize> {
    // SAFETY: takes a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_wherever_it_lies() {
        let data: Vec<u8> = (0..32).collect();
        let mut in_parts = Vec::new();
        assert_eq!(record(&data, 0, 3, &mut in_parts), [8, 9, 10]);
        assert_eq!(record(&data, 16, 8, &mut in_parts), [24, 25, 26, 27, 28, 29, 30, 31]);
        assert_eq!(record(&data, 16, 10, &mut in_parts), [24, 25, 26, 27, 28, 29, 30, 31, 0, 1]);
        assert_eq!(record(&data, 24, 2, &mut in_parts), [0, 1], "the header is the last that fits");
        assert_eq!(record(&data, 8, 1000, &mut in_parts).len(), 32, "no longer than the data");
    }

    #[test]
    fn positions_go_round() {
        assert_eq!((offset(31, 32), offset(32, 32), offset(72, 32)), (31, 0, 8));
    }
}
