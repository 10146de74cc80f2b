//! The numbers of tracepoints stand in tracefs, which not every machine has mounted.

use std::{io, path::Path, thread};

use aya::programs::ProgramError;

/// Where it belongs, and where it is in debugfs.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Runs `attach` where tracefs is mounted: here, or in a mount namespace of a thread that ends with it, so that nobody
/// else on the machine sees the mount.
///
/// # Errors
/// What `attach` says, or that tracefs cannot be mounted.
pub(super) fn mounted<T: Send>(
    attach: impl FnOnce() -> Result<T, ProgramError> + Send,
) -> Result<T, ProgramError> {
    if PLACES.iter().any(|place| Path::new(place).join("events").exists()) {
        return attach();
    }
    let in_thread = || {
        mount().map_err(|error| {
            io::Error::other(format!(
                "tracefs is not mounted (mount -t tracefs tracefs {}), and cannot be: {error}",
                PLACES[0]
            ))
        })?;
        attach()
    };
    thread::scope(|scope| {
        let failed = || io::Error::other("the thread that attaches the tracepoint ended early");
        scope.spawn(in_thread).join().map_err(|_| failed())?
    })
}

/// Mounts tracefs for this thread alone.
fn mount() -> io::Result<()> {
    // SAFETY: takes no pointer; this thread was made to have a file system of its own.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let (private, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: a name that ends with a zero; a change of propagation reads nothing else.
    done(unsafe { libc::mount(private, c"/".as_ptr(), private, flags, std::ptr::null()) })?;
    let (kind, place) = (c"tracefs".as_ptr(), c"/sys/kernel/tracing".as_ptr());
    // SAFETY: names that end with a zero; tracefs needs no data.
    done(unsafe { libc::mount(kind, place, kind, 0, std::ptr::null()) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
