//! From what the user asked for and what the kernel offers to the programs' configuration.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use fdtrace_common::{
    config::{
        Config, EMIT_MIN_AGE, EMIT_NOTHING, EMIT_STREAM, Range, STACKS_BOTH, STACKS_OFF, STACKS_USER,
        Syscalls, UNWIND_FRAME_POINTERS, UNWIND_OFF, UNWIND_TABLES,
    },
    fields::Fields,
    wire::COMM_LEN,
};

use crate::process::procfs::{Text, fields, lines};

use super::{
    error::{Error, Result},
    fields,
    hooks::{Backend, Kernel},
    pid_namespace,
};

/// Functions whose slab allocations make a handle; `__alloc_file` is the common one up to 6.4.
const ALLOCATORS: [&str; 4] =
    ["alloc_empty_file", "__alloc_file", "alloc_empty_file_noaccount", "alloc_empty_backing_file"];

/// `PF_KTHREAD` (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;
/// `PF_IO_WORKER` since 5.12, when io workers stopped being kernel threads.
const PF_IO_WORKER: u32 = 0x10;
/// `FMODE_NOACCOUNT` (include/linux/fs.h); backing files have it too.
const FMODE_NOACCOUNT: u32 = 1 << 29;
/// The size of a kernel stack without KASAN.
const THREAD_SIZE: u64 = if cfg!(target_arch = "x86_64") { 16 << 10 } else { 0 };

/// Which stacks are taken at an allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stacks {
    /// None.
    Off,
    /// The process's.
    User,
    /// The process's and the kernel's.
    #[default]
    Both,
}

/// How user stacks are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unwind {
    /// By frame pointers, which most programs do not keep.
    FramePointers,
    /// By the programs' unwind tables.
    #[default]
    Tables,
    /// Not at all.
    Off,
}

impl Unwind {
    /// The better one that this architecture has.
    pub const BEST: Self = if cfg!(target_arch = "x86_64") { Self::Tables } else { Self::FramePointers };
}

/// Whether it is watched who installs descriptors for handles that were there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acquisitions {
    /// Not at all.
    #[default]
    Off,
    /// From when [`Tracer::watch_descriptors`](super::Tracer::watch_descriptors) is called.
    Later,
    /// From the start.
    Watched,
}

/// What the kernel side tells of handles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emit {
    /// Every allocation and every release.
    #[default]
    All,
    /// Min-age filter: a handle that its own process closes before this age (ns) is only counted.
    MinAge(u64),
    /// Nothing: for measuring what telling costs.
    Nothing,
}

impl Emit {
    /// Min-age filter from an age in ns; 0 tells all.
    #[must_use]
    pub const fn from_age(min_age_ns: u64) -> Self {
        if min_age_ns == 0 { Self::All } else { Self::MinAge(min_age_ns) }
    }

    /// The age from which all handles are reported, in ns.
    #[must_use]
    pub const fn min_age_ns(self) -> u64 {
        match self {
            Self::All | Self::Nothing => 0,
            Self::MinAge(age) => age,
        }
    }
}

/// Which allocations are traced.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Only these processes.
    pub pids: Vec<u32>,
    /// And those that they fork.
    pub follow: bool,
    /// Only tasks of this name (cut to 15 bytes, as the kernel cuts it).
    pub comm: Option<OsString>,
    /// Only tasks in this cgroup v2 or below it: a directory, or a path from the hierarchy's root.
    pub cgroup: Option<PathBuf>,
    /// Only tasks of this user.
    pub uid: Option<u32>,
}

impl Filters {
    /// The options that say the same, one for each filter.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.pids.iter().map(|pid| format!("--pid {pid}")).collect();
        words.extend(self.follow.then(|| "--follow".to_owned()));
        words.extend(self.comm.iter().map(|comm| format!("--comm {}", comm.to_string_lossy())));
        words.extend(self.cgroup.iter().map(|cgroup| format!("--cgroup {}", cgroup.to_string_lossy())));
        words.extend(self.uid.iter().map(|uid| format!("--uid {uid}")));
        words
    }
}

/// Everything that is decided before the programs are loaded.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The backend, or the best one.
    pub backend: Option<Backend>,
    /// Which allocations.
    pub filters: Filters,
    /// Which stacks.
    pub stacks: Stacks,
    /// How the process's are followed.
    pub unwind: Unwind,
    /// Size of the ring buffer in bytes; a power of two of at least a page.
    pub ring_bytes: u32,
    /// The most live handles that the kernel's table holds.
    pub max_handles: u32,
    /// Whether allocations that fail are watched.
    pub failures: bool,
    /// Whether mappings of handles are watched.
    pub mappings: bool,
    /// Whether it is reported what is open when a program ends, and that a process has no descriptors left.
    pub fd_exit_scan: bool,
    /// Whether it is watched who installs descriptors for handles that were there before.
    pub descriptors: Acquisitions,
    /// Whether it is reported who closes handles, except those that are closed right after they were made.
    pub closers: bool,
    /// Whether work that one thread submits and another one does is followed back, where [`super::Tracer::watch_queue`] is
    /// asked to.
    pub submitters: bool,
    /// Whether stacks that are found again without a walk are compared with what a walk gives. For tests.
    pub compare_stacks: bool,
    /// What is said of handles.
    pub emit: Emit,
    /// An object to load in place of the built-in one; if its programs log, what they say is logged as well.
    pub object: Option<Vec<u8>>,
}

