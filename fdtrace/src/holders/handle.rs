//! What is kept of a handle. A machine may have a million, so it is kept small.

use std::net::SocketAddr;

use fdtrace_common::{
    description::Description,
    holder_walk::{FILE_FIXED, File, NAME_LEN},
};

use super::Segment;
use crate::{kinds, model::Kind};

/// Bits of [`Handle::marks`].
pub mod mark {
    /// Not in file-nr (`FMODE_NOACCOUNT`).
    pub const UNACCOUNTED: u8 = 1;
    /// An attach of a SysV segment.
    pub const ATTACH: u8 = 4;
    /// A unix socket's name is its peer's.
    pub const NAME_OF_PEER: u8 = 8;
    /// Mapped as code: a program or a library.
    pub const CODE: u8 = 32;
    /// A unix socket whose peer was closed.
    pub const OUTLIVED: u8 = 64;
    /// On a file system that only the kernel has mounted (`SB_KERNMOUNT`).
    pub const INTERNAL: u8 = 16;
}

/// `FMODE_NOACCOUNT` (include/linux/fs.h, the same since 4.19); backing files have it too.
const FMODE_NOACCOUNT: u32 = 1 << 29;
/// `OVERLAYFS_SUPER_MAGIC` (include/uapi/linux/magic.h)
const OVERLAYFS: u32 = 0x794c_7630;
/// `NSFS_MAGIC`: descriptors of namespaces.
const NSFS: u32 = 0x6e73_6673;
/// `PID_FS_MAGIC`: pidfds since 6.9.
const PID_FS: u32 = 0x5049_4446;
/// `SB_KERNMOUNT`
const SB_KERNMOUNT: u64 = 1 << 22;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A handle.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    /// Kernel address of the `struct file`; 0 where it is not known.
    pub address: u64,
    /// Address of the inode.
    pub inode: u64,
    /// `private_data`; of a socket its `struct sock`.
    pub private: u64,
    /// Address of the directory entry above its own; of a unix socket its peer's `struct sock`, of an IPv4 or IPv6 socket
    /// its network namespace.
    pub parent: u64,
    /// Address of the mount.
    pub mount: u64,
    /// Address of the credentials that it was allocated with.
    pub cred: u64,
    /// Inode number.
    pub ino: u64,
    /// Bytes that the file has.
    pub size: u64,
    /// Bytes that it takes on its disk or in memory.
    pub allocated: u64,
    name_at: u32,
    /// Device of the file system.
    pub dev: u32,
    /// The device that it is.
    pub rdev: u32,
    /// `O_*`
    pub flags: u32,
    /// How many names the file has; 0 for a deleted one.
    pub links: u32,
    /// Socket: bytes that wait to be read; of a listener connections that wait.
    pub receive: u32,
    /// Socket: bytes that wait to be sent; of a listener the most connections that may wait.
    pub send: u32,
    magic: u32,
    inode_mode: u16,
    local_port: u16,
    remote_port: u16,
    /// What it is.
    pub kind: Kind,
    /// [`mark`]
    pub marks: u8,
    /// Socket: `AF_*`.
    pub family: u8,
    /// Socket: `SOCK_*`.
    pub socket_type: u8,
    /// Socket: `TCP_*`.
    pub state: u8,
    name_length: u8,
}

/// The names of all handles, one behind another.
#[derive(Debug, Default)]
pub struct Names(Vec<u8>);

impl Names {
    fn add(&mut self, name: &[u8]) -> (u32, u8) {
        let Ok(at) = u32::try_from(self.0.len()) else { return (0, 0) };
        self.0.extend_from_slice(name);
        (at, u8::try_from(name.len()).unwrap_or(u8::MAX))
    }

    fn of(&self, handle: &Handle) -> &[u8] {
        let start = handle.name_at as usize;
        &self.0[start..start + usize::from(handle.name_length)]
    }
}

