//! Foreign files are mapped while they are read, and foreign data leads libraries where nobody has been: what then
//! happens to a thread must not end the tracer.
//!
//! A mapped file that is truncated meanwhile raises SIGBUS; the handler puts a page of zeros where the file ended, and what
//! was read is thrown away. A stack that overflows raises SIGSEGV; nothing can be put right there, so the thread stops for
//! good, and whoever waits for it gives up. All other faults go to the handler that was there before.

use std::{
    cell::Cell,
    ffi::c_void,
    mem, panic, ptr,
    sync::{Once, OnceLock},
};

use libc::{SIGBUS, SIGSEGV, c_int, siginfo_t};

thread_local! {
    /// A library reads a file.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// A file ended earlier than it was mapped.
    static CUT: Cell<bool> = const { Cell::new(false) };
    /// Somebody waits for this thread, but not for ever.
    static EXPENDABLE: Cell<bool> = const { Cell::new(false) };
}

/// A file mapping is touched behind the end of its file.
const BUS_ADRERR: c_int = 2;
/// The stack of the handlers.
const HANDLER_STACK: usize = 64 << 10;

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// What a library makes of a file; `None` where it panics, or the file is truncated while it reads.
pub(super) fn guarded<T>(act: impl FnOnce() -> T) -> Option<T> {
    install();
    let before = GUARDED.replace(true);
    CUT.set(false);
    let result = panic::catch_unwind(panic::AssertUnwindSafe(act));
    GUARDED.set(before);
    result.ok().filter(|_| !CUT.get())
}

/// This thread may be lost: no signal of the process is delivered to it, and its faults stop it instead of the process.
pub(super) fn expendable() {
    install();
    EXPENDABLE.set(true);
    let stack: &'static mut [u8] = vec![0; HANDLER_STACK].leak();
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the memory is leaked, so it stays as long as the thread.
    unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    // SAFETY: all zeros are a set of signals.
    let mut signals: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the set is valid.
    unsafe { libc::sigfillset(&raw mut signals) };
    for fault in [SIGBUS, SIGSEGV, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT] {
        // SAFETY: the set is valid.
        unsafe { libc::sigdelset(&raw mut signals, fault) };
    }
    // SAFETY: the set is valid, and the mask is this thread's own.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, ptr::null_mut()) };
}

/// Once for the process. The hook keeps silent about panics that are caught here.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                before(panic);
            }
        }));
        handle(SIGBUS);
        handle(SIGSEGV);
    });
}

/// The handlers that were there before.
static BEFORE: [OnceLock<libc::sigaction>; 2] = [const { OnceLock::new() }; 2];

fn before(signal: c_int) -> &'static OnceLock<libc::sigaction> {
    &BEFORE[usize::from(signal == SIGSEGV)]
}

fn handle(signal: c_int) {
    // SAFETY: all zeros are a valid action.
    let mut old: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: nothing is changed, and `old` can be written.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut old) };
    // The handler must find it.
    let _ = before(signal).set(old);
    // SAFETY: as above.
    let mut new: libc::sigaction = unsafe { mem::zeroed() };
    new.sa_sigaction = on_fault as Handler as usize;
    new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler does only what a handler may.
    unsafe { libc::sigaction(signal, &raw const new, ptr::null_mut()) };
}

/// Only system calls, and variables of this thread that need no memory.
extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    if signal == SIGBUS && GUARDED.get() && put_zeros(info) {
        CUT.set(true);
        return;
    }
    if EXPENDABLE.get() {
        loop {
            // SAFETY: it only waits.
            unsafe { libc::pause() };
        }
    }
    pass_on(signal, info, context);
}

fn put_zeros(info: *mut siginfo_t) -> bool {
    // SAFETY: the kernel hands a valid one to the handler.
    let info = unsafe { &*info };
    if info.si_code != BUS_ADRERR {
        return false;
    }
    // SAFETY: for this signal the field is the address.
    let address = unsafe { info.si_addr() } as usize;
    // SAFETY: it reads a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let start = (address & !(page - 1)) as *mut c_void;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: it is a page of a file that was mapped for reading, has nothing behind it, and is read just now.
    let mapped = unsafe { libc::mmap(start, page, libc::PROT_READ, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let old = before(signal).get();
    match old {
        Some(old) if old.sa_sigaction != libc::SIG_DFL && old.sa_sigaction != libc::SIG_IGN => {
            // SAFETY: it was installed as a handler; one that wants no more than the number ignores the rest.
            let handler = unsafe { mem::transmute::<usize, Handler>(old.sa_sigaction) };
            handler(signal, info, context);
        }
        // The fault happens again, and does what it does by default.
        _ => {
            // SAFETY: it takes two numbers.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}
