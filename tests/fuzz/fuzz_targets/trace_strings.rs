//! Whatever a trace holds, it takes no more memory than its bytes justify, and nothing in its views steers a terminal.
//!
//! The bytes are one block of a file that is right otherwise, or behind a zero the whole file. Checksums are not looked at when a fuzzer is at work.
#![no_main]

use fdtrace::{
    replay::{Replay, Step},
    report::{self, Style, Weight},
    view::Selection,
};
use libfuzzer_sys::fuzz_target;

/// Magic, version, and a header with names that would do much.
const MAGIC: &[u8] = b"\x89FDT\r\n\x1a\n\x01\0\0\0";
const HEADER: &str = "{\"backend\":\"\\u001b[2J\\u202e\",\"kernel\":\"\\n\\u009b\"}";

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((0, rest)) => read(rest),
        _ => read(&[MAGIC, &block(1, HEADER.as_bytes()), &block(2, bytes)].concat()),
    }
});

/// A block, not compressed.
fn block(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    let frame = [length, length, 1, 0, 0].map(u32::to_le_bytes).concat();
    [&[kind, 3, 0, 0], &frame[..], bytes].concat()
}

fn read(file: &[u8]) {
    let selection = Selection { closed_too: true, ..Selection::default() };
    let Ok(mut replay) = Replay::new(file, selection, None) else { return };
    while let Ok(step) = replay.step() {
        if step == Step::Done {
            break;
        }
    }
    let Ok(snapshot) = replay.snapshot() else { return };
    let document = replay.view().document("fuzz", &snapshot);
    let style = Style { color: false, top: 50, verbose: true, finished: true };
    shows(|out| report::write_text(out, &document, style));
    shows(|out| report::write_text(out, &document, Style { verbose: false, ..style }));
    shows(|out| report::write_json(out, &document));
    shows(|out| report::write_folded(out, &document, Weight::Allocated));
    shows(|out| report::write_diff_text(out, &report::diff(&document, &document), style));
}

fn shows(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) {
    let mut out = Vec::new();
    write(&mut out).expect("a vector takes everything");
    let text = String::from_utf8(out).expect("text");
    let bad = |character: &char| {
        (character.is_control() && *character != '\n')
            || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(character, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
            || matches!(character, '\u{e0000}'..='\u{e007f}')
    };
    assert_eq!(text.chars().find(bad), None, "{text:?}");
}