impl Handle {
    /// From a record, whose name is as long as the record says.
    pub(super) fn new(file: &File, names: &mut Names) -> Self {
        let family = u8::try_from(file.family).unwrap_or(u8::MAX);
        let written = (file.header.length as usize).saturating_sub(FILE_FIXED).min(NAME_LEN);
        let name = trimmed(&file.name[..written], family);
        let (name_at, name_length) = names.add(name);
        let mut handle = Self {
            address: file.handle,
            inode: file.inode,
            private: file.private,
            parent: file.parent,
            mount: file.mount,
            cred: file.cred,
            ino: file.ino,
            size: file.size,
            allocated: allocated(file.blocks),
            name_at,
            dev: file.dev,
            rdev: file.rdev,
            flags: file.flags,
            links: file.links,
            receive: file.receive,
            send: file.send,
            magic: u32::try_from(file.magic).unwrap_or(0),
            inode_mode: file.inode_mode,
            local_port: file.local_port,
            remote_port: file.remote_port,
            kind: Kind::Unknown,
            marks: marks(file),
            family,
            socket_type: u8::try_from(file.socket_type).unwrap_or(0),
            state: file.state,
            name_length,
        };
        handle.kind = match kinds::classify(&handle.description(names), None) {
            // Anybody may give this name to a file of a tmpfs that he has mounted.
            Kind::Shm if handle.marks & mark::INTERNAL == 0 => Kind::Regular,
            kind => kind,
        };
        handle
    }

    /// A segment whose own file was not found, because nothing is attached to it.
    pub(super) fn of_segment(segment: &Segment, names: &mut Names) -> Self {
        let (name_at, name_length) = names.add(format!("SYSV{:08x}", segment.key).as_bytes());
        Self {
            ino: segment.id.into(),
            size: segment.bytes,
            // Segments have a device together; this tells those of different namespaces apart.
            dev: segment.namespace,
            name_at,
            name_length,
            inode_mode: 0o100_600,
            kind: Kind::Shm,
            marks: mark::INTERNAL,
            ..Self::NOTHING
        }
    }

    /// What is known of no handle.
    const NOTHING: Self = Self {
        address: 0,
        inode: 0,
        private: 0,
        parent: 0,
        mount: 0,
        cred: 0,
        ino: 0,
        size: 0,
        allocated: 0,
        name_at: 0,
        dev: 0,
        rdev: 0,
        flags: 0,
        links: 0,
        receive: 0,
        send: 0,
        magic: 0,
        inode_mode: 0,
        local_port: 0,
        remote_port: 0,
        kind: Kind::Unknown,
        marks: 0,
        family: 0,
        socket_type: 0,
        state: 0,
        name_length: 0,
    };

    /// One that only `/proc` shows, by what its link says.
    pub(crate) fn by_link(kind: Kind, ino: u64, links: u32, name: &[u8], names: &mut Names) -> Self {
        let name = &name[name.len().saturating_sub(usize::from(u8::MAX))..];
        let (name_at, name_length) = names.add(name);
        Self { ino, links, name_at, name_length, kind, ..Self::NOTHING }
    }

    /// Whether file-nr counts it.
    #[must_use]
    pub const fn is_accounted(&self) -> bool {
        self.marks & mark::UNACCOUNTED == 0
    }

    /// Whether it is a descriptor of a namespace.
    pub(super) const fn is_on_nsfs(&self) -> bool {
        self.magic == NSFS && self.family == 0
    }

    /// Whether it is a pidfd of a kernel that has a file system for them.
    pub(super) const fn is_on_pidfs(&self) -> bool {
        self.magic == PID_FS && self.family == 0
    }

    /// Gives it another name.
    pub(super) fn rename(&mut self, name: &[u8], names: &mut Names) {
        (self.name_at, self.name_length) = names.add(name);
    }

    /// Whether it is a file on overlayfs, behind which there is another.
    #[must_use]
    pub const fn is_on_overlay(&self) -> bool {
        self.magic == OVERLAYFS && self.family == 0
    }

    /// Whether it is an attach of a SysV segment.
    #[must_use]
    pub const fn is_attach(&self) -> bool {
        self.marks & mark::ATTACH != 0
    }

