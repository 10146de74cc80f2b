//! A file with code is named or not, whatever its bytes are: no crash, no hang, no memory that it does not have.
#![no_main]

use std::{cell::RefCell, fs, os::unix::fs::MetadataExt as _, path::Path};

use fdtrace::stacks::{CodeNames, FileId, Module};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static NAMES: RefCell<CodeNames> = RefCell::default();
}

fuzz_target!(|bytes: &[u8]| {
    let path = format!("/dev/shm/fdtrace-fuzz-{}", std::process::id());
    fs::write(&path, bytes).expect("a file in memory");
    let metadata = fs::metadata(&path).expect("its metadata");
    let file = Some(FileId { device: metadata.dev(), inode: metadata.ino() });
    let module = Module { path: Path::new(&path).into(), build_id: None, file, reach: None };
    // The code of the seeds, and all around it.
    let offsets: Vec<u64> = (0x110..0x13d).chain((0..0x400).step_by(32)).chain([0x1000, u64::MAX]).collect();
    let frames = NAMES.with_borrow_mut(|names| names.frames_of_all(&module, &offsets));
    assert!(frames.len() == offsets.len() && frames.iter().all(|frames| !frames.is_empty()));
    // The next one is another file.
    fs::remove_file(&path).expect("it is there");
});
