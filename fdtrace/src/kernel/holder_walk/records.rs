//! The records of the walk, as the iterators write them.

use std::mem::size_of;

use fdtrace_common::holder_walk::{FILE_FIXED, File, Header, Task, tag};

/// No record is longer.
const LONGEST: usize = size_of::<File>();

/// A file that was described by itself; its name is as long as its header says.
pub(crate) fn told(described: File) -> Option<File> {
    let length = described.header.length as usize;
    // SAFETY: `File` is `repr(C)`, made of integers, and has no padding (its size is asserted where it is defined).
    let bytes =
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(&described).cast(), size_of::<File>()) };
    file(<[u8]>::get(bytes, ..length)?)
}

/// Calls `each` for every whole record; says how many bytes they had, and how many bytes were none.
pub(crate) fn records(bytes: &[u8], mut each: impl FnMut(u32, &[u8])) -> (usize, u64) {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + size_of::<Header>()) {
        let length = half(header, 4) as usize;
        if length < size_of::<Header>() || length > LONGEST || !length.is_multiple_of(8) {
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
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_ne_bytes(*word))
}

/// The same of 32 bits.
pub(crate) fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tag: u32, length: u32, rest: usize) -> Vec<u8> {
        [&tag.to_ne_bytes()[..], &length.to_ne_bytes(), &vec![7; rest]].concat()
    }

    #[test]
    fn lengths_that_no_record_has_end_the_walk() {
        let good = record(9, 16, 8);
        for length in [0, 4, 7, 9, 20, 8 + 4097, u32::MAX, u32::MAX - 7] {
            let bytes = [&good[..], &record(9, length, 40)].concat();
            let mut count = 0;
            assert_eq!(records(&bytes, |_, _| count += 1), (bytes.len(), 48), "length {length}");
            assert_eq!(count, 1, "length {length}");
        }
    }

    #[test]
    fn a_record_that_goes_on_is_left_for_later() {
        let bytes = [record(9, 16, 8), record(9, 24, 8)].concat();
        assert_eq!(records(&bytes, |_, record| assert_eq!(record.len(), 16)), (16, 0));
        assert_eq!(records(&bytes[..20], |_, _| ()), (16, 0));
    }

    #[test]
    fn numbers_behind_the_end_are_0() {
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 2];
        assert_eq!(
            (word(&bytes, 0), word(&bytes, 1) >> 56, word(&bytes, 2), word(&bytes, usize::MAX)),
            (1, 2, 0, 0)
        );
        assert_eq!((half(&bytes, 0), half(&bytes, 6), half(&bytes, usize::MAX)), (1, 0, 0));
    }
}
