use std::{io, path::PathBuf};

use fdtrace_common::fields::Size;

/// What keeps fdtrace from tracing this kernel. Every message is a sentence for the person who typed the command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A capability is missing.
    #[error(
        "tracing needs {missing}, which this process does not have; run as root, or give the binary the capability \
         (`setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_syslog+ep fdtrace`)"
    )]
    Capability {
        /// The capability's name, such as `CAP_BPF`.
        missing: String,
    },
    /// The kernel does not describe its own types.
    #[error(
        "this kernel has no BTF ({path}: {source}); fdtrace needs one built with CONFIG_DEBUG_INFO_BTF=y, as all large \
         distributions have since Linux 5.8"
    )]
    NoBtf {
        /// Where it was looked for.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// BTF that cannot be read.
    #[error("this kernel's BTF cannot be read: {0}")]
    Btf(String),
    /// A field that a program must read is not in BTF.
    #[error(
        "this kernel's BTF has no field {0}, so fdtrace cannot read it; please report the kernel's version"
    )]
    MissingField(String),
    /// A field is not as this build knows it.
    #[error(
        "{field} of this kernel has {bytes} bytes, and fdtrace knows it with {size}; please report the kernel's version"
    )]
    StrangeField {
        /// Its name.
        field: String,
        /// Its size.
        bytes: usize,
        /// What it should be.
        size: Size,
    },
    /// No backend could be attached.
    #[error("no backend works on this kernel; `fdtrace doctor` shows the table.\n{0}")]
    NoBackend(String),
    /// The backend that was asked for cannot be attached.
    #[error("the {backend} backend does not work on this kernel: {reason}")]
    Backend {
        /// Its name.
        backend: &'static str,
        /// What failed.
        reason: String,
    },
    /// The BPF object could not be loaded.
    #[error("the BPF object cannot be loaded: {0}")]
    Object(String),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
    /// A filter that names something that is not there.
    #[error("{0}")]
    Filter(String),
}

/// The result of talking to the kernel.
pub type Result<T> = std::result::Result<T, Error>;

/// For `map_err`: says what was tried.
pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}
