//! Records of the walk give the same answer however they are cut, whatever their bytes are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fdtrace::holders::fuzz::records(bytes);
});
