//! Records of the iterators: which descriptors point to a handle, and which handles are pre-existing.

use core::mem::size_of;

use crate::wire::Entry;

/// The longest path that `bpf_d_path` may write.
pub const ITER_PATH_LEN: usize = 512;

/// A descriptor that points to a handle.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// The process whose table it is.
    pub tgid: u32,
    /// The descriptor's number.
    pub fd: u32,
    /// Bytes of `path`, its terminating zero included; 0 or less when the kernel could not say.
    pub path_len: i32,
    /// Zero.
    pub reserved: u32,
    /// The path as the kernel prints it.
    pub path: [u8; ITER_PATH_LEN],
}

/// A handle that is pre-existing, now in HANDLES with the generation [`crate::wire::PREEXISTING`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Existing {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// A process that holds it.
    pub tgid: u32,
    /// The holder's descriptor, or [`NO_DESCRIPTOR`].
    pub fd: u32,
}

/// `Existing::fd` of a handle that a mapping holds.
pub const NO_DESCRIPTOR: u32 = u32::MAX;

/// An entry of HANDLES.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// What the kernel side knows of it.
    pub entry: Entry,
}

/// Which entries of HANDLES are wanted: of handles that were allocated after the one time and not after the other,
/// `CLOCK_MONOTONIC` in ns.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Not these any more.
    pub after: u64,
    /// These still.
    pub until: u64,
    /// Not those that have one of these bits of [`state`](crate::wire::state).
    pub without: u64,
}

impl Span {
    /// All entries.
    pub const ALL: Self = Self { after: 0, until: u64::MAX, without: 0 };

    /// Whether an entry is wanted.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, entry: &Entry) -> bool {
        entry.generation > self.after
            && entry.generation <= self.until
            && entry.state as u64 & self.without == 0
    }
}

const _: () = {
    assert!(size_of::<Element>() == 8 + size_of::<Entry>());
    assert!(size_of::<Span>() == 24);
    assert!(size_of::<Existing>() == 16);
    assert!(size_of::<Descriptor>() == 24 + ITER_PATH_LEN);
};
