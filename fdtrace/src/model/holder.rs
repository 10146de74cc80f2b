//! What keeps handles alive.

use super::words::words;

words! {
    /// What keeps a handle alive, in the order in which it is asked for: a handle counts under the first that applies.
    pub enum Holder {
        /// An entry of a table of descriptors.
        Descriptor = "descriptor",
        /// A mapping whose file is an attach of a SysV segment.
        ShmAttach = "shm_attach",
        /// Any other mapping.
        Mapping = "mapping",
        /// A SysV segment: its own file.
        ShmSegment = "shm_segment",
        /// The receive queue of a unix socket.
        ScmRights = "scm_rights",
        /// A ring that has registered it, or a task that has registered the ring.
        IoUring = "io_uring",
        /// A process that runs it.
        Executable = "executable",
        /// A BPF map or link.
        Bpf = "bpf",
        /// Nothing in sight: only the other end of its connection leads to it.
        Unknown = "unknown",
    }
}

impl Holder {
    /// A bit of its own, in a set of holders.
    pub(crate) const fn bit(self) -> u16 {
        1 << self as u8
    }
}
