//! What a handle is.

use core::mem::size_of;

/// The longest file name that is read from a directory entry.
pub const NAME_LEN: usize = 64;

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

const _: () = assert!(size_of::<Description>() == 8 * 6 + 4 * 4 + 16 + 32 + NAME_LEN);
