//! Bytecodes: how long each is, and which call, by the tables that a build has of them (V8's `src/interpreter/bytecodes.h`).

use serde::{Deserialize, Serialize};

use super::said_of;
use crate::runtimes::{Image, memory::Memory};

/// For each bytecode how many bytes it has, with operands of one, two and four bytes.
const SIZES: &str = "_ZN2v88internal11interpreter9Bytecodes14kBytecodeSizesE";
/// How many operands.
const OPERANDS: &str = "_ZN2v88internal11interpreter9Bytecodes13kOperandCountE";
pub(super) const SYMBOLS: [&str; 2] = [SIZES, OPERANDS];

/// The same tables of versions of which builds keep them to themselves, and say them to nobody once they are stripped: those that
/// Node.js 24, 25 and 26 have. In each line the version, the first call, and the three tables, a digit of 36 for each bytecode.
const KNOWN: &str = include_str!("bytecodes.txt");

/// How many there may be.
const FEWEST: usize = 150;
const MOST: usize = 255;
const LONGEST: u8 = 32;

/// Operands of those that call, which follow each other in every version: `CallAnyReceiver` to `ConstructWithSpread`.
const CALLS: [i32; 16] = [4, 4, 3, 4, 5, 4, 2, 3, 4, 4, 3, 4, 3, 3, 4, 4];

/// The bytecodes of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bytecodes {
    sizes: [Vec<u8>; 3],
    first_call: u8,
}

/// A call in bytecodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) offset: i32,
    pub(super) shape: Shape,
}

/// How something is called; arguments where they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// `None` where they come from an iterator.
    pub(super) arguments: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `a.b()`
    Member,
    /// `a()`
    Plain,
    /// One of both.
    Any,
    /// `new A()`
    New,
}

/// A bytecode.
struct One {
    offset: usize,
    bytecode: u8,
    /// Its operands have 1 << `scale` bytes.
    scale: usize,
    operands: usize,
    end: usize,
}

impl Bytecodes {
    /// By the file's own tables, or else by its version; `None` where nobody knows.
    pub(super) fn of(image: &Image, memory: &(impl Memory + ?Sized), version: &str) -> Option<Self> {
        Self::read(image, memory).or_else(|| Self::known(version))
    }

    /// Of a version as it says itself: `13.6.233`.
    pub(super) fn known(version: &str) -> Option<Self> {
        let mut words = said_of(version, KNOWN)?;
        let first_call = words.next()?.parse().ok()?;
        let digits = |row: &str| row.chars().map(|digit| digit.to_digit(36)?.try_into().ok()).collect();
        let mut row = || words.next().and_then(digits);
        Some(Self { sizes: [row()?, row()?, row()?], first_call })
    }

    /// `None` where the file has no such tables, or others.
    fn read(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Self> {
        let sizes = memory.bytes(image.symbol(SIZES)?, 3 * MOST)?;
        let operands = memory.bytes(image.symbol(OPERANDS)?, 4 * MOST)?;
        let operands: Vec<i32> = operands
            .chunks_exact(4)
            .map(|four| i32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        let count = (FEWEST..=MOST).rev().find(|count| are_sizes(&sizes, &operands, *count))?;
        let first_call = operands[..count].windows(CALLS.len()).position(|window| window == CALLS)?;
        let rows = |row: usize| sizes[row * count..(row + 1) * count].to_vec();
        Some(Self { sizes: [rows(0), rows(1), rows(2)], first_call: u8::try_from(first_call).ok()? })
    }

    /// The calls of a function, in the order of its bytecodes.
    pub(super) fn calls(&self, code: &[u8]) -> Vec<Call> {
        let calls = self.all(code).filter_map(|one| {
            let operands = code.get(one.operands..one.end).unwrap_or_default();
            let shape = self.shape(one.bytecode, operands, one.scale)?;
            Some(Call { offset: i32::try_from(one.offset).ok()?, shape })
        });
        calls.collect()
    }

    /// The bytecode whose compiled code goes so far: a return address is behind its call. `lengths` has how long the code of each
    /// is, first of what comes before them all, seven bits in a byte.
    pub(super) fn offset(&self, code: &[u8], lengths: &[u8], address: i32) -> Option<i32> {
        let (mut end, address) = (0_u32, u32::try_from(address).ok()?);
        let mut lengths = lengths.iter();
        let mut length = || {
            let mut bits = 0;
            for shift in (0..32).step_by(7) {
                let byte = lengths.next()?;
                bits |= u32::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    return Some(bits);
                }
            }
            None
        };
        end = end.checked_add(length()?)?;
        if end >= address {
            return None;
        }
        for one in self.all(code) {
            end = end.checked_add(length()?)?;
            if end >= address {
                return i32::try_from(one.offset).ok();
            }
        }
        None
    }

    /// All of them, one after the other; a prefix is of the next one.
    fn all(&self, code: &[u8]) -> impl Iterator<Item = One> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let offset = at;
            let scale = match *code.get(at)? {
                prefix if prefix < PREFIXES => usize::from(prefix) + 1,
                _ => 0,
            };
            at += usize::from(scale != 0);
            let bytecode = *code.get(at)?;
            let size = *self.sizes[scale].get(usize::from(bytecode))?;
            let operands = at + 1;
            at += usize::from(size);
            Some(One { offset, bytecode, scale, operands, end: at })
        })
    }

    fn shape(&self, bytecode: u8, operands: &[u8], scale: usize) -> Option<Shape> {
        // The third operand is the number of registers, of as many bytes as all.
        let count = |less: u32| {
            let width = 1 << scale;
            let bytes = operands.get(2 * width..3 * width)?;
            let mut wide = [0; 4];
            wide[..width].copy_from_slice(bytes);
            u32::from_le_bytes(wide).checked_sub(less)
        };
        let of = |kind, arguments| Some(Shape { kind, arguments });
        match bytecode.checked_sub(self.first_call)? {
            0 => of(Kind::Any, count(1)),
            1 => of(Kind::Member, count(1)),
            2 => of(Kind::Member, Some(0)),
            3 => of(Kind::Member, Some(1)),
            4 => of(Kind::Member, Some(2)),
            5 => of(Kind::Plain, count(0)),
            6 => of(Kind::Plain, Some(0)),
            7 => of(Kind::Plain, Some(1)),
            8 => of(Kind::Plain, Some(2)),
            9 => of(Kind::Any, None),
            14 => of(Kind::New, count(0)),
            15 => of(Kind::New, None),
            _ => None,
        }
    }
}

