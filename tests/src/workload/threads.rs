//! Threads that the runtime knows nothing about, in children that make system calls only.

use super::children::stop_for_good;
use rustix::{
    io,
    mm::{MapFlags, ProtFlags, mmap_anonymous},
    thread::{NanosleepRelativeResult, nanosleep},
    time::Timespec,
};
use std::{
    ffi::{c_int, c_void},
    ptr,
    sync::atomic::{AtomicI32, Ordering},
};

/// What the thread does with which a process begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Main {
    Exits,
    Waits,
}

/// Bytes of a thread's stack.
const STACK: usize = 1 << 16;

struct Job<'a, F> {
    main: Main,
    /// Not zero while the main thread is there.
    alive: AtomicI32,
    body: &'a F,
}

/// In a child that was forked: runs `body` in a second thread, which stops the process when it is done.
pub(super) fn in_thread<F: Fn() -> io::Result<()>>(main: Main, body: &F) -> io::Result<()> {
    let job = Job { main, alive: AtomicI32::new(1), body };
    if main == Main::Exits {
        // SAFETY: the kernel sets the number to zero when this thread has gone; its stack stays, and the number with it.
        unsafe { libc::syscall(libc::SYS_set_tid_address, job.alive.as_ptr()) };
    }
    start(run::<F>, ptr::from_ref(&job).cast_mut().cast())?;
    if main == Main::Exits {
        // SAFETY: ends this thread alone. Nothing is left to be done in it, and what it borrowed stays where it is.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

/// The second thread shares all with the first one, the C library's own memory included: neither may call what uses it.
fn start(function: extern "C" fn(*mut c_void) -> c_int, argument: *mut c_void) -> io::Result<()> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses the address, so no memory that Rust knows is replaced.
    let stack = unsafe { mmap_anonymous(ptr::null_mut(), STACK, protection, MapFlags::PRIVATE) }?;
    // SAFETY: the mapping has this length.
    let top = unsafe { stack.byte_add(STACK) };
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    // SAFETY: the stack is the new thread's own; the argument is alive as long as the process, since the first thread
    // never returns to who owns it.
    let thread = unsafe { libc::clone(function, top, flags, argument) };
    if thread < 0 { Err(io::Errno::AGAIN) } else { Ok(()) }
}

extern "C" fn run<F: Fn() -> io::Result<()>>(job: *mut c_void) -> c_int {
    // SAFETY: `in_thread` passes its job, which stays where it is.
    let job: &Job<'_, F> = unsafe { &*job.cast() };
    while job.main == Main::Exits && job.alive.load(Ordering::Acquire) != 0 {
        rest();
    }
    // The kernel says that the thread has gone a moment before it has let go of its descriptors.
    rest();
    match (job.body)() {
        Ok(()) => stop_for_good(),
        // SAFETY: ends the process without any clean-up of the runtime.
        Err(error) => unsafe { libc::_exit(error.raw_os_error()) },
    }
}

fn rest() {
    let short = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    // Who is woken up early looks again.
    let (NanosleepRelativeResult::Ok
    | NanosleepRelativeResult::Interrupted(_)
    | NanosleepRelativeResult::Err(_)) = nanosleep(&short);
}
