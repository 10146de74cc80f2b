//! What a handle is.
//!
//! Recognised by the inode's type, the superblock, and the function that the file's operations name for its release,
//! which kallsyms always has; by the name of its directory entry last.

mod link;
mod name;

pub(crate) use link::{DELETED, is_segment, is_shared_memory, of_link};
pub use name::{addresses, describe, tcp_state};

use crate::model::Kind;
use fdtrace_common::description::Description;

/// `ANON_INODE_FS_MAGIC` (include/uapi/linux/magic.h)
const ANON_INODE_FS: u64 = 0x0904_1934;
/// `TMPFS_MAGIC`
const TMPFS: u64 = 0x0102_1994;
/// `PID_FS_MAGIC`: pidfds since 6.9
const PID_FS: u64 = 0x5049_4446;
/// `SECRETMEM_MAGIC`: `memfd_secret`
const SECRETMEM: u64 = 0x5345_434d;
/// `HUGETLBFS_MAGIC`
const HUGETLBFS: u64 = 0x9584_58f6;

/// What a handle is, from what the kernel's structures say and the function that releases it.
#[must_use]
pub fn classify(description: &Description, release: Option<&str>) -> Kind {
    let name = name::raw(description);
    match release {
        Some("shm_release") => return Kind::Shm,
        Some("sock_close") => return Kind::Socket,
        Some("pipe_release" | "fifo_open") => return Kind::Fifo,
        _ => {}
    }
    if matches!(description.magic, ANON_INODE_FS | PID_FS) {
        return Kind::Anon;
    }
    if description.magic == SECRETMEM {
        return Kind::Memfd;
    }
    match description.inode_mode & 0o170_000 {
        0o100_000 if name.starts_with(b"memfd:") => Kind::Memfd,
        // A segment's own file, and shared anonymous memory; the names are given by `newseg` (ipc/shm.c) and
        // `shmem_zero_setup` (mm/shmem.c).
        0o100_000 if description.magic == TMPFS && (name.starts_with(b"SYSV") || name == b"dev/zero") => {
            Kind::Shm
        }
        // Anonymous memory in huge pages; `hugetlb_file_setup` (fs/hugetlbfs/inode.c).
        0o100_000 if description.magic == HUGETLBFS && name == b"anon_hugepage" => Kind::Shm,
        0o100_000 => Kind::Regular,
        0o040_000 => Kind::Directory,
        0o020_000 => Kind::Char,
        0o060_000 => Kind::Block,
        0o010_000 => Kind::Fifo,
        0o140_000 => Kind::Socket,
        0o120_000 => Kind::Symlink,
        _ if name.starts_with(b"[") => Kind::Anon,
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn description(inode_mode: u16, magic: u64, name: &[u8]) -> Description {
        let mut padded = [0; fdtrace_common::description::NAME_LEN];
        padded[..name.len()].copy_from_slice(name);
        Description {
            handle: 8,
            generation: 2,
            release: 0,
            count: 1,
            ino: 77,
            magic,
            mode: 0,
            flags: 0,
            dev: 0,
            rdev: 0,
            inode_mode,
            family: 0,
            socket_type: 0,
            local_port: 0,
            remote_port: 0,
            socket_state: 0,
            name_of_peer: 0,
            reserved: [0; 4],
            local: [0; 16],
            remote: [0; 16],
            name: padded,
        }
    }

    #[test]
    fn by_inode_and_superblock() {
        let kind = |mode, magic, name: &[u8]| classify(&description(mode, magic, name), None);
        assert_eq!(kind(0o100_644, 0xef53, b"log"), Kind::Regular);
        assert_eq!(kind(0o040_755, 0xef53, b"etc"), Kind::Directory);
        assert_eq!(kind(0o600, ANON_INODE_FS, b"[eventfd]"), Kind::Anon);
        assert_eq!(kind(0o100_600, ANON_INODE_FS, b"[eventpoll]"), Kind::Anon, "regular since 6.17");
        assert_eq!(kind(0o100_777, TMPFS, b"memfd:x"), Kind::Memfd);
        assert_eq!(kind(0o100_600, TMPFS, b"SYSV00000000"), Kind::Shm);
        assert_eq!(kind(0o100_600, 0xef53, b"SYSV00000000"), Kind::Regular, "anybody may call a file so");
        assert_eq!(kind(0o100_777, TMPFS, b"dev/zero"), Kind::Shm, "no entry of a directory has a slash");
        assert_eq!(kind(0o100_600, SECRETMEM, b"secretmem"), Kind::Memfd);
        assert_eq!(kind(0o100_600, HUGETLBFS, b"anon_hugepage"), Kind::Shm);
        assert_eq!(kind(0o100_600, HUGETLBFS, b"mine"), Kind::Regular);
        assert_eq!(kind(0, 0, b""), Kind::Unknown);
    }

    #[test]
    fn by_the_function_that_releases_it() {
        let attach = description(0o100_600, TMPFS, b"SYSV00000000");
        assert_eq!(classify(&attach, Some("shm_release")), Kind::Shm);
        assert_eq!(classify(&description(0, 0, b""), Some("sock_close")), Kind::Socket);
    }

    #[test]
    fn names_and_numbers_agree() {
        for (number, kind) in (0..).zip(Kind::ALL) {
            assert_eq!(Kind::from_number(number), kind);
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
            assert!(usize::from(number) < crate::handles::KIND_SLOTS);
        }
        assert_eq!(Kind::from_number(200), Kind::Unknown);
        assert_eq!(Kind::from_name("file"), None);
    }
}
