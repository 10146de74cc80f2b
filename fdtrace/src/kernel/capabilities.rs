//! What this process may do.

use std::{fmt, io};

use crate::process::procfs::{Text, hexadecimal};

/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h)
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// A capability that some feature needs (`capabilities(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Write files in folders of others.
    DacOverride = 1,
    /// Read files of others.
    DacReadSearch = 2,
    /// Send signals to other users' processes.
    Kill = 5,
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
    /// Open the files that other processes have mapped; since Linux 5.9, before that it takes CAP_SYS_ADMIN.
    CheckpointRestore = 40,
}

impl Capability {
    const ALL: [Self; 10] = [
        Self::DacOverride,
        Self::DacReadSearch,
        Self::Kill,
        Self::SysPtrace,
        Self::SysAdmin,
        Self::SysResource,
        Self::Syslog,
        Self::Perfmon,
        Self::Bpf,
        Self::CheckpointRestore,
    ];

    /// Whether the running kernel knows it.
    fn exists(self) -> bool {
        // SAFETY: takes numbers and changes nothing.
        unsafe { libc::prctl(libc::PR_CAPBSET_READ, self as libc::c_ulong, 0, 0, 0) >= 0 }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::Kill => "CAP_KILL",
            Self::CheckpointRestore => "CAP_CHECKPOINT_RESTORE",
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
    /// None at all.
    pub const NONE: Self = Self(0);

    /// What a tracer still needs once everything is attached: to read maps, and programs and names of all processes. With
    /// `writes` it makes files later on; with `is_admin` it turns run statistics on and off, or puts probes into programs that it
    /// meets (`perf_event_open(2)`).
    #[must_use]
    pub fn after_attaching(writes: bool, is_admin: bool) -> Self {
        use Capability::{
            Bpf, CheckpointRestore, DacOverride, DacReadSearch, Kill, Perfmon, SysAdmin, SysPtrace,
        };
        let always = [Bpf, Perfmon, SysPtrace, DacReadSearch, Kill, CheckpointRestore];
        let follows_maps = CheckpointRestore.exists();
        let sometimes = [(writes, DacOverride), (is_admin || !follows_maps, SysAdmin)];
        let sometimes = sometimes.into_iter().filter(|(needed, _)| *needed).map(|(_, capability)| capability);
        Self(always.into_iter().chain(sometimes).fold(0, |set, capability| set | 1 << capability as u64))
    }

    /// What tracing takes at all, from the start: nothing of it reads any file, or becomes anybody.
    #[must_use]
    pub fn for_tracing() -> Self {
        use Capability::{Bpf, CheckpointRestore, Perfmon, SysAdmin, SysPtrace, SysResource, Syslog};
        let needed = [Bpf, Perfmon, Syslog, SysPtrace, SysAdmin, SysResource, CheckpointRestore];
        Self(needed.into_iter().fold(0, |set, capability| set | 1 << capability as u64))
    }

    /// What a thread needs that sends signals to others' processes, and does nothing else.
    #[must_use]
    pub const fn to_signal() -> Self {
        Self(1 << Capability::Kill as u64)
    }

    /// Those of this set that are held, and have a name here.
    pub fn held(self) -> impl Iterator<Item = Capability> {
        let held = Self::current().0 & self.0;
        Capability::ALL.into_iter().filter(move |capability| Self(held).has(*capability))
    }

    /// Gives up all others for good, in this thread and those that it starts.
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn keep_only(self) -> io::Result<()> {
        let kept = Self::current().0 & self.0;
        let header = Header { version: VERSION_3, pid: 0 };
        let half = |shift: u32| u32::try_from(kept >> shift & u64::from(u32::MAX)).unwrap_or(0);
        let data = [half(0), half(32)].map(|half| Data { effective: half, permitted: half, inheritable: 0 });
        // SAFETY: the structures are those of this version (`capset(2)`), and the kernel only reads them.
        match unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Reads those of this thread; none when that cannot be read.
    #[must_use]
    pub fn current() -> Self {
        let status = Text::or_empty("/proc/thread-self/status");
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
    fn tracing_reads_no_file_of_others_and_becomes_nobody() {
        let traces = Capabilities::for_tracing();
        assert!(traces.has(Capability::Bpf) && traces.has(Capability::SysPtrace));
        assert!(!traces.has(Capability::DacOverride) && !traces.has(Capability::DacReadSearch));
        // CAP_SETGID, CAP_SETUID, CAP_SYS_MODULE
        assert_eq!(traces.0 & (1 << 6 | 1 << 7 | 1 << 16), 0);
    }

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
    fn what_is_given_up_is_gone() {
        let kept = Capabilities::after_attaching(false, false);
        let before = Capabilities::current();
        // In a thread of its own: the others keep what they have.
        let after = std::thread::spawn(move || {
            kept.keep_only().expect("less is always allowed");
            Capabilities::current()
        });
        let after = after.join().expect("it ended");
        assert_eq!(after, Capabilities(before.0 & kept.0));
        assert!(!after.has(Capability::DacOverride) && !after.has(Capability::SysResource));
        assert_eq!(Capabilities::current(), before);
    }

    #[test]
    fn unreadable_status_means_no_capability() {
        assert_eq!(parse(&Text::default()), 0);
        assert_eq!(parse(&Text::from(&b"CapEff:\tnot hex"[..])), 0);
    }
}
