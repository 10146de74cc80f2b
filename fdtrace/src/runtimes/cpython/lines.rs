//! Line tables: which line of the source an instruction is of.

use serde::{Deserialize, Serialize};

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Format {
    /// To 3.9, `co_lnotab`: pairs of how far the address and then the line move on.
    Moves,
    /// 3.10 (PEP 626), `co_linetable`: pairs of how long a range is and how far its line is from that of the one before.
    Ranges,
    /// From 3.11 on (PEP 657), `co_linetable`: entries that also have columns.
    Locations,
}

impl Format {
    /// By its number.
    pub(super) fn numbered(number: u32) -> Option<Self> {
        [Self::Moves, Self::Ranges, Self::Locations].into_iter().find(|format| *format as u32 == number)
    }

    /// The part of a table that was cut off in which nothing is half an entry, and up to which byte of the code that goes.
    pub(super) fn whole(self, table: &[u8]) -> (&[u8], u64) {
        match self {
            Self::Moves => {
                let pairs = table.as_chunks::<2>().0;
                (table, pairs.iter().map(|pair| u64::from(pair[0])).sum())
            }
            Self::Ranges => (table, u64::MAX),
            Self::Locations => {
                let last = table.iter().rposition(|byte| byte & FIRST_OF_ENTRY != 0).unwrap_or(0);
                (&table[..last], u64::MAX)
            }
        }
    }

    /// The line of the instruction at this byte of the code; one below 0 is before the first. `None` for instructions that are
    /// of no line.
    pub(super) fn line(self, table: &[u8], first: u32, instruction: i32) -> Option<u32> {
        let Ok(at) = u64::try_from(instruction) else { return Some(first) };
        let line = match self {
            Self::Moves => Some(moves(table, first.into(), at)),
            Self::Ranges => ranges(table, first.into(), at),
            Self::Locations => locations(table, first.into(), at),
        };
        line.and_then(|line| u32::try_from(line).ok())
    }
}

fn moves(table: &[u8], first: i64, at: u64) -> i64 {
    let (mut address, mut line) = (0, first);
    for pair in table.as_chunks::<2>().0 {
        address += u64::from(pair[0]);
        if address > at {
            break;
        }
        line += i64::from(pair[1].cast_signed());
    }
    line
}

/// What a range has in place of a distance when it is of no line.
const NO_LINE: i8 = -128;

fn ranges(table: &[u8], first: i64, at: u64) -> Option<i64> {
    let (mut end, mut line) = (0, first);
    for pair in table.as_chunks::<2>().0 {
        let distance = pair[1].cast_signed();
        line += if distance == NO_LINE { 0 } else { i64::from(distance) };
        end += u64::from(pair[0]);
        if at < end {
            return (distance != NO_LINE).then_some(line);
        }
    }
    None
}

/// Bytes of a code unit.
const UNIT: u64 = 2;

fn locations(table: &[u8], first: i64, at: u64) -> Option<i64> {
    let (mut rest, mut end, mut line) = (table, 0, first);
    while let Some((head, behind)) = rest.split_first() {
        let body = behind.iter().position(|byte| byte & FIRST_OF_ENTRY != 0).unwrap_or(behind.len());
        let entry;
        (entry, rest) = behind.split_at(body);
        let distance = distance((head >> 3) & 15, entry);
        line += distance.unwrap_or(0);
        end += (u64::from(head & 7) + 1) * UNIT;
        if at < end {
            return distance.map(|_| line);
        }
    }
    None
}

/// The bit that the first byte of an entry has, and no other.
const FIRST_OF_ENTRY: u8 = 1 << 7;

/// How far the line of an entry of this kind is from that of the one before; `None` where there is no line.
fn distance(kind: u8, entry: &[u8]) -> Option<i64> {
    match kind {
        0..=10 => Some(0),
        11 => Some(1),
        12 => Some(2),
        13 | 14 => Some(signed(entry)),
        _ => None,
    }
}

/// Six bits a byte, the lowest first; one more bit says that there are more. The lowest of all is the sign.
fn signed(bytes: &[u8]) -> i64 {
    let (mut value, mut shift) = (0_u64, 0_u32);
    for byte in bytes {
        value |= u64::from(byte & 0x3f).checked_shl(shift).unwrap_or(0);
        shift += 6;
        if byte & 0x40 == 0 {
            break;
        }
    }
    // Lines are numbers of 32 bits, so that sums of these cannot become too large.
    let size = i64::try_from((value >> 1) & u64::from(u32::MAX)).unwrap_or(0);
    if value & 1 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_cut_table_no_line_is_known() {
        assert_eq!(Format::Moves.whole(&[10, 1, 4, 1, 7]).1, 14);
        let table = [0b1101_1000, 1, 2, 0b1110_1000, 0b0100_1001];
        assert_eq!(Format::Locations.whole(&table).0, &table[..3]);
        assert_eq!(Format::Locations.whole(&[1]).0, &[0_u8; 0]);
    }

    #[test]
    fn moves_of_address_and_line() {
        // Ten bytes of line 5, four of line 6, two of line 4, then line 304.
        let table = [10, 1, 4, 0xfe, 2, 127, 0, 127, 0, 46];
        let line = |at| Format::Moves.line(&table, 5, at);
        assert_eq!([0, 9, 10, 13, 14, 15].map(line), [5, 5, 6, 6, 4, 4].map(Some));
        assert_eq!([line(16), line(1000), line(-1)], [Some(304), Some(304), Some(5)]);
    }

    #[test]
    fn ranges_may_be_of_no_line() {
        let table = [4, 1, 2, 0x80, 6, 2];
        let line = |at| Format::Ranges.line(&table, 10, at);
        assert_eq!([0, 3, 4, 5, 6, 11].map(line), [Some(11), Some(11), None, None, Some(13), Some(13)]);
        assert_eq!([line(12), line(-1)], [None, Some(10)]);
    }

    #[test]
    fn entries_of_each_kind() {
        let table = [
            0b1000_0001, // short form, two units, the same line
            0x12,
            0b1101_1000, // one line further, one unit
            1,
            2,
            0b1110_1000, // no columns, 100 lines back
            0b0100_1001,
            0b0000_0011,
            0b1111_0000, // long form, 200 lines on, then columns
            0b0101_0000,
            0b0000_0110,
            0,
            1,
            9,
            0b1111_1011, // no location, four units
        ];
        let line = |at| Format::Locations.line(&table, 150, at);
        assert_eq!([0, 3, 4, 6, 8].map(line), [150, 150, 151, 51, 251].map(Some));
        assert_eq!([line(10), line(17), line(18)], [None; 3]);
        assert_eq!(line(-2), Some(150));
    }

    #[test]
    fn numbers_of_several_bytes() {
        assert_eq!(signed(&[0b0101_0000, 0b0000_0110]), 200);
        assert_eq!(signed(&[0b0100_1001, 0b0000_0011]), -100);
        assert_eq!([signed(&[]), signed(&[0x7f; 20])], [0, -i64::from(u32::MAX)]);
    }
}
