//! The loader's decisions, as constants that the verifier knows.

use fdtrace_common::config::Config;

/// Overwritten by the loader before the programs are verified; the name is part of the contract with it.
#[unsafe(no_mangle)]
// SAFETY: made of integers.
static CONFIG: Config = unsafe { core::mem::zeroed() };

/// Reads one field of the configuration, for example `get!(min_age_ns)`.
///
/// Volatile, or the compiler would use the zeros above; a plain load of a frozen map, which the verifier folds.
macro_rules! get {
    ($($field:tt)+) => {
        // SAFETY: CONFIG is a static of plain integers; every bit pattern that the loader writes is valid.
        unsafe { core::ptr::read_volatile(&raw const $crate::config::storage().$($field)+) }
    };
}
pub(crate) use get;

/// Where [`get`] reads.
#[inline(always)]
pub(crate) fn storage() -> &'static Config {
    &CONFIG
}
