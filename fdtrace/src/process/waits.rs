//! What threads wait for at this moment: their system call, and where in the kernel they are.

use std::fs;

use super::procfs::{Text, fields, hexadecimal, lines, number};

/// The most threads of a process that are looked at.
const MAX_THREADS: usize = 256;
/// The most functions of a kernel stack.
const MAX_FRAMES: usize = 12;

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub tid: u32,
    /// `R`, `S`, `D`, `T`, `Z`, ...: as `ps` has it.
    pub state: String,
    /// The system call that it is in; `None` where it is in none, or that is not told.
    pub call: Option<Call>,
    /// The function of the kernel that it waits in; empty where it does not wait.
    pub waits_in: String,
    /// Functions of the kernel, innermost first.
    pub stack: Vec<String>,
}

/// A system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: i64,
    /// Its first argument.
    pub first: u64,
}

impl Call {
    /// Its name, if it is one that may wait for long.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        CALLS.iter().find(|(number, ..)| *number == self.number).map(|(_, name, _)| *name)
    }

    /// The descriptor that it is about, if its first argument is one.
    #[must_use]
    pub fn fd(self) -> Option<u32> {
        let (.., takes_descriptor) = CALLS.iter().find(|(number, ..)| *number == self.number)?;
        // An `int`: what is above it in the register is nothing.
        takes_descriptor.then(|| u32::try_from(self.first & u64::from(u32::MAX)).ok()).flatten()
    }
}

/// The threads of a process, its main thread first; none where it is gone.
#[must_use]
pub fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut tids: Vec<u32> =
        tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).take(MAX_THREADS).collect();
    tids.sort_unstable_by_key(|tid| (*tid != pid, *tid));
    tids.into_iter().filter_map(|tid| thread(pid, tid)).collect()
}

fn thread(pid: u32, tid: u32) -> Option<Thread> {
    let read = |name: &str| Text::read(format!("/proc/{pid}/task/{tid}/{name}"));
    let stat = read("stat").ok()?;
    let state = stat.behind_the_name()?.next()?;
    let text = |name: &str| read(name).unwrap_or_default();
    let waits_in = text("wchan").shown();
    Some(Thread {
        tid,
        state: String::from_utf8_lossy(state).into_owned(),
        call: call(&text("syscall")),
        waits_in: if waits_in == "0" { String::new() } else { waits_in },
        stack: stack(&text("stack")),
    })
}

/// `0 0x3 0x7f9a33c65000 ...`; `running`, and -1 for a thread that is in none.
fn call(text: &[u8]) -> Option<Call> {
    let mut words = fields(text);
    let number = number(words.next()?).filter(|number| *number >= 0)?;
    let first = hexadecimal(words.next()?.strip_prefix(b"0x")?)?;
    Some(Call { number, first })
}

/// `[<0>] pipe_read+0x2b/0x3a0`
fn stack(text: &[u8]) -> Vec<String> {
    let function = |line: &[u8]| {
        let symbol = fields(line).nth(1)?.split(|byte| *byte == b'+').next()?;
        Some(String::from_utf8_lossy(symbol).into_owned())
    };
    lines(text).filter_map(function).take(MAX_FRAMES).collect()
}

/// System calls that may wait, and whether the first argument is a descriptor.
const CALLS: &[(i64, &str, bool)] = &[
    (libc::SYS_read, "read", true),
    (libc::SYS_write, "write", true),
    (libc::SYS_readv, "readv", true),
    (libc::SYS_writev, "writev", true),
    (libc::SYS_pread64, "pread64", true),
    (libc::SYS_pwrite64, "pwrite64", true),
    (libc::SYS_preadv, "preadv", true),
    (libc::SYS_pwritev, "pwritev", true),
    (libc::SYS_recvfrom, "recvfrom", true),
    (libc::SYS_recvmsg, "recvmsg", true),
    (libc::SYS_recvmmsg, "recvmmsg", true),
    (libc::SYS_sendto, "sendto", true),
    (libc::SYS_sendmsg, "sendmsg", true),
    (libc::SYS_sendmmsg, "sendmmsg", true),
    (libc::SYS_accept, "accept", true),
    (libc::SYS_accept4, "accept4", true),
    (libc::SYS_connect, "connect", true),
    (libc::SYS_splice, "splice", true),
    (libc::SYS_tee, "tee", true),
    (libc::SYS_vmsplice, "vmsplice", true),
    (libc::SYS_sendfile, "sendfile", true),
    (libc::SYS_flock, "flock", true),
    (libc::SYS_fcntl, "fcntl", true),
    (libc::SYS_ioctl, "ioctl", true),
    (libc::SYS_fsync, "fsync", true),
    (libc::SYS_fdatasync, "fdatasync", true),
    (libc::SYS_ftruncate, "ftruncate", true),
    (libc::SYS_fallocate, "fallocate", true),
    (libc::SYS_getdents64, "getdents64", true),
    (libc::SYS_close, "close", true),
    (libc::SYS_epoll_pwait, "epoll_pwait", true),
    (libc::SYS_epoll_pwait2, "epoll_pwait2", true),
    (libc::SYS_io_uring_enter, "io_uring_enter", true),
    (libc::SYS_mq_timedsend, "mq_timedsend", true),
    (libc::SYS_mq_timedreceive, "mq_timedreceive", true),
    (libc::SYS_io_getevents, "io_getevents", false),
    (libc::SYS_ppoll, "ppoll", false),
    (libc::SYS_pselect6, "pselect6", false),
    (libc::SYS_futex, "futex", false),
    (libc::SYS_nanosleep, "nanosleep", false),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", false),
    (libc::SYS_wait4, "wait4", false),
    (libc::SYS_waitid, "waitid", false),
    (libc::SYS_openat, "openat", false),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend", false),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", false),
    (libc::SYS_restart_syscall, "restart_syscall", false),
    (libc::SYS_msgsnd, "msgsnd", false),
    (libc::SYS_msgrcv, "msgrcv", false),
    (libc::SYS_semtimedop, "semtimedop", false),
    (libc::SYS_exit_group, "exit_group", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", true),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, "pause", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_and_their_descriptors() {
        let read = format!("{} 0xffffffff00000003 0x7f9a 0x1 0x0\n", libc::SYS_read);
        let found = call(read.as_bytes()).expect("a call");
        assert_eq!((found.name(), found.fd()), (Some("read"), Some(3)));
        let futex = call(format!("{} 0x7f00 0x0", libc::SYS_futex).as_bytes()).expect("a call");
        assert_eq!((futex.name(), futex.fd()), (Some("futex"), None));
        for none in ["running\n", "-1 0x7ffd 0x7f9a\n", "", "7", "7 x"] {
            assert_eq!(call(none.as_bytes()), None, "{none:?}");
        }
    }

    #[test]
    fn kernel_stacks() {
        let text = b"[<0>] pipe_read+0x2b/0x3a0\n[<0>] vfs_read+0x1/0x2 [ext4]\nbad\n";
        assert_eq!(stack(text), ["pipe_read", "vfs_read"]);
    }

    #[test]
    fn a_thread_that_waits_is_seen_to() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let body = move || std::io::Read::read(&mut { reader }, &mut [0; 1]);
        let waiting = std::thread::spawn(body);
        let reads = |thread: &Thread| thread.call.and_then(Call::name) == Some("read");
        while !threads(std::process::id()).iter().any(|thread| reads(thread) && thread.state == "S") {
            std::thread::yield_now();
        }
        drop(writer);
        assert!(waiting.join().is_ok_and(|read| read.is_ok()));
        assert_eq!(threads(u32::MAX), []);
    }
}