/// The programs' configuration for one backend of this kernel.
pub(super) fn build(
    kernel: &mut Kernel,
    fields: &Fields,
    settings: &Settings,
    backend: Backend,
) -> Result<Config> {
    if settings.filters.cgroup.is_some() {
        require_cgroups(fields)?;
    }
    let has_task_regs = kernel.symbols.contains("bpf_task_pt_regs");
    let cgroup = settings.filters.cgroup.as_deref().map(find_cgroup).transpose()?;
    let names_cache = |name: &str| {
        kernel.types.tracepoint(name).is_some_and(|args| args.get(2).is_some_and(|arg| arg == "kmem_cache"))
    };
    let free_names_cache = names_cache("kmem_cache_free") && names_cache("kmem_cache_alloc");
    let exit_arguments = kernel.types.tracepoint("sched_process_exit").map_or(1, |args| args.len());
    let registers = kernel.types.size("pt_regs").unwrap_or(0);
    let free_is_late = backend == Backend::Tracepoint && kernel.symbols.contains("file_free_rcu");
    Ok(Config {
        slab_callers: slab_callers(kernel),
        min_age_ns: settings.emit.min_age_ns(),
        cgroup: cgroup.map_or(0, |(id, _)| id),
        cgroup_level: cgroup.map_or(0, |(_, level)| level),
        pid_namespace: pid_namespace::number(fields)?,
        regs_offset: if THREAD_SIZE == 0 || registers == 0 { 0 } else { THREAD_SIZE - registers },
        kernel_task_flags: PF_KTHREAD
            | if kernel.symbols.contains("create_io_thread") { PF_IO_WORKER } else { 0 },
        unaccounted_modes: FMODE_NOACCOUNT,
        tracer: std::process::id(),
        uid: settings.filters.uid.unwrap_or(0),
        filter_uid: u8::from(settings.filters.uid.is_some()),
        comm: comm(settings.filters.comm.as_deref()),
        filter_tree: u8::from(!settings.filters.pids.is_empty()),
        follow: u8::from(settings.filters.follow && !settings.filters.pids.is_empty()),
        // Half of the ring is room for what comes while the reader wakes up.
        wakeup_bytes: settings.ring_bytes / 2,
        handle_buckets: 0,
        syscalls: syscalls(),
        emit: match settings.emit {
            Emit::All => EMIT_STREAM,
            Emit::MinAge(_) => EMIT_MIN_AGE,
            Emit::Nothing => EMIT_NOTHING,
        },
        stacks: match settings.stacks {
            Stacks::Off => STACKS_OFF,
            Stacks::User => STACKS_USER,
            Stacks::Both => STACKS_BOTH,
        },
        has_task_btf: u8::from(kernel.symbols.contains("bpf_get_current_task_btf")),
        has_task_regs: u8::from(has_task_regs),
        exit_tells_group: u8::from(exit_arguments >= 2),
        free_names_cache: u8::from(free_names_cache),
        free_is_late: u8::from(free_is_late),
        count_from_zero: u8::from(kernel.types.offset("file", "f_count").is_none()),
        releases_can_be_missed: u8::from(free_is_late || kernel.preemption.preempts()),
        note_attach: u8::from(settings.mappings && backend == Backend::Tracepoint),
        unwind: match settings.unwind {
            Unwind::FramePointers => UNWIND_FRAME_POINTERS,
            Unwind::Tables => UNWIND_TABLES,
            Unwind::Off => UNWIND_OFF,
        },
        dump_code: u8::from(fields.mm_struct.ma_root.exists()),
        acquired: u8::from(settings.fd_exit_scan && settings.descriptors != Acquisitions::Off),
        closers: u8::from(settings.closers),
        submitters: u8::from(settings.submitters),
        compare_stacks: u8::from(settings.compare_stacks),
        reserved: [0; 5],
    })
}

/// What `--cgroup` cannot do without: nothing would be in the cgroup.
fn require_cgroups(fields: &Fields) -> Result<()> {
    let ancestors = if fields.cgroup.ancestor_ids.exists() {
        (fields.cgroup.ancestor_ids, "cgroup.ancestor_ids")
    } else {
        (fields.cgroup.ancestors, "cgroup.ancestors")
    };
    fields::require(&[
        (fields.task_struct.cgroups, "task_struct.cgroups"),
        (fields.css_set.dfl_cgrp, "css_set.dfl_cgrp"),
        (fields.cgroup.level, "cgroup.level"),
        (fields.cgroup.kn, "cgroup.kn"),
        (fields.kernfs_node.id, "kernfs_node.id"),
        ancestors,
    ])
}

