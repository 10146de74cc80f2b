//! Which kernel path allocated a handle.

use super::kernel::base;
use crate::{
    model::{KernelFrame, Origin},
    stream::Call,
};

/// The functions that decide, innermost match first. A stack passes several: `execve` opens a file too, and `memfd`
/// makes a pseudo file as sockets do.
const DECIDING: &[(&str, Origin)] = &[
    ("do_shmat", Origin::ShmAttach),
    ("newseg", Origin::Shmem),
    ("shmem_file_setup", Origin::Shmem),
    ("__shmem_file_setup", Origin::Shmem),
    ("shmem_kernel_file_setup", Origin::Shmem),
    ("shmem_file_setup_with_mnt", Origin::Shmem),
    ("shmem_zero_setup", Origin::Shmem),
    ("hugetlb_file_setup", Origin::Shmem),
    ("drm_gem_object_init", Origin::Shmem),
    ("dma_buf_export", Origin::AnonInode),
    ("sock_alloc_file", Origin::Socket),
    ("create_pipe_files", Origin::Pipe),
    ("fifo_open", Origin::Pipe),
    ("anon_inode_getfile", Origin::AnonInode),
    ("__anon_inode_getfile", Origin::AnonInode),
    ("anon_inode_getfile_secure", Origin::AnonInode),
    ("anon_inode_getfile_fmode", Origin::AnonInode),
    ("anon_inode_create_getfile", Origin::AnonInode),
    ("anon_inode_getfd", Origin::AnonInode),
    ("anon_inode_getfd_secure", Origin::AnonInode),
    ("__anon_inode_getfd", Origin::AnonInode),
    ("pidfs_alloc_file", Origin::AnonInode),
    ("do_open_execat", Origin::Exec),
    ("open_exec", Origin::Exec),
    ("backing_file_open", Origin::Overlay),
    ("backing_tmpfile_open", Origin::Overlay),
    ("open_with_fake_path", Origin::Overlay),
    ("ovl_open_realfile", Origin::Overlay),
    ("do_sys_openat2", Origin::Open),
    ("do_sys_open", Origin::Open),
    ("do_handle_open", Origin::Open),
    ("io_openat2", Origin::Open),
    ("do_mq_open", Origin::Open),
    ("__x64_sys_open", Origin::Open),
    ("__x64_sys_openat", Origin::Open),
    ("__x64_sys_openat2", Origin::Open),
    ("__x64_sys_creat", Origin::Open),
    ("__arm64_sys_openat", Origin::Open),
    ("__arm64_sys_openat2", Origin::Open),
    ("file_open_name", Origin::Kernel),
    ("filp_open", Origin::Kernel),
    ("file_open_root", Origin::Kernel),
    ("do_file_open_root", Origin::Kernel),
    ("kernel_file_open", Origin::Kernel),
    ("kernel_tmpfile_open", Origin::Kernel),
    ("dentry_open", Origin::Kernel),
    ("dentry_create", Origin::Kernel),
];

/// System calls that make handles by one path only; they decide where no kernel stack was taken.
const SYSCALLS: &[(libc::c_long, Origin)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, Origin::Open),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, Origin::Open),
    (libc::SYS_openat, Origin::Open),
    (libc::SYS_openat2, Origin::Open),
    (libc::SYS_open_by_handle_at, Origin::Open),
    (libc::SYS_shmat, Origin::ShmAttach),
    (libc::SYS_shmget, Origin::Shmem),
    (libc::SYS_memfd_create, Origin::Shmem),
    (libc::SYS_socket, Origin::Socket),
    (libc::SYS_socketpair, Origin::Socket),
    (libc::SYS_accept, Origin::Socket),
    (libc::SYS_accept4, Origin::Socket),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pipe, Origin::Pipe),
    (libc::SYS_pipe2, Origin::Pipe),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_eventfd, Origin::AnonInode),
    (libc::SYS_eventfd2, Origin::AnonInode),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_create, Origin::AnonInode),
    (libc::SYS_epoll_create1, Origin::AnonInode),
    (libc::SYS_timerfd_create, Origin::AnonInode),
    (libc::SYS_signalfd4, Origin::AnonInode),
    (libc::SYS_inotify_init1, Origin::AnonInode),
    (libc::SYS_bpf, Origin::AnonInode),
    (libc::SYS_perf_event_open, Origin::AnonInode),
    (libc::SYS_io_uring_setup, Origin::AnonInode),
    (libc::SYS_pidfd_open, Origin::AnonInode),
    (libc::SYS_execve, Origin::Exec),
    (libc::SYS_execveat, Origin::Exec),
];

