//! Texts of `/proc` are read or passed over, whatever their bytes are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fdtrace::holders::fuzz::texts(bytes);
});
