//! Code objects as the kernel side sends them.

/// What is in a code object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeObject {
    /// Its name ([`fdtrace_common::scripts::code_key`]).
    pub key: u64,
    /// How its line table is written.
    pub format: u32,
    /// The first line.
    pub first_line: u32,
    /// The function.
    pub function: RawText,
    /// The source file.
    pub file: RawText,
    /// The line table.
    pub lines: RawText,
}

/// A string of a process, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawText {
    /// The characters.
    pub bytes: Box<[u8]>,
    /// Bytes of a character.
    pub width: u16,
    /// There was more.
    pub is_cut: bool,
}

impl RawText {
    /// What `decode` makes of it, with a mark where there was more.
    pub(super) fn shown(&self, decode: impl FnOnce(&[u8]) -> String) -> String {
        let mut shown = decode(&self.bytes);
        if self.is_cut {
            shown.push_str("...");
        }
        shown
    }
}