/// Decides by the kernel stack, innermost frame first, and without one by the system call.
#[must_use]
pub fn origin(stack: &[KernelFrame], call: &Call) -> Origin {
    if call.acquired {
        return acquisition(call);
    }
    let by_function = deciding(stack).map(|(_, origin)| origin);
    let by_syscall = || {
        let number = libc::c_long::from(call.syscall?);
        SYSCALLS.iter().find(|(syscall, _)| *syscall == number).map(|(_, origin)| *origin)
    };
    match by_function.or_else(by_syscall) {
        Some(Origin::Open) if asks_for_directory(call) => Origin::OpenDir,
        Some(origin) => origin,
        None if call.kernel_task => Origin::Kernel,
        None => Origin::Unknown,
    }
}

/// How a descriptor came to be for a handle that was there before.
fn acquisition(call: &Call) -> Origin {
    match call.syscall.map(libc::c_long::from) {
        Some(libc::SYS_recvmsg | libc::SYS_recvmmsg) => Origin::Recvmsg,
        Some(libc::SYS_pidfd_getfd) => Origin::PidfdGetfd,
        _ => Origin::Dup,
    }
}

/// The function of a kernel stack that decides.
#[must_use]
pub fn deciding_function(stack: &[KernelFrame]) -> Option<&'static str> {
    deciding(stack).map(|(function, _)| function)
}

fn deciding(stack: &[KernelFrame]) -> Option<(&'static str, Origin)> {
    let decides =
        |frame: &KernelFrame| DECIDING.iter().find(|(function, _)| *function == base(&frame.symbol)).copied();
    let (index, found) =
        stack.iter().enumerate().find_map(|(index, frame)| Some((index, decides(frame)?)))?;
    // It opens on behalf of many, some of which have a name of their own: pidfs is one.
    let caller = stack.get(index + 1).filter(|_| found.0 == "dentry_open").and_then(decides);
    Some(caller.unwrap_or(found))
}

/// `O_TMPFILE` contains the bit of `O_DIRECTORY`, and makes a file.
fn asks_for_directory(call: &Call) -> bool {
    let flags = call.detail.cast_signed();
    flags & libc::O_DIRECTORY != 0 && flags & libc::O_TMPFILE != libc::O_TMPFILE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(functions: &[&str], syscall: libc::c_long, detail: libc::c_int) -> Origin {
        let stack: Vec<_> =
            functions.iter().map(|name| KernelFrame { symbol: (*name).to_owned(), offset: 1 }).collect();
        let call = Call {
            user_stack: 1,
            kernel_stack: 1,
            detail: detail.cast_unsigned(),
            syscall: u16::try_from(syscall).ok(),
            kernel_task: false,
            acquired: false,
        };
        origin(&stack, &call)
    }

    #[test]
    fn the_innermost_deciding_function_wins() {
        let exec = ["alloc_empty_file", "path_openat", "do_filp_open", "do_open_execat", "bprm_execve"];
        assert_eq!(decide(&exec, libc::SYS_execve, 0), Origin::Exec);
        let memfd =
            ["alloc_empty_file", "alloc_file_pseudo", "__shmem_file_setup.isra.0", "__x64_sys_memfd_create"];
        assert_eq!(decide(&memfd, libc::SYS_memfd_create, 0), Origin::Shmem);
        let stack = memfd.map(|name| KernelFrame { symbol: name.to_owned(), offset: 1 });
        assert_eq!(deciding_function(&stack), Some("__shmem_file_setup"));
        assert_eq!(deciding_function(&stack[..2]), None);
    }

    #[test]
    fn who_calls_dentry_open_may_know_better() {
        let pidfd = ["alloc_empty_file", "dentry_open", "pidfs_alloc_file", "pidfd_prepare"];
        assert_eq!(decide(&pidfd, libc::SYS_pidfd_open, 0), Origin::AnonInode);
        let other = ["alloc_empty_file", "dentry_open", "nfsd_open", "do_sys_openat2"];
        assert_eq!(decide(&other, libc::SYS_openat, 0), Origin::Kernel);
    }

    #[test]
    fn without_a_stack_the_system_call_decides() {
        assert_eq!(decide(&[], libc::SYS_shmat, 0), Origin::ShmAttach);
        assert_eq!(decide(&["alloc_empty_file"], libc::SYS_ioctl, 0), Origin::Unknown);
    }

    #[test]
    fn directories_are_told_by_the_flags_of_the_open() {
        let open = ["alloc_empty_file", "path_openat", "do_filp_open", "do_sys_openat2"];
        assert_eq!(decide(&open, libc::SYS_openat, libc::O_DIRECTORY), Origin::OpenDir);
        assert_eq!(decide(&open, libc::SYS_openat, libc::O_TMPFILE | libc::O_RDWR), Origin::Open);
    }

    #[test]
    fn names_are_unique() {
        for origin in Origin::ALL {
            assert_eq!(Origin::from_name(origin.name()), Some(origin));
        }
    }
}
