//! Records of the walk: every holder of a handle in the system, and what each handle is.
//!
//! An iterator writes them one behind another. Each begins with a [`Header`]; its length is a multiple of 8. The
//! descriptors of a table follow the [`Task`] that was met with it, and so do the mappings of an address space.

use core::mem::{offset_of, size_of};

use crate::wire::COMM_LEN;

/// The longest name that is read from a directory entry or a unix socket, its terminating zero included.
pub const NAME_LEN: usize = 64;

/// The most bytes that one [`Request`] reads.
pub const PEEK_BYTES: u32 = 4096;

/// The most requests that one run answers (the size of the REQUESTS map).
pub const PEEK_REQUESTS: u32 = 256;

/// The answers of one run begin within so many bytes.
pub const ANSWER_BYTES: u32 = 1 << 16;

/// The size of what they are written to: the last may be as long as any.
pub const MEMORY_BYTES: usize = (ANSWER_BYTES + PEEK_BYTES) as usize;

/// What a record is.
pub mod tag {
    /// [`super::Task`], from the walk over all threads.
    pub const TASK: u32 = 1;
    /// [`super::Task`] whose descriptors follow.
    pub const TABLE: u32 = 2;
    /// [`super::Task`] whose mappings follow.
    pub const SPACE: u32 = 3;
    /// [`super::File`]
    pub const FILE: u32 = 4;
    /// [`super::Descriptor`]
    pub const DESCRIPTOR: u32 = 5;
    /// [`super::Mapping`]
    pub const MAPPING: u32 = 6;
}

/// Begins every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of [`tag`].
    pub tag: u32,
    /// Bytes of the record, this header included.
    pub length: u32,
}

/// A thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// [`tag::TASK`], [`tag::TABLE`] or [`tag::SPACE`].
    pub header: Header,
    /// `task_struct.files`; 0 for none any more.
    pub files: u64,
    /// `task_struct.mm`; 0 for none.
    pub mm: u64,
    /// `mm_struct.exe_file`
    pub executable: u64,
    /// `task_struct.io_uring`
    pub rings: u64,
    /// `task_struct.cred`: every program has its own, and so has every process.
    pub cred: u64,
    /// `task_struct.start_boottime`, ns.
    pub started: u64,
    /// Soft limit of descriptors (RLIMIT_NOFILE).
    pub soft_limit: u64,
    /// Hard limit of descriptors.
    pub hard_limit: u64,
    /// Thread id in the namespace of whoever reads.
    pub pid: u32,
    /// Process id in the namespace of whoever reads.
    pub tgid: u32,
    /// Process id of the parent, likewise; 0 for one outside.
    pub parent: u32,
    /// `task_struct.flags`
    pub flags: u32,
    /// Numbers of the namespaces, as `/proc/PID/ns` shows them: process ids.
    pub pid_namespace: u32,
    /// Network.
    pub net_namespace: u32,
    /// SysV and POSIX IPC.
    pub ipc_namespace: u32,
    /// Mounts.
    pub mount_namespace: u32,
    /// `task_struct.comm`
    pub comm: [u8; COMM_LEN],
}

/// What a handle is. Only as much of `name` is written as is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// [`tag::FILE`]
    pub header: Header,
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// `file.f_inode`
    pub inode: u64,
    /// `file.f_path.mnt`
    pub mount: u64,
    /// `dentry.d_parent` of the directory entry; of a unix socket its peer's `struct sock`, of an IPv4 or IPv6 socket its
    /// network namespace.
    pub parent: u64,
    /// `file.private_data`; of a socket its `struct sock`.
    pub private: u64,
    /// `file.f_cred`: that of the program which allocated it, unless that has changed its own since.
    pub cred: u64,
    /// `file.f_count`, or `file.f_ref`.
    pub count: u64,
    /// `inode.i_ino`
    pub ino: u64,
    /// `inode.i_size`
    pub size: u64,
    /// `inode.i_blocks`, of 512 bytes.
    pub blocks: u64,
    /// `super_block.s_magic`
    pub magic: u64,
    /// `super_block.s_flags`
    pub mount_flags: u64,
    /// `super_block.s_dev`
    pub dev: u32,
    /// `inode.i_rdev`
    pub rdev: u32,
    /// `inode.i_nlink`
    pub links: u32,
    /// `file.f_mode`
    pub mode: u32,
    /// `file.f_flags`
    pub flags: u32,
    /// Socket: bytes that wait to be read; of a listener connections that wait to be accepted.
    pub receive: u32,
    /// Socket: bytes that wait to be sent or acknowledged; of a listener the most connections that may wait.
    pub send: u32,
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
    pub state: u8,
    /// Unix socket: `name` is that of the peer.
    pub name_of_peer: u8,
    /// Name of the directory entry, or of the unix socket as it was bound (an abstract one begins with 0); of an IPv4 or
    /// IPv6 socket its local address in the first 16 bytes, the remote one in the next.
    pub name: [u8; NAME_LEN],
}

/// An entry of the table of descriptors that was begun last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// [`tag::DESCRIPTOR`]
    pub header: Header,
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Its number.
    pub fd: u32,
    /// 1 when exec closes it, 0 when not, 2 when that cannot be read.
    pub close_on_exec: u32,
}

/// A mapping of the address space that was begun last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// [`tag::MAPPING`]
    pub header: Header,
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// `vm_area_struct.vm_flags`
    pub flags: u64,
}

/// `VM_EXEC` (include/linux/mm.h), in [`Mapping::flags`].
pub const VM_EXEC: u64 = 4;

/// What user space wants to see of the kernel's memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub address: u64,
    /// So many bytes, at most [`PEEK_BYTES`]; afterwards 0 when they cannot be read.
    pub length: u32,
    /// Where they are put among the answers of the run, before [`ANSWER_BYTES`].
    pub offset: u32,
}

/// Where `File::name` begins: all before it is always written.
pub const FILE_FIXED: usize = offset_of!(File, name);

const _: () = {
    assert!(size_of::<Task>() == 8 + 8 * 8 + 8 * 4 + COMM_LEN);
    assert!(FILE_FIXED == 8 + 12 * 8 + 7 * 4 + 6 * 2 && FILE_FIXED.is_multiple_of(8));
    assert!(size_of::<File>() == FILE_FIXED + NAME_LEN);
    assert!(size_of::<Descriptor>() == 24);
    assert!(size_of::<Mapping>() == 40);
    assert!(size_of::<Request>() == 16);
};
