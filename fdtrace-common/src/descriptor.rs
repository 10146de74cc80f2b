//! Descriptors that were installed for handles which were there before: by `dup` and its kin, or received.
//!
//! Such a descriptor has a life of its own: it begins when it is installed and ends when its number is closed or used
//! again. It is named as a handle is, by a number and a generation; the number is made of the table and the descriptor.

use core::mem::{offset_of, size_of};

/// Bits of a key that hold the descriptor's number: the kernel allows two millions where it is told to.
const NUMBER_BITS: u32 = 21;
/// Bits that hold the table: a `files_struct` lies at a multiple of 64, and bits from the 47th on are the same for all.
const TABLE_BITS: u32 = 41;
/// No kernel address has these two high bits.
const MARK: u64 = 1 << 62;

/// The most that a descriptor's number can be; what is above is not followed.
pub const LAST_NUMBER: u32 = (1 << NUMBER_BITS) - 1;

/// Stands for a [`key`] in the record of who closes handles: the stack is the closer's, and `files` the time from which
/// on its thread has closed what it has closed by the record's own time.
pub const LETS_GO: u64 = 2;

/// Names a place in a table of descriptors, apart from the addresses of all handles.
#[inline(always)]
#[must_use]
pub const fn key(files: u64, number: u32) -> u64 {
    MARK | (files >> 6 & ((1 << TABLE_BITS) - 1)) << NUMBER_BITS | (number & LAST_NUMBER) as u64
}

/// Whether this is [`key`] and not the address of a handle.
#[inline(always)]
#[must_use]
pub const fn is_key(handle: u64) -> bool {
    handle >> 62 == 1
}

/// The descriptor's number in a [`key`].
#[must_use]
pub const fn number(key: u64) -> u32 {
    (key & 0x1f_ffff) as u32
}

/// A descriptor was installed for a handle that was there before: record of the ring, and value of the ACQUIRED map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acquired {
    /// [`crate::wire::Tag::Acquired`]
    pub tag: u8,
    /// Zero.
    pub reserved: u8,
    /// Number of the system call.
    pub syscall: i16,
    /// Thread that did it.
    pub tid: u32,
    /// [`key`] of the place.
    pub key: u64,
    /// When, `CLOCK_MONOTONIC` in ns: with the key, the identity of the descriptor. Descriptors of one message have the same.
    pub time: u64,
    /// Name of the user stack, 0 for none.
    pub user_stack: u64,
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Address of the `files_struct`; of what was refused, with a key and a handle of 0, nothing lives.
    pub files: u64,
    /// Process that did it.
    pub tgid: u32,
    /// Zero.
    pub reserved2: u32,
}

/// A descriptor of a process whose table is looked through.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTable {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// The process.
    pub tgid: u32,
    /// The descriptor.
    pub fd: u32,
}

const _: () = {
    assert!(NUMBER_BITS + TABLE_BITS == 62 && LAST_NUMBER == 0x1f_ffff);
    assert!(
        size_of::<Acquired>() == 56 && offset_of!(Acquired, key) == 8 && offset_of!(Acquired, tgid) == 48
    );
    assert!(size_of::<InTable>() == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_table_and_of_its_neighbour_differ() {
        let table = 0xffff_8880_1234_5640;
        assert_ne!(key(table, 3), key(table, 4));
        assert_ne!(key(table, 3), key(table + 64, 3));
        assert_eq!(number(key(table, LAST_NUMBER)), LAST_NUMBER);
    }

    #[test]
    fn no_address_is_taken_for_a_place() {
        assert!(is_key(key(u64::MAX, LAST_NUMBER)) && is_key(key(0, 0)) && !is_key(LETS_GO));
        assert!([8, 0xffff_8880_0000_0000, 0xff11_0000_0000_0000].iter().all(|address| !is_key(*address)));
    }
}
