//! Texts of a process are read or passed over, whatever its name is.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fdtrace::process::fuzz::texts(bytes);
});
