/// Which kernel path allocated a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The `open` family of system calls.
    Open,
    /// The same, asking for a directory.
    OpenDir,
    /// An attach of a SysV segment.
    ShmAttach,
    /// Shared memory without an attach: memfd, shared anonymous memory, a new SysV segment.
    Shmem,
    /// A socket.
    Socket,
    /// A pipe.
    Pipe,
    /// An anonymous inode.
    AnonInode,
    /// A program that is about to run.
    Exec,
    /// The lower file of an overlay.
    Overlay,
    /// The kernel for itself.
    Kernel,
    /// None of the table.
    Unknown,
    /// No handle but one more descriptor: `dup`, `dup2`, `dup3`, `fcntl`.
    Dup,
    /// The same: received over a socket.
    Recvmsg,
    /// The same: taken from another process.
    PidfdGetfd,
}

impl Origin {
    /// All origins.
    pub const ALL: [Self; 14] = [
        Self::Open,
        Self::OpenDir,
        Self::ShmAttach,
        Self::Shmem,
        Self::Socket,
        Self::Pipe,
        Self::AnonInode,
        Self::Exec,
        Self::Overlay,
        Self::Kernel,
        Self::Unknown,
        Self::Dup,
        Self::Recvmsg,
        Self::PidfdGetfd,
    ];

    /// The word for it in help, JSON and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::OpenDir => "open_dir",
            Self::ShmAttach => "shm_attach",
            Self::Shmem => "shmem",
            Self::Socket => "socket",
            Self::Pipe => "pipe",
            Self::AnonInode => "anon_inode",
            Self::Exec => "exec",
            Self::Overlay => "overlay",
            Self::Kernel => "kernel",
            Self::Unknown => "unknown",
            Self::Dup => "dup",
            Self::Recvmsg => "recvmsg",
            Self::PidfdGetfd => "pidfd_getfd",
        }
    }

    /// It makes no handle, but a descriptor for one that was there before.
    #[must_use]
    pub const fn is_acquisition(self) -> bool {
        matches!(self, Self::Dup | Self::Recvmsg | Self::PidfdGetfd)
    }

    /// The origin with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.name() == name)
    }
}
