//! A record of the ring is decoded or refused, whatever its bytes are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _: Result<_, _> = fdtrace::stream::decode(bytes);
});
