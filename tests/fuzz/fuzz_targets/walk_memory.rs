//! Walks through memory end, whatever lies there.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fdtrace::holders::fuzz::memory(bytes);
});
