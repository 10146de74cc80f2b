//! A trace is read or refused, whatever its bytes are, and what is read can be folded.
//!
//! When the first byte is odd, the others are one block of a file that is right otherwise; when it is even, they are the
//! whole file. Checksums are not looked at when a fuzzer is at work.
#![no_main]

use fdtrace::{handles::Fold, trace::Reader};
use libfuzzer_sys::fuzz_target;

/// Magic, version, and a header block that is empty JSON.
const BEGIN: [&[u8]; 2] =
    [b"\x89FDT\r\n\x1a\n\x01\0\0\0", b"\x01\x02\0\0\x02\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0{}"];

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((choice, rest)) if choice % 2 == 1 => read(&file_of(rest)),
        Some((_, rest)) => read(rest),
        None => {}
    }
});

/// A file with the bytes as its only block, not compressed.
fn file_of(block: &[u8]) -> Vec<u8> {
    let mut file = BEGIN.concat();
    let length = u32::try_from(block.len()).unwrap_or(0);
    file.extend([2, 3, 0, 0]);
    file.extend([length, length, 1, 0, 0].map(u32::to_le_bytes).concat());
    file.extend(block);
    file
}

fn read(file: &[u8]) {
    let Ok(mut reader) = Reader::new(file) else { return };
    let (mut events, mut fold) = (Vec::new(), Fold::default());
    while let Ok(true) = reader.read_batch(&mut events) {
        fold.apply_all(&mut events);
    }
    assert!(reader.end().is_some() && reader.position() <= file.len() as u64);
}
