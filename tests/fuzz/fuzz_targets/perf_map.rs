//! A map of a JIT compiler names code or not, whatever its bytes are.
#![no_main]

use std::{
    fs::{self, File},
    path::PathBuf,
};

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = PathBuf::from(format!("/dev/shm/fdtrace-fuzz-{}", std::process::id()));
    fs::write(&path, bytes).expect("a file in memory");
    let map = File::open(&path).expect("it");
    fdtrace::stacks::fuzz::perf_map(&map, &[0, 0x1000, 0x1005, 0x2000, u64::MAX]);
});