/// `Wide` and `ExtraWide`; they come first.
const PREFIXES: u8 = 2;

/// Whether so many bytecodes make sense: those without operands have one byte, whatever the operands' width is, and others more.
fn are_sizes(sizes: &[u8], operands: &[i32], count: usize) -> bool {
    (0..count).all(|bytecode| {
        let rows = [0, 1, 2].map(|row| sizes[row * count + bytecode]);
        let [one, two, four] = rows;
        let fits = rows.iter().all(|size| (1..=LONGEST).contains(size)) && one <= two && two <= four;
        let operands = operands[bytecode];
        fits && (operands == 0) == (one == 1)
            && (operands == 0) == (four == 1)
            && operands < i32::from(LONGEST)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two prefixes, and calls from 2 on.
    fn made() -> Bytecodes {
        let sizes = |width: u8| {
            [1, 1].into_iter().chain(CALLS.iter().map(move |count| 1 + count.to_le_bytes()[0] * width))
        };
        Bytecodes { sizes: [1, 2, 4].map(|width| sizes(width).collect()), first_call: 2 }
    }

    #[test]
    fn calls_have_their_arguments() {
        // `CallProperty` of four registers, the same with a prefix, `CallUndefinedReceiver0`, `Construct`.
        let code = [3, 0, 0, 4, 0, 0, 3, 0, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 16, 0, 0, 3, 0];
        let found: Vec<_> = made()
            .calls(&code)
            .iter()
            .map(|call| (call.offset, call.shape.kind, call.shape.arguments))
            .collect();
        let expected = [
            (0, Kind::Member, Some(3)),
            (5, Kind::Member, Some(1)),
            (15, Kind::Plain, Some(0)),
            (18, Kind::New, Some(3)),
        ];
        assert_eq!(found, expected);
        for length in 0..code.len() {
            made().calls(&code[..length]);
        }
    }

    #[test]
    fn tables_of_versions_are_whole() {
        let counts = ["13.6.233", "14.1.146", "14.6.202"].map(|version| {
            let known = Bytecodes::known(version).expect("a version that is known");
            known.sizes.map(|row| row.len())
        });
        assert_eq!(counts, [[208; 3], [212; 3], [212; 3]]);
        assert_eq!(["13.60.1", "13.6", "", "12.4.254"].map(Bytecodes::known), [const { None }; 4]);
        assert_eq!(KNOWN.lines().count(), counts.len());
    }

    #[test]
    fn compiled_code_leads_to_its_bytecode() {
        let code = [8, 0, 0, 8, 0, 0];
        let lengths = [0x80, 1, 10, 20];
        let found = [128, 129, 138, 139, 158, 159, -1].map(|address| made().offset(&code, &lengths, address));
        assert_eq!(found, [None, Some(0), Some(0), Some(3), Some(3), None, None]);
        assert_eq!(made().offset(&code, &[0xff; 9], 1), None);
    }

    #[test]
    fn sizes_that_make_no_sense() {
        let (sizes, operands) = ([1, 2, 1, 3, 1, 5], [0, 1]);
        assert!(are_sizes(&sizes, &operands, 2));
        assert!(!are_sizes(&sizes, &[1, 1], 2) && !are_sizes(&[0; 6], &operands, 2));
    }
}
