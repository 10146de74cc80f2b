//! Records of the iterators: what a handle is, and which descriptor points to it.

use core::mem::size_of;

use crate::wire::Entry;

/// The longest file name that is read from a directory entry.
pub const NAME_LEN: usize = 64;

/// The longest path that `bpf_d_path` may write.
pub const ITER_PATH_LEN: usize = 512;

/// What one live handle is, as the kernel's structures say.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Its generation.
    pub generation: u64,
    /// `file.f_op->release`: which code the handle belongs to.
    pub release: u64,
    /// `file.f_count`, or `file.f_ref`, as it was read.
    pub count: u64,
    /// `inode.i_ino`
    pub ino: u64,
    /// `super_block.s_magic`
    pub magic: u64,
    /// `file.f_mode`
    pub mode: u32,
    /// `file.f_flags`
    pub flags: u32,
    /// `super_block.s_dev`
    pub dev: u32,
    /// `inode.i_rdev`
    pub rdev: u32,
    /// `inode.i_mode`
    pub inode_mode: u16,
    /// Socket: `AF_*`; 0 for no socket.
    pub family: u16,
    /// Socket: `SOCK_*`.
    pub socket_type: u16,
    /// Socket: local port, host order.
    pub local_port: u16,
    /// Socket: remote port, network order.
    pub remote_port: u16,
    /// Socket: state (`TCP_*`).
    pub socket_state: u8,
    /// Unix socket: `name` is that of the peer.
    pub name_of_peer: u8,
    /// Zero.
    pub reserved: [u8; 4],
    /// Socket: local address, IPv4 in the first four bytes.
    pub local: [u8; 16],
    /// Socket: remote address.
    pub remote: [u8; 16],
    /// Name of the directory entry, or of the unix socket as it was bound (an abstract one begins with 0).
    pub name: [u8; NAME_LEN],
}

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

/// An entry of HANDLES whose handle has no reference left.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Phantom {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Its generation.
    pub generation: u64,
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

/// An entry of HANDLES that is old enough to be reported.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// What the kernel side knows of it.
    pub entry: Entry,
}

/// Which handles are wanted: allocated after the one time and not after the other, `CLOCK_MONOTONIC` in ns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Not these any more.
    pub after: u64,
    /// These still.
    pub until: u64,
}

const _: () = {
    assert!(size_of::<Existing>() == 16);
    assert!(size_of::<Swept>() == 8 + size_of::<Entry>());
    assert!(size_of::<Span>() == 16);
    assert!(size_of::<Phantom>() == 16);
    assert!(size_of::<Description>() == 8 * 6 + 4 * 4 + 16 + 32 + NAME_LEN);
    assert!(size_of::<Descriptor>() == 24 + ITER_PATH_LEN);
};
