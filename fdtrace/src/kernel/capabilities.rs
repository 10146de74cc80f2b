//! What this process may do.

use std::fmt;

use crate::process::procfs::{Text, hexadecimal};

/// A capability that some feature needs (`capabilities(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Load BPF programs.
    Bpf = 39,
    /// Attach them to the kernel and read kernel memory with them.
    Perfmon = 38,
    /// Look into other users' processes.
    SysPtrace = 19,
    /// See kernel addresses.
    Syslog = 34,
    /// Turn on run statistics; stands in for all of the above.
    SysAdmin = 21,
    /// Raise the limit of locked memory, needed before Linux 5.11.
    SysResource = 24,
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::Syslog => "CAP_SYSLOG",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
        })
    }
}

/// The effective capabilities of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Reads them from `/proc/self/status`; none when that cannot be read.
    #[must_use]
    pub fn current() -> Self {
        let status = Text::or_empty("/proc/self/status");
        Self(parse(&status))
    }

    /// Whether this process has one.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u64) != 0
    }

    /// Whether it has one, or CAP_SYS_ADMIN in its stead (as `bpf_capable` and `perfmon_capable` allow).
    #[must_use]
    pub const fn allows(self, capability: Capability) -> bool {
        self.has(capability) || self.has(Capability::SysAdmin)
    }

    /// The capabilities without which nothing can be traced, and that are missing.
    #[must_use]
    pub fn missing_for_tracing(self) -> Vec<Capability> {
        [Capability::Bpf, Capability::Perfmon].into_iter().filter(|needed| !self.allows(*needed)).collect()
    }
}

fn parse(status: &Text) -> u64 {
    status.line("CapEff:").and_then(hexadecimal).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        let parse = |text: &[u8]| parse(&Text::from(text));
        let none = Capabilities(parse(b"Name:\t\xff\nCapEff:\t0000000000000000\n"));
        assert_eq!(none.missing_for_tracing(), [Capability::Bpf, Capability::Perfmon]);
        let bpf = Capabilities(1 << 39);
        assert_eq!(bpf.missing_for_tracing(), [Capability::Perfmon]);
        let admin = Capabilities(1 << 21);
        assert!(admin.missing_for_tracing().is_empty());
        assert!(!admin.has(Capability::Syslog));
    }

    #[test]
    fn unreadable_status_means_no_capability() {
        assert_eq!(parse(&Text::default()), 0);
        assert_eq!(parse(&Text::from(&b"CapEff:\tnot hex"[..])), 0);
    }
}