fn slab_callers(kernel: &Kernel) -> [Range; 4] {
    ALLOCATORS.map(|name| {
        kernel
            .symbols
            .range_of(name)
            .map_or(Range::default(), |range| Range { start: range.start, end: range.end })
    })
}

fn comm(name: Option<&OsStr>) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    for (slot, byte) in comm[..COMM_LEN - 1].iter_mut().zip(name.unwrap_or_default().as_bytes()) {
        *slot = *byte;
    }
    comm
}

fn syscalls() -> Syscalls {
    let number = |number: libc::c_long| i32::try_from(number).unwrap_or(-1);
    Syscalls {
        #[cfg(target_arch = "x86_64")]
        open: number(libc::SYS_open),
        #[cfg(not(target_arch = "x86_64"))]
        open: -1,
        openat: number(libc::SYS_openat),
        ioctl: number(libc::SYS_ioctl),
        bpf: number(libc::SYS_bpf),
        execve: number(libc::SYS_execve),
        execveat: number(libc::SYS_execveat),
        io_uring_enter: number(libc::SYS_io_uring_enter),
        mmap: number(libc::SYS_mmap),
        shmat: number(libc::SYS_shmat),
        exit: number(libc::SYS_exit),
        exit_group: number(libc::SYS_exit_group),
        dup: number(libc::SYS_dup),
        #[cfg(target_arch = "x86_64")]
        dup2: number(libc::SYS_dup2),
        #[cfg(not(target_arch = "x86_64"))]
        dup2: -1,
        dup3: number(libc::SYS_dup3),
        fcntl: number(libc::SYS_fcntl),
        recvmsg: number(libc::SYS_recvmsg),
        recvmmsg: number(libc::SYS_recvmmsg),
        pidfd_getfd: number(libc::SYS_pidfd_getfd),
        close: number(libc::SYS_close),
        close_range: number(libc::SYS_close_range),
    }
}

/// Id and depth of a cgroup of the v2 hierarchy.
fn find_cgroup(wanted: &Path) -> Result<(u64, u32)> {
    let mounts = Text::or_empty("/proc/self/mountinfo");
    let root = cgroup2_mount(&mounts).ok_or_else(|| {
        Error::Filter("--cgroup needs a cgroup v2 hierarchy, and none is mounted".to_owned())
    })?;
    let path = if wanted.starts_with(&root) {
        wanted.to_owned()
    } else {
        root.join(wanted.strip_prefix("/").unwrap_or(wanted))
    };
    let missing = |error| {
        Error::Filter(format!("there is no cgroup {}: {error}", path.to_string_lossy().escape_debug()))
    };
    let id = std::fs::metadata(&path).map_err(missing)?.ino();
    let level = path.strip_prefix(&root).map_or(0, |below| below.components().count());
    Ok((id, u32::try_from(level).unwrap_or(u32::MAX)))
}

/// The mount point of the first `cgroup2` in a `/proc/self/mountinfo`.
fn cgroup2_mount(mountinfo: &[u8]) -> Option<PathBuf> {
    lines(mountinfo).find_map(|line| {
        let words: Vec<&[u8]> = fields(line).collect();
        let behind = words.iter().position(|word| *word == b"-")?;
        (words.get(behind + 1) == Some(&&b"cgroup2"[..])).then(|| unescaped(words[4]))
    })
}

/// Blanks, line ends and backslashes of a path stand in it as three octal digits.
fn unescaped(path: &[u8]) -> PathBuf {
    let (mut rest, mut out) = (path, Vec::with_capacity(path.len()));
    while let Some((first, behind)) = rest.split_first() {
        let digits = (*first == b'\\').then(|| std::str::from_utf8(behind.get(..3)?).ok()).flatten();
        let (byte, used) = match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => (byte, 4),
            None => (*first, 1),
        };
        out.push(byte);
        rest = &rest[used..];
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_v2_hierarchy() {
        let mounts = b"30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            31 24 0:27 / /sys/fs/\\040\xd1 rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(mounts), Some(OsStr::from_bytes(b"/sys/fs/ \xd1").into()));
        assert_eq!(cgroup2_mount(b"30 24 0:26 / /x rw - cgroup cgroup rw\n"), None);
    }

    #[test]
    fn names_are_cut_as_the_kernel_cuts_them() {
        assert_eq!(&comm(Some(OsStr::new("a-name-that-is-too-long"))), b"a-name-that-is-\0");
        assert_eq!(comm(None), [0; COMM_LEN]);
    }
}
