//! A file with code is read or not, whatever its bytes are: no crash, no hang, no memory that it does not have.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The code of the seeds, and all around it.
    let offsets: Vec<u64> = (0x110..0x13d).chain((0..0x400).step_by(32)).chain([0x1000, u64::MAX]).collect();
    fdtrace::stacks::fuzz::program(bytes, &offsets);
});
