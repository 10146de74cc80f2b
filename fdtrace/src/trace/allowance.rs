//! What a file may cost whoever reads it.
//!
//! A few bytes can name much text over and over, and shrink to next to nothing. So what is kept of a file, what is made of
//! it and how much work is done for it follow its length.

/// What any file may cost, in bytes.
const ANY: u64 = 64 << 20;

/// And for each of its own bytes.
const EACH: u64 = 256;

/// The memory that so many bytes of a trace justify.
pub(crate) const fn memory(bytes: u64) -> u64 {
    ANY.saturating_add(EACH.saturating_mul(bytes))
}

/// How many bytes so many may unpack to, in all blocks: each is a little work.
pub(crate) const fn unpacked(bytes: u64) -> u64 {
    memory(bytes) / 4
}

/// How many groups may be looked at for so many bytes, each time that one is. A second of a trace in which nothing happens
/// is some 60 bytes and one sample.
pub(crate) const fn looking(bytes: u64) -> u64 {
    (1 << 19) + bytes.saturating_mul(64)
}

/// What a trace asks for is more than its bytes justify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trace asks for more memory than its {bytes} bytes justify ({} MB)", memory(*.bytes) >> 20)]
pub struct Unjustified {
    /// How many bytes were read.
    pub bytes: u64,
}