    /// Whether it is of a file that has no name any more, but takes room.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.links == 0
            && matches!(self.kind, Kind::Regular | Kind::Directory)
            && self.marks & mark::INTERNAL == 0
    }

    /// Whether it is of a program or a library that somebody runs.
    #[must_use]
    pub const fn is_code(&self) -> bool {
        self.marks & mark::CODE != 0
    }

    /// Whether it is a listening socket.
    #[must_use]
    pub const fn is_listener(&self) -> bool {
        const TCP_LISTEN: u8 = 10;
        self.family != 0 && self.state == TCP_LISTEN
    }

    /// Whether it is a socket whose connection is in this state.
    #[must_use]
    pub const fn has_state(&self, state: u8) -> bool {
        const SOCK_STREAM: u8 = 1;
        matches!(self.family, AF_INET | AF_INET6) && self.socket_type == SOCK_STREAM && self.state == state
    }

    /// The state of its connection, if it is a socket that has one.
    #[must_use]
    pub fn state_name(&self) -> Option<&'static str> {
        self.has_state(self.state).then(|| kinds::tcp_state(self.state))
    }

    /// Whether its inode belongs to what it names, and not to all of its kind.
    #[must_use]
    pub const fn has_own_inode(&self) -> bool {
        self.inode != 0 && !matches!(self.kind, Kind::Anon | Kind::Socket | Kind::Fifo)
    }

    /// The bytes of its name.
    #[must_use]
    pub fn raw_name<'a>(&self, names: &'a Names) -> &'a [u8] {
        names.of(self)
    }

    /// What to call it.
    #[must_use]
    pub fn name(&self, names: &Names) -> String {
        if self.inode_mode == 0 && self.address == 0 {
            return String::from_utf8_lossy(names.of(self)).into_owned();
        }
        kinds::describe(&self.description(names), self.kind)
    }

    /// The addresses of a socket over IPv4 or IPv6: its own, and the other end's, whose port is 0 where there is none.
    #[must_use]
    pub fn addresses(&self, names: &Names) -> Option<(SocketAddr, SocketAddr)> {
        kinds::addresses(&self.description(names))
    }

    fn description(&self, names: &Names) -> Description {
        let raw = names.of(self);
        let mut name = [0; fdtrace_common::description::NAME_LEN];
        let (mut local, mut remote) = ([0; 16], [0; 16]);
        if matches!(self.family, AF_INET | AF_INET6) && raw.len() >= 32 {
            local.copy_from_slice(&raw[..16]);
            remote.copy_from_slice(&raw[16..32]);
        } else {
            let length = raw.len().min(name.len());
            name[..length].copy_from_slice(&raw[..length]);
        }
        Description {
            handle: self.address,
            generation: 0,
            release: 0,
            count: 1,
            ino: self.ino,
            magic: self.magic.into(),
            mode: 0,
            flags: self.flags,
            dev: self.dev,
            rdev: self.rdev,
            inode_mode: self.inode_mode,
            family: self.family.into(),
            socket_type: self.socket_type.into(),
            local_port: self.local_port,
            remote_port: self.remote_port,
            socket_state: self.state,
            name_of_peer: u8::from(self.marks & mark::NAME_OF_PEER != 0),
            reserved: [0; 4],
            local,
            remote,
            name,
        }
    }
}

/// Without the zeros behind it; an abstract unix name begins with one.
fn trimmed(name: &[u8], family: u8) -> &[u8] {
    if matches!(family, AF_INET | AF_INET6) {
        return name;
    }
    let from = usize::from(name.first() == Some(&0) && family != 0);
    let end = name[from..].iter().position(|byte| *byte == 0).map_or(name.len(), |end| from + end);
    if end <= from { &[] } else { &name[..end] }
}

/// A file may be as long as it likes without taking anything. What was just written, where blocks are given out late, is
/// none yet either. A file that is let go of while it is read has what the next owner of its memory wrote: what no disk
/// holds is no size.
const fn allocated(blocks: u64) -> u64 {
    const NO_DISK: u64 = 1 << 60;
    let bytes = blocks.saturating_mul(512);
    if bytes < NO_DISK { bytes } else { 0 }
}

fn marks(file: &File) -> u8 {
    let bit = |is: bool, bit: u8| if is { bit } else { 0 };
    bit(file.mode & FMODE_NOACCOUNT != 0, mark::UNACCOUNTED)
        | bit(file.name_of_peer != 0, mark::NAME_OF_PEER)
        | bit(file.mount_flags & SB_KERNMOUNT != 0, mark::INTERNAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_disk_holds_is_no_size() {
        assert_eq!([0, 8, u64::MAX, 1 << 60].map(allocated), [0, 4096, 0, 0]);
    }
}
