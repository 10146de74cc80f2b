//! Which kernel path allocates.

use super::words::words;

words! {
    /// Which kernel path allocated a handle.
    #[derive(Default)]
    pub enum Origin {
        /// The `open` family of system calls.
        Open = "open",
        /// The same, asking for a directory.
        OpenDir = "open_dir",
        /// An attach of a SysV segment.
        ShmAttach = "shm_attach",
        /// Shared memory without an attach: memfd, shared anonymous memory, a new SysV segment.
        Shmem = "shmem",
        /// A socket.
        Socket = "socket",
        /// A pipe.
        Pipe = "pipe",
        /// An anonymous inode.
        AnonInode = "anon_inode",
        /// A program that is about to run.
        Exec = "exec",
        /// The lower file of an overlay.
        Overlay = "overlay",
        /// The kernel for itself.
        Kernel = "kernel",
        /// None of the table.
        #[default]
        Unknown = "unknown",
        /// No handle but one more descriptor: `dup`, `dup2`, `dup3`, `fcntl`.
        Dup = "dup",
        /// The same: received over a socket.
        Recvmsg = "recvmsg",
        /// The same: taken from another process.
        PidfdGetfd = "pidfd_getfd",
    }
}

impl Origin {
    /// It makes no handle, but a descriptor for one that was there before.
    #[must_use]
    pub const fn is_acquisition(self) -> bool {
        matches!(self, Self::Dup | Self::Recvmsg | Self::PidfdGetfd)
    }
}
