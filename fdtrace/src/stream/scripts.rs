//! Calls of scripts, as the kernel side reads them: decoded before they are joined with the native frames.

use bytes::Buf;
use fdtrace_common::{
    scripts::{self, Call, FILE_WORDS, FUNCTION_WORDS, LINES_WORDS},
    wire::{MAX_FRAMES, Tag},
};

use super::Malformed;
use crate::runtimes::{CodeObject, RawText};

/// The calls of a stack, which comes right behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptCalls {
    /// The stack's name.
    pub hash: u64,
    /// The interpreter's file.
    pub module: u64,
    /// The stack pointer of each native frame that the kernel side has taken, innermost first.
    pub stacks: Vec<u64>,
    /// Innermost first.
    pub calls: Vec<Call>,
}

/// Decodes a record of [`Tag::Calls`].
pub(super) fn calls(record: &[u8]) -> Result<ScriptCalls, Malformed> {
    let wrong_length = Malformed::Length { tag: Tag::Calls as u8, length: record.len() };
    if record.len() < size_of::<scripts::Calls>() {
        return Err(wrong_length);
    }
    let mut bytes = &record[2..];
    let count = usize::from(bytes.get_u16_ne());
    let frames = bytes.get_u32_ne() as usize;
    let (hash, module) = (bytes.get_u64_ne(), bytes.get_u64_ne());
    let mut stacks: Vec<u64> = (0..MAX_FRAMES).map(|_| bytes.get_u64_ne()).collect();
    bytes.advance(8);
    if count > MAX_FRAMES || frames > MAX_FRAMES || bytes.remaining() != count * size_of::<Call>() {
        return Err(wrong_length);
    }
    stacks.truncate(frames);
    let calls = (0..count).map(|_| Call {
        code: bytes.get_u64_ne(),
        border: bytes.get_u64_ne(),
        instruction: bytes.get_i32_ne(),
        ends_run: bytes.get_u32_ne(),
    });
    Ok(ScriptCalls { hash, module, calls: calls.collect(), stacks })
}

/// Decodes a record of [`Tag::Code`].
pub(super) fn code(record: &[u8]) -> Result<CodeObject, Malformed> {
    let tag = Tag::Code as u8;
    let wrong_length = Malformed::Length { tag, length: record.len() };
    if record.len() < size_of::<scripts::Code>() - LINES_WORDS * 8 {
        return Err(wrong_length);
    }
    let mut bytes = &record[4..];
    let first_line = bytes.get_u32_ne();
    let (key, format) = (bytes.get_u64_ne(), bytes.get_u32_ne());
    bytes.advance(4);
    let function = text(&mut bytes, FUNCTION_WORDS);
    let file = text(&mut bytes, FILE_WORDS);
    let length = (&mut &bytes[..4]).get_u32_ne() as usize;
    if bytes.remaining() != 8 + length {
        return Err(wrong_length);
    }
    let lines = text(&mut bytes, length.div_ceil(8));
    match (function, file, lines) {
        (Some(function), Some(file), Some(lines)) if scripts::is_code(key) => {
            Ok(CodeObject { key, format, first_line, function, file, lines })
        }
        _ => Err(Malformed::Value { tag, field: "key", value: key }),
    }
}

/// A text that has room for so many words, or less where the record ends.
fn text(bytes: &mut &[u8], words: usize) -> Option<RawText> {
    let length = bytes.get_u32_ne() as usize;
    let (width, cut) = (bytes.get_u16_ne(), bytes.get_u16_ne());
    let (room, behind) = bytes.split_at(bytes.len().min(words * 8));
    *bytes = behind;
    let text = room.get(..length)?;
    matches!(width, 1 | 2 | 4).then(|| RawText { bytes: text.into(), width, is_cut: cut != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with as many bytes of a line table as are given.
    fn record(function: u32, width: u16, lines: &[u8]) -> Vec<u8> {
        let mut bytes = vec![Tag::Code as u8, 0, 0, 0];
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(12_u64.to_ne_bytes());
        bytes.extend([1_u32, 0].iter().flat_map(|word| word.to_ne_bytes()));
        for (length, width, room) in [(function, width, FUNCTION_WORDS * 8), (3, 2, FILE_WORDS * 8)] {
            bytes.extend(length.to_ne_bytes());
            bytes.extend([width, 0].iter().flat_map(|half| half.to_ne_bytes()));
            bytes.extend(vec![b'a'; room]);
        }
        bytes.extend(u32::try_from(lines.len()).unwrap_or_default().to_ne_bytes());
        bytes.extend([1_u16, 1].iter().flat_map(|half| half.to_ne_bytes()));
        bytes.extend(lines);
        bytes
    }

    #[test]
    fn a_code_object_is_read() {
        let read = code(&record(4, 1, &[1, 2, 3])).expect("a record");
        assert_eq!((read.key, read.format, read.first_line), (12, 1, 7));
        assert_eq!((&*read.function.bytes, &*read.file.bytes), (&b"aaaa"[..], &b"aaa"[..]));
        assert_eq!((&*read.lines.bytes, read.lines.is_cut), (&[1, 2, 3][..], true));
    }

    #[test]
    fn lengths_are_looked_at() {
        assert!(code(&record(257, 1, &[])).is_err(), "longer than its room");
        assert!(code(&record(4, 3, &[])).is_err(), "no width");
        let whole = record(4, 1, &[1, 2, 3]);
        assert!((0..whole.len()).all(|length| code(&whole[..length]).is_err()));
        assert!(code(&[whole, vec![0]].concat()).is_err());
    }

    #[test]
    fn calls_are_as_many_as_are_said() {
        let mut bytes = vec![Tag::Calls as u8, 0];
        bytes.extend(1_u16.to_ne_bytes());
        bytes.extend(2_u32.to_ne_bytes());
        bytes.extend([5_u64, 6].iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend((0..=MAX_FRAMES as u64).flat_map(u64::to_ne_bytes));
        bytes.extend([4_u64, 9].iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend((-2_i32).to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        let call = Call { code: 4, border: 9, instruction: -2, ends_run: 1 };
        let read = ScriptCalls { hash: 5, module: 6, stacks: vec![0, 1], calls: vec![call] };
        assert_eq!(calls(&bytes), Ok(read));
        assert!((0..bytes.len()).all(|length| calls(&bytes[..length]).is_err()));
    }
}
