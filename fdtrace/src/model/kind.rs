//! What handles are.

use super::words::words;

words! {
    /// What a handle is.
    #[derive(Default)]
    #[repr(u8)]
    pub enum Kind {
        /// Not looked at yet, or not to be found out.
        #[default]
        Unknown = "unknown",
        /// A regular file.
        Regular = "regular",
        /// A directory.
        Directory = "directory",
        /// A character device.
        Char = "char",
        /// A block device.
        Block = "block",
        /// A pipe or a FIFO.
        Fifo = "fifo",
        /// A socket.
        Socket = "socket",
        /// An anonymous inode: `[eventpoll]`, `[eventfd]`, `[io_uring]`, ...
        Anon = "anon",
        /// Memory with a descriptor.
        Memfd = "memfd",
        /// Shared memory without a name: a SysV segment, an attach of one, shared anonymous memory.
        Shm = "shm",
        /// A symbolic link, opened with `O_PATH`.
        Symlink = "symlink",
    }
}

impl Kind {
    /// The kind with this number, as it is kept beside a handle.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}
