//! Rights that come from the file of fdtrace, and not from whoever runs it.

use nix::unistd::{getegid, geteuid, getgid, getuid};

use crate::kernel::Capabilities;

/// Whether the file of fdtrace gives rights that its user does not have: then nothing that the user chooses may be done
/// with them but to trace.
pub(crate) fn is_lent() -> bool {
    // SAFETY: takes and gives numbers.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Refuses to run set-uid or set-gid, and gives up capabilities that a tracer does not need when the file lends any: they
/// would be anybody's, to read any file or to become anybody.
///
/// # Errors
/// A sentence.
pub(crate) fn settle() -> Result<(), String> {
    if getuid() != geteuid() || getgid() != getegid() {
        return Err("it does not run set-uid or set-gid: everybody could do with it what its owner may; \
                    give CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_SYSLOG to those who shall trace"
            .to_owned());
    }
    if !is_lent() {
        return Ok(());
    }
    // What it says is the kernel's, for those who may load programs themselves.
    // SAFETY: there is no other thread yet.
    unsafe { std::env::remove_var("FDTRACE_VERIFIER_LOG") };
    let kept = Capabilities::for_tracing().keep_only();
    kept.map_err(|error| format!("the capabilities that its file lends cannot be reduced: {error}"))
}
