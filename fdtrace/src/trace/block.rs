//! How blocks lie behind one another.

use super::{bytes::Damage, format::MAX_RAW};

/// Bytes before a block's own.
pub(super) const FRAME: usize = 24;

/// What stands before a block's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// See [`super::format::kind`].
    pub(super) kind: u8,
    /// See [`super::format::flag`].
    pub(super) flags: u8,
    /// How many bytes follow.
    pub(super) stored: u32,
    /// How many they are once decompressed.
    pub(super) raw: u32,
    /// How many events they are.
    pub(super) events: u32,
    /// Their CRC-32, as they are stored.
    pub(super) checksum: u32,
}

impl Frame {
    pub(super) fn to_bytes(self) -> [u8; FRAME] {
        let mut bytes = [0; FRAME];
        bytes[0] = self.kind;
        bytes[1] = self.flags;
        let words = [self.stored, self.raw, self.events, self.checksum];
        for (place, word) in bytes[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let own = crc32fast::hash(&bytes[..FRAME - 4]);
        bytes[FRAME - 4..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; FRAME]) -> Result<Self, Damage> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if !matches(&bytes[..FRAME - 4], word(FRAME - 4)) {
            return Err(Damage::Framing);
        }
        let frame = Self {
            kind: bytes[0],
            flags: bytes[1],
            stored: word(4),
            raw: word(8),
            events: word(12),
            checksum: word(16),
        };
        match frame.stored <= MAX_RAW && frame.raw <= MAX_RAW {
            true => Ok(frame),
            false => Err(Damage::TooLong),
        }
    }
}

/// Whether bytes have this checksum. A fuzzer cannot find checksums, so they all pass when one is at work.
pub(super) fn matches(bytes: &[u8], checksum: u32) -> bool {
    cfg!(fuzzing) || crc32fast::hash(bytes) == checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_and_no_bit_of_it_can_change() {
        let frame = Frame { kind: 2, flags: 1, stored: 77, raw: 1000, events: 9, checksum: 0x1234_5678 };
        let bytes = frame.to_bytes();
        assert_eq!(Frame::from_bytes(&bytes), Ok(frame));
        for bit in 0..FRAME * 8 {
            let mut wrong = bytes;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Frame::from_bytes(&wrong), Err(Damage::Framing), "bit {bit}");
        }
        let long = Frame { raw: MAX_RAW + 1, ..frame };
        assert_eq!(Frame::from_bytes(&long.to_bytes()), Err(Damage::TooLong));
    }
}
