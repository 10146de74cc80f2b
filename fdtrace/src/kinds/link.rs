//! What a handle is by the link in `/proc/PID/fd`, where nobody can ask the kernel's structures.

use crate::model::Kind;

/// What the kernel puts behind the path of a file that has no name any more.
pub(crate) const DELETED: &[u8] = b" (deleted)";
/// Where `/dev` has files.
const IN_MEMORY: [&[u8]; 3] = [b"/dev/shm/", b"/dev/mqueue/", b"/dev/hugepages/"];

/// The kind as far as the link tells: `socket:[7]`, `pipe:[9]`, `anon_inode:[eventfd]`, a path. A directory is taken for a file.
#[must_use]
pub(crate) fn of_link(link: &[u8]) -> Kind {
    match link {
        _ if link.starts_with(b"socket:[") => Kind::Socket,
        _ if link.starts_with(b"pipe:[") => Kind::Fifo,
        _ if link.starts_with(b"anon_inode:") => Kind::Anon,
        _ if link.starts_with(b"/memfd:") || link == b"/secretmem (deleted)" => Kind::Memfd,
        _ if is_segment(link) || is_shared_memory(link) => Kind::Shm,
        _ if link.starts_with(b"/dev/") && !IN_MEMORY.iter().any(|folder| link.starts_with(folder)) => {
            Kind::Char
        }
        _ => Kind::Regular,
    }
}

/// Whether a path is that of an attach: such a file never had a name.
pub(crate) fn is_segment(path: &[u8]) -> bool {
    path.starts_with(b"/SYSV") && path.ends_with(DELETED)
}

/// The same of shared anonymous memory.
pub(crate) fn is_shared_memory(path: &[u8]) -> bool {
    path.starts_with(b"/dev/zero") && path.ends_with(DELETED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        let of = |link: &str| of_link(link.as_bytes()).name();
        assert_eq!(
            ["socket:[7]", "pipe:[9]", "anon_inode:[eventfd]", "/memfd:x (deleted)", "/SYSV0 (deleted)"]
                .map(of),
            ["socket", "fifo", "anon", "memfd", "shm"]
        );
        assert_eq!(
            ["/dev/null", "/dev/shm/x", "/srv/log", "/secretmem (deleted)"].map(of),
            ["char", "regular", "regular", "memfd"]
        );
    }
}
