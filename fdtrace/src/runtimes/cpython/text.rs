//! Strings of a Python program.

use serde::{Deserialize, Serialize};

use crate::runtimes::memory::Memory;

/// Where a string has what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TextLayout {
    /// Bytes before the characters, where all of them are ASCII.
    pub(super) ascii: u64,
    /// The same, where not.
    pub(super) other: u64,
}

/// Number of characters (`PyASCIIObject.length`), and the state behind it and the hash.
const LENGTH: u64 = 16;
const STATE: u64 = 32;
/// Bits of the state: three that say how wide a character is; then two, that the characters follow at once, and that they are
/// ASCII.
const WIDTH: u32 = 2;

/// The most characters that are read: longer paths the kernel has not, and longer names nobody reads.
const MOST: u64 = 4096;

impl TextLayout {
    /// Reads a string, as far as [`MOST`].
    pub(super) fn read(&self, memory: &(impl Memory + ?Sized), text: u64) -> Option<String> {
        let state = memory.half(text, STATE)? >> WIDTH;
        let (width, is_compact, is_ascii) = (state & 7, state & 8 != 0, state & 16 != 0);
        if !is_compact || !matches!(width, 1 | 2 | 4) {
            return None;
        }
        let length = usize::try_from(memory.word(text, LENGTH)?.min(MOST)).ok()?;
        let start = text.checked_add(if is_ascii { self.ascii } else { self.other })?;
        let bytes = memory.bytes(start, length * usize::try_from(width).ok()?)?;
        Some(characters(&bytes, width))
    }
}

/// Latin-1, UCS-2 or UCS-4. A path's byte that is no character is half a surrogate pair there, and is shown as unknown.
pub(super) fn characters(bytes: &[u8], width: u32) -> String {
    let one = |value| char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
    match width {
        1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        2 => bytes.as_chunks().0.iter().map(|pair| one(u16::from_ne_bytes(*pair).into())).collect(),
        _ => bytes.as_chunks().0.iter().map(|word| one(u32::from_ne_bytes(*word))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::memory::tests::Made;

    const LAYOUT: TextLayout = TextLayout { ascii: 40, other: 56 };

    fn made(length: u64, width: u32, ascii: bool, bytes: &[u8]) -> Made {
        let mut object = vec![0; 40];
        object[16..24].copy_from_slice(&length.to_ne_bytes());
        let state = (width << 2) | (1 << 5) | (u32::from(ascii) << 6) | 1;
        object[32..36].copy_from_slice(&state.to_ne_bytes());
        object.resize(if ascii { 40 } else { 56 }, 0);
        object.extend(bytes);
        Made(0x1000, object)
    }

    fn read(made: &Made) -> Option<String> {
        LAYOUT.read(made, 0x1000)
    }

    #[test]
    fn characters_of_each_width() {
        assert_eq!(read(&made(4, 1, true, b"main")).as_deref(), Some("main"));
        assert_eq!(read(&made(2, 1, false, b"\xe9a")).as_deref(), Some("éa"));
        let two: Vec<u8> = "жя".encode_utf16().flat_map(u16::to_ne_bytes).collect();
        assert_eq!(read(&made(2, 2, false, &two)).as_deref(), Some("жя"));
        let four: Vec<u8> = "a🐍".chars().flat_map(|one| u32::from(one).to_ne_bytes()).collect();
        assert_eq!(read(&made(2, 4, false, &four)).as_deref(), Some("a🐍"));
    }

    #[test]
    fn what_is_no_character_is_shown_as_such() {
        let surrogate = 0xdcff_u16.to_ne_bytes();
        assert_eq!(read(&made(1, 2, false, &surrogate)).as_deref(), Some("\u{fffd}"));
        assert_eq!(read(&made(1, 4, false, &[0xff; 4])).as_deref(), Some("\u{fffd}"));
    }

    #[test]
    fn lengths_are_not_believed() {
        assert_eq!(read(&made(5, 1, true, b"main")), None, "longer than memory");
        let long = made(u64::MAX, 1, true, &[b'a'; 5000]);
        assert_eq!(read(&long).map(|text| text.len()), Some(4096));
        assert_eq!(read(&made(1, 3, true, b"abcd")), None, "no width");
    }
}
