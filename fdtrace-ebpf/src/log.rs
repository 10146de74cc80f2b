//! Messages for whoever debugs the programs, in an object built by `cargo xtask ebpf --log`.

/// Logs a message, with the arguments of `aya_log_ebpf::debug!`; nothing at all in the committed object.
#[cfg(feature = "log")]
macro_rules! debug {
    ($($argument:tt)*) => { aya_log_ebpf::debug!($($argument)*) };
}

/// Nothing at all.
#[cfg(not(feature = "log"))]
macro_rules! debug {
    ($($argument:tt)*) => {};
}

pub(crate) use debug;
