//! Records of the iterators: which descriptors point to a handle, and which handles are pre-existing.

use core::mem::size_of;

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

const _: () = {
    assert!(size_of::<Existing>() == 16);
    assert!(size_of::<Descriptor>() == 24 + ITER_PATH_LEN);
};
