//! The records of the census, as the iterators write them.

use std::mem::size_of;

use fdtrace_common::census::{FILE_FIXED, File, Header, Memory, Task, tag};

/// The memory of each request, by its number.
pub(crate) fn memory(bytes: &[u8], mut each: impl FnMut(usize, &[u8])) {
    records(bytes, |tag, record| {
        let read = half(record, 12) as usize;
        if tag == tag::MEMORY
            && read > 0
            && let Some(found) = record.get(size_of::<Memory>()..size_of::<Memory>() + read)
        {
            each(half(record, 8) as usize, found);
        }
    });
}

/// Each file among the records.
pub(crate) fn files(bytes: &[u8], mut each: impl FnMut(&File)) {
    records(bytes, |tag, record| {
        if tag == tag::FILE
            && let Some(file) = file(record)
        {
            each(&file);
        }
    });
}

/// Calls `each` for every whole record; says how many bytes they had, and how many bytes were none.
pub(crate) fn records(bytes: &[u8], mut each: impl FnMut(u32, &[u8])) -> (usize, u64) {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + size_of::<Header>()) {
        let length = half(header, 4) as usize;
        if length < size_of::<Header>() || !length.is_multiple_of(8) {
            // Nothing says where the next one begins.
            return (bytes.len(), (bytes.len() - at) as u64);
        }
        let Some(record) = bytes.get(at..at + length) else { break };
        each(half(header, 0), record);
        at += length;
    }
    (at, 0)
}

/// A record of one size.
pub(crate) fn fixed<T: Copy>(record: &[u8]) -> Option<T> {
    // SAFETY: the length is checked, the records are made of integers, and the read takes any alignment.
    (record.len() == size_of::<T>()).then(|| unsafe { record.as_ptr().cast::<T>().read_unaligned() })
}

/// A file, whose name is as long as the record.
pub(crate) fn file(record: &[u8]) -> Option<File> {
    if record.len() < FILE_FIXED || record.len() > size_of::<File>() {
        return None;
    }
    let mut whole = [0; size_of::<File>()];
    whole[..record.len()].copy_from_slice(record);
    fixed(&whole)
}

/// Each thread among the records.
pub(crate) fn tasks(bytes: &[u8], mut each: impl FnMut(&Task)) {
    records(bytes, |tag, record| {
        if tag == tag::TASK
            && let Some(task) = fixed::<Task>(record)
        {
            each(&task);
        }
    });
}

/// A number of 64 bits in bytes that were read; 0 behind their end.
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// The same of 32 bits.
pub(crate) fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
}
