//! What the machine has that keeps files open where no process does.

use std::{collections::BTreeSet, fs, path::Path};

use super::procfs::{Text, fields, lines, number};

/// Loop devices that have a file behind them.
#[must_use]
pub fn loop_devices() -> u64 {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices.filter(|device| device.path().join("loop/backing_file").exists()).count() as u64
}

/// Swap files.
#[must_use]
pub fn swap_files() -> u64 {
    let swaps = Text::or_empty("/proc/swaps");
    let is_file = |line: &&[u8]| fields(line).rev().nth(3) == Some(b"file");
    lines(&swaps).skip(1).filter(is_file).count() as u64
}

/// Mounts of autofs, each of which keeps a pipe to its daemon. One that is mounted at several places is one.
#[must_use]
pub fn autofs_mounts() -> u64 {
    autofs_of(&Text::or_empty("/proc/self/mountinfo"))
}

/// `36 35 0:31 / /net rw - autofs systemd-1 rw,fd=47`
fn autofs_of(mounts: &[u8]) -> u64 {
    let device = |line: &[u8]| {
        let kind = fields(line).skip_while(|field| *field != b"-").nth(1);
        (kind == Some(b"autofs")).then(|| fields(line).nth(2).unwrap_or_default().to_vec())
    };
    lines(mounts).filter_map(device).collect::<BTreeSet<_>>().len() as u64
}

/// Interpreters that binfmt_misc keeps open: those that are registered with the flag F.
#[must_use]
pub fn kept_interpreters() -> u64 {
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    entries.filter(|entry| keeps_open(&Text::or_empty(entry.path()))).count() as u64
}

/// The line `flags: OCF` of an entry.
fn keeps_open(entry: &[u8]) -> bool {
    lines(entry).any(|line| line.strip_prefix(b"flags:").is_some_and(|flags| flags.contains(&b'F')))
}

/// Requests that contexts of AIO (`io_setup`) have room for.
#[must_use]
pub fn aio_room() -> u64 {
    number(Text::or_empty("/proc/sys/fs/aio-nr").trim_ascii()).unwrap_or(0)
}

/// Whether a server of NFS runs in the kernel.
#[must_use]
pub fn has_nfs_server() -> bool {
    Text::read("/proc/fs/nfsd/threads").is_ok_and(|threads| threads.trim_ascii() != b"0")
}

/// Whether there are graphics devices.
#[must_use]
pub fn has_graphics() -> bool {
    Path::new("/dev/dri").exists()
}

/// Whether this process lives in a PID namespace of its own, as far as `/proc` shows: the first one has a number that is
/// always the same (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
#[must_use]
pub fn is_inside_pid_namespace() -> bool {
    const FIRST: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() != FIRST)
}

/// Whether another thread than the one that asks runs, or waits for a processor.
#[must_use]
pub fn others_run() -> bool {
    let text = Text::or_empty("/proc/loadavg");
    runnable(&text).is_some_and(|runnable| runnable > 1)
}

/// `0.20 0.18 0.12 1/80 11206`: of 80 threads 1 runs.
fn runnable(text: &[u8]) -> Option<u64> {
    number(fields(text).nth(3)?.split(|byte| *byte == b'/').next()?)
}

/// Objects in use in some of the kernel's caches, as `/proc/slabinfo` has them: its CPUs' shares count as in use.
#[must_use]
pub fn slabs<const N: usize>(names: [&str; N]) -> [Option<u64>; N] {
    let slabs = Text::or_empty("/proc/slabinfo");
    names.map(|name| {
        lines(&slabs).find_map(|line| {
            let mut words = fields(line);
            (words.next() == Some(name.as_bytes())).then(|| number(words.next()?)).flatten()
        })
    })
}

/// `fs.nr_open`: the most descriptors that a process may have.
#[must_use]
pub fn nr_open() -> u64 {
    number(&Text::or_empty("/proc/sys/fs/nr_open")).unwrap_or(0)
}

/// `vm.max_map_count`: the most mappings that a process may have.
#[must_use]
pub fn max_map_count() -> u64 {
    number(&Text::or_empty("/proc/sys/vm/max_map_count")).unwrap_or(0)
}

/// `kernel.shmmni`: the most segments of SysV shared memory in this IPC namespace.
#[must_use]
pub fn shmmni() -> u64 {
    number(&Text::or_empty("/proc/sys/kernel/shmmni")).unwrap_or(0)
}

/// Which boot of the machine this is; empty where that is not told.
#[must_use]
pub fn boot_id() -> String {
    kernel("random/boot_id")
}

/// Nanoseconds since the machine was started, times of sleep included: by the clock of the starts of processes.
#[must_use]
pub fn uptime_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in one structure, and the clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}

/// The kernel's release.
#[must_use]
pub fn kernel_release() -> String {
    kernel("osrelease")
}

/// The host's name.
#[must_use]
pub fn host_name() -> String {
    kernel("hostname")
}

fn kernel(setting: &str) -> String {
    Text::or_empty(format!("/proc/sys/kernel/{setting}")).shown()
}

#[cfg(test)]
mod tests {
    use super::{autofs_of, keeps_open, runnable};

    #[test]
    fn mounts_of_autofs_once_each() {
        let mounts = b"36 35 0:31 / /net rw shared:1 - autofs systemd-1 rw,fd=47\n\
            37 35 0:32 / /home rw - autofs home rw,fd=6\n\
            38 35 0:31 / /srv/net rw - autofs systemd-1 rw,fd=47\n\
            39 35 0:33 / /autofs rw - tmpfs autofs rw\n";
        assert_eq!(autofs_of(mounts), 2);
    }

    #[test]
    fn interpreters_with_the_flag() {
        assert!(keeps_open(b"enabled\ninterpreter /usr/bin/qemu\nflags: POCF\noffset 0\n"));
        assert!(!keeps_open(b"enabled\ninterpreter /usr/bin/F\nflags: POC\n"));
    }

    #[test]
    fn threads_that_run() {
        assert_eq!(runnable(b"0.20 0.18 0.12 3/80 11206\n"), Some(3));
        assert_eq!(runnable(b"0.20 0.18"), None);
    }
}
