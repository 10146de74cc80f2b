//! Processes.

/// What a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its name; empty when it is gone.
    pub comm: String,
    /// The program it runs.
    pub exe: String,
    /// Its cgroup v2, or the first of its v1 cgroups.
    pub cgroup: String,
}

impl Identity {
    /// Bytes of its texts.
    pub(crate) const fn weight(&self) -> usize {
        self.comm.len() + self.exe.len() + self.cgroup.len()
    }
}
