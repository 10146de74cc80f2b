//! Line tables of methods, as HotSpot compresses them.

/// What a pair of differences of more than a byte begins with, and what the table ends with.
const LONG: u8 = 0xff;
const END: u8 = 0;

/// A byte of a number that others follow is not less, and each has so many bits more; a number has so many bytes at most.
const MORE: u8 = 192;
const BITS: u32 = 6;
const MAX_BYTES: u32 = 5;

/// The line of an instruction: that of the last entry that begins up to it. `excluded` is 1 where numbers have no zeros in them.
pub(super) fn line(table: &[u8], excluded: u8, instruction: u32) -> Option<u32> {
    let mut numbers = Numbers { bytes: table.iter(), excluded };
    let (mut at, mut line) = (0_u32, 0_u32);
    let mut best: Option<(u32, u32)> = None;
    while let Some((further, more)) = numbers.entry() {
        (at, line) = (at.wrapping_add(further), line.wrapping_add(more));
        // Entries are mostly in order; of two for one instruction the first counts.
        if at == instruction {
            return Some(line);
        }
        if at < instruction && best.is_none_or(|(begin, _)| at >= begin) {
            best = Some((at, line));
        }
    }
    best.map(|(_, line)| line)
}

struct Numbers<'a> {
    bytes: std::slice::Iter<'a, u8>,
    excluded: u8,
}

impl Numbers<'_> {
    /// How far the next entry is behind the last one, in bytes and in lines; `None` at the end.
    fn entry(&mut self) -> Option<(u32, u32)> {
        match *self.bytes.next()? {
            END => None,
            LONG => Some((self.signed()?, self.signed()?)),
            short => Some((u32::from(short >> 3), u32::from(short & 7))),
        }
    }

    /// A difference, which may be negative.
    fn signed(&mut self) -> Option<u32> {
        let number = self.number()?;
        Some((number >> 1) ^ (number & 1).wrapping_neg())
    }

    fn number(&mut self) -> Option<u32> {
        let mut number = 0_u32;
        for index in 0..MAX_BYTES {
            let byte = *self.bytes.next()?;
            let value = u32::from(byte.checked_sub(self.excluded)?);
            number = number.wrapping_add(value.wrapping_shl(index * BITS));
            if byte < MORE {
                break;
            }
        }
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number as it is written.
    fn number(mut number: u32, excluded: u8) -> Vec<u8> {
        let most = u32::from(MORE - excluded);
        let mut bytes = Vec::new();
        while number >= most && bytes.len() < 4 {
            let low = (number - most) & 63;
            bytes.push(u8::try_from(most + low).expect("a byte") + excluded);
            number = (number - most - low) >> BITS;
        }
        bytes.push(u8::try_from(number).expect("a byte") + excluded);
        bytes
    }

    fn signed(number_: i32, excluded: u8) -> Vec<u8> {
        number(((number_ << 1) ^ (number_ >> 31)).cast_unsigned(), excluded)
    }

    fn long(further: i32, more: i32, excluded: u8) -> Vec<u8> {
        [vec![LONG], signed(further, excluded), signed(more, excluded)].concat()
    }

    #[test]
    fn a_line_is_that_of_the_last_entry_before() {
        for excluded in [0, 1] {
            let table = [long(0, 1000, excluded), vec![5 << 3 | 2], long(400, -900, excluded), vec![END]];
            let table = table.concat();
            let lines = [0, 4, 5, 404, 405, 9000].map(|at| line(&table, excluded, at));
            assert_eq!(lines, [1000, 1000, 1002, 1002, 102, 102].map(Some));
        }
    }

    #[test]
    fn entries_may_be_out_of_order() {
        let table = [long(10, 20, 0), long(-10, -5, 0), long(4, 1, 0), vec![END]].concat();
        assert_eq!([0, 3, 4, 9, 10].map(|at| line(&table, 0, at)), [15, 15, 16, 16, 20].map(Some));
    }

    #[test]
    fn no_table_has_no_line() {
        assert_eq!(line(&[], 0, 3), None);
        assert_eq!(line(&[END], 0, 3), None);
        assert_eq!(line(&[LONG, 0, 8], 1, 3), None, "a zero is no number there");
        assert_eq!(line(&[LONG, 255], 0, 3), None, "cut off");
    }
}
