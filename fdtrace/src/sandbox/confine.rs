//! What a process gives up before it reads what strangers wrote.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::{Gid, Uid, setgroups, setresgid, setresuid, setsid},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::Channel;
use crate::{
    kernel::Capabilities,
    process::procfs::{Text, fields, number},
};

/// `nobody`, wherever there are users.
const NOBODY: u32 = 65534;
/// Descriptors of a child: three, its channel, and the files of a question.
const MAX_DESCRIPTORS: u64 = 16;
/// The channel's number.
const CHANNEL: RawFd = 3;
const NAME: &std::ffi::CStr = c"fdtrace-reader";

/// What a child may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of memory of its own. Pages of mapped files do not count, the kernel has those anyway.
    pub(crate) memory: u64,
}

/// Closes all but the channel, which gets a number of its own; the standard streams lead nowhere.
pub(super) fn keep_only(channel: Channel, nothing: &File) -> Option<Channel> {
    for stream in 0..CHANNEL {
        duplicate(nothing.as_raw_fd(), stream)?;
    }
    duplicate(channel.end().as_raw_fd(), CHANNEL)?;
    // The number may be one that has just been given away.
    std::mem::forget(channel);
    close_from(CHANNEL + 1);
    // SAFETY: it was made just now, and nobody else has it.
    Some(Channel::of(unsafe { OwnedFd::from_raw_fd(CHANNEL) }))
}

fn duplicate(from: RawFd, to: RawFd) -> Option<()> {
    // SAFETY: takes numbers; whatever `to` was is not used any more by this process.
    (from == to || unsafe { libc::dup2(from, to) } == to).then_some(())
}

fn close_from(first: RawFd) {
    // SAFETY: takes numbers; nothing behind them is used any more by this process.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } == 0;
    if closed {
        return;
    }
    // Before Linux 5.9.
    // SAFETY: takes a number.
    let most = i32::try_from(unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }).unwrap_or(1024);
    for fd in first..most.min(1 << 20) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// What the spawner and its children do without: signals of the terminal, users, capabilities, files, memory.
pub(super) fn give_up(limits: Limits) -> Option<()> {
    setsid().ok()?;
    prctl::set_name(NAME).ok()?;
    for (resource, most) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_DATA, memory_in_use() + limits.memory),
        (Resource::RLIMIT_NOFILE, MAX_DESCRIPTORS),
    ] {
        setrlimit(resource, most, most).ok()?;
    }
    become_nobody();
    Capabilities::NONE.keep_only().ok()?;
    prctl::set_no_new_privs().ok()?;
    // Another process of `nobody` shall not look into it.
    prctl::set_dumpable(false).ok()?;
    // A change of user forgets this one, so it comes last. Who was gone before that is known by the end of the channel.
    prctl::set_pdeathsig(Signal::SIGKILL).ok()
}

/// Bytes that this process has of its own already, and shares with its parent (`proc_pid_statm(5)`).
fn memory_in_use() -> u64 {
    let pages: u64 = fields(&Text::or_empty("/proc/self/statm")).nth(5).and_then(number).unwrap_or(0);
    // SAFETY: takes a number.
    pages * u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Where the user may be changed. A user namespace may have no `nobody`; what follows takes the rest away all the same.
fn become_nobody() {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let _ = setgroups(&[]).and_then(|()| setresgid(group, group, group));
    let _ = setresuid(user, user, user);
}

/// From here on this process reads what it gets, answers, and nothing else. A kernel without seccomp has the other limits.
pub(super) fn seal() -> Option<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).ok()?;
    let filter: BpfProgram = filter()?.try_into().ok()?;
    match seccompiler::apply_filter(&filter) {
        Ok(()) => Some(()),
        Err(_) => prctl::get_no_new_privs().is_ok_and(|on| on).then_some(()),
    }
}

fn filter() -> Option<SeccompFilter> {
    let whatever: Vec<SeccompRule> = Vec::new();
    let allowed = ALLOWED.iter().chain(&POLL);
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> =
        allowed.map(|call| (*call, whatever.clone())).collect();
    // Memory that is mapped or changed is never code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![no_code()?]);
    }
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let machine = std::env::consts::ARCH.try_into().ok()?;
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, machine).ok()
}

fn no_code() -> Option<SeccompRule> {
    let code = u64::from(libc::PROT_EXEC.unsigned_abs());
    let without = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(code), 0).ok()?;
    SeccompRule::new(vec![without]).ok()
}

/// Newer machines have `ppoll` alone.
#[cfg(target_arch = "x86_64")]
const POLL: [libc::c_long; 1] = [libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const POLL: [libc::c_long; 0] = [];

/// What a reader needs: the channel, the files that came through it, and memory.
const ALLOWED: [libc::c_long; 26] = [
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
];
