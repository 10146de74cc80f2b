//! Memory of a process that claims to be a runtime of a language is read and ends, whatever it is.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fdtrace::runtimes::fuzz::memory(bytes);
});
