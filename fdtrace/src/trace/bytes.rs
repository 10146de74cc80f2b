//! Numbers as they lie in the file.

/// What is wrong with a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// What should say how long a block is does not bear its own checksum: nothing behind it can be found.
    #[error("there is no block")]
    Framing,
    /// The bytes of a block are not those that were written.
    #[error("a checksum is wrong")]
    Checksum,
    /// A block says that it is longer than any block may be.
    #[error("a block is too long")]
    TooLong,
    /// A block cannot be decompressed to what it should be.
    #[error("a block cannot be decompressed")]
    Compression,
    /// A block or a record ends before what should be in it.
    #[error("a record ends early")]
    Short,
    /// A number is out of its range.
    #[error("a number is out of range")]
    Range,
    /// A record names something that no record before it has defined.
    #[error("a record names a {0} that is not defined")]
    Undefined(&'static str),
    /// There is more of something than any file may have.
    #[error("there are too many {0}")]
    TooMany(&'static str),
    /// It asks for more memory or work than its bytes justify.
    #[error("it asks for more memory than so many bytes justify")]
    Unjustified,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Text,
    /// Bytes follow what says that it is the end.
    #[error("there are bytes behind the end")]
    Behind,
}

/// Appends a number: seven bits to a byte, lowest first, the high bit on all but the last.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends the difference to a number that the reader knows, so that small ones of either sign are short.
#[inline]
pub(super) fn put_from(out: &mut Vec<u8>, base: u64, value: u64) {
    let difference = value.wrapping_sub(base).cast_signed();
    put(out, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
}

/// Appends bytes and before them how many.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Eight bytes' lower seven bits, without what is between them.
#[inline(always)]
const fn squeeze(bytes: u64) -> u64 {
    let pairs = (bytes & 0x007f_007f_007f_007f) | ((bytes & 0x7f00_7f00_7f00_7f00) >> 1);
    let fours = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
    (fours & 0x0fff_ffff) | ((fours & 0x0fff_ffff_0000_0000) >> 4)
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Default)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    #[inline(always)]
    pub(super) fn byte(&mut self) -> Result<u8, Damage> {
        let (first, rest) = self.0.split_first().ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Lengths of numbers follow no pattern that a processor could foresee, so the usual ones are read without a branch.
    #[inline(always)]
    pub(super) fn number(&mut self) -> Result<u64, Damage> {
        let Some(word) = self.0.first_chunk().map(|word| u64::from_le_bytes(*word)) else {
            return self.long_number();
        };
        let ends = !word & 0x8080_8080_8080_8080;
        let length = (ends.trailing_zeros() as usize).wrapping_add(1) / 8;
        if ends == 0 {
            return self.long_number();
        }
        self.0 = &self.0[length..];
        Ok(squeeze(word & (ends ^ (ends - 1))))
    }

    #[cold]
    fn long_number(&mut self) -> Result<u64, Damage> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Damage::Range);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damage::Range)
    }

    #[inline(always)]
    pub(super) fn number_from(&mut self, base: u64) -> Result<u64, Damage> {
        let coded = self.number()?;
        Ok(base.wrapping_add((coded >> 1) ^ (coded & 1).wrapping_neg()))
    }

    /// A number that fits into 32 bits.
    #[inline(always)]
    pub(super) fn short(&mut self) -> Result<u32, Damage> {
        u32::try_from(self.number()?).map_err(|_| Damage::Range)
    }

    /// The same, as a difference.
    #[inline(always)]
    pub(super) fn short_from(&mut self, base: u32) -> Result<u32, Damage> {
        u32::try_from(self.number_from(base.into())?).map_err(|_| Damage::Range)
    }

    /// How many of something follow.
    pub(super) fn count(&mut self) -> Result<usize, Damage> {
        usize::try_from(self.number()?).map_err(|_| Damage::Range)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Bytes with how many before them.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let length = self.count()?;
        self.take(length)
    }

    /// The same, of text.
    pub(super) fn text(&mut self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damage::Text)
    }

    /// Eight bytes, lowest first.
    pub(super) fn word(&mut self) -> Result<u64, Damage> {
        let (word, rest) = self.0.split_first_chunk().ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let edges = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in edges.chain([u64::MAX]) {
            let mut out = Vec::new();
            put(&mut out, value);
            put_from(&mut out, 1 << 40, value);
            let padded = [&out[..], &[0xff; 8]].concat();
            assert_eq!(Bytes(&padded).number(), Ok(value));
            let mut bytes = Bytes(&out);
            assert_eq!(bytes.number(), Ok(value));
            assert_eq!(bytes.number_from(1 << 40), Ok(value));
            assert_eq!(bytes.byte(), Err(Damage::Short));
            for length in 0..out.len() {
                let mut cut = Bytes(&out[..length]);
                assert!(cut.number().is_err() || cut.number_from(0).is_err(), "{value} cut to {length}");
            }
        }
    }

    #[test]
    fn a_number_beyond_64_bits_is_refused() {
        let ten = |last: u8| [[0xff; 9].as_slice(), &[last]].concat();
        assert_eq!(Bytes(&ten(1)).number(), Ok(u64::MAX));
        assert_eq!(Bytes(&ten(2)).number(), Err(Damage::Range));
        assert_eq!(Bytes(&ten(0x81)).number(), Err(Damage::Range));
    }
}
