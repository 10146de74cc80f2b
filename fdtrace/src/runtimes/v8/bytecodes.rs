//! Bytecodes: how long each is, and which call, by the tables that a build has of them (V8's `src/interpreter/bytecodes.h`).

use serde::{Deserialize, Serialize};

use crate::runtimes::{Image, memory::Memory};

/// For each bytecode how many bytes it has, with operands of one, two and four bytes.
const SIZES: &str = "_ZN2v88internal11interpreter9Bytecodes14kBytecodeSizesE";
/// How many operands.
const OPERANDS: &str = "_ZN2v88internal11interpreter9Bytecodes13kOperandCountE";
pub(super) const SYMBOLS: [&str; 2] = [SIZES, OPERANDS];

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

impl Bytecodes {
    /// `None` where the file has no such tables, or others.
    pub(super) fn of(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Self> {
        let sizes = memory.bytes(image.symbol(SIZES)?, 3 * MOST)?;
        let operands = memory.bytes(image.symbol(OPERANDS)?, 4 * MOST)?;
        let operands: Vec<i32> =
            operands.chunks_exact(4).map(|four| i32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect();
        let count = (FEWEST..=MOST).rev().find(|count| are_sizes(&sizes, &operands, *count))?;
        let first_call = operands[..count].windows(CALLS.len()).position(|window| window == CALLS)?;
        let rows = |row: usize| sizes[row * count..(row + 1) * count].to_vec();
        Some(Self { sizes: [rows(0), rows(1), rows(2)], first_call: u8::try_from(first_call).ok()? })
    }

    /// The calls of a function, in the order of its bytecodes.
    pub(super) fn calls(&self, code: &[u8]) -> Vec<Call> {
        let (mut found, mut at, mut scale) = (Vec::new(), 0, 0);
        while let Some(&bytecode) = code.get(at) {
            let Some(&size) = self.sizes[scale].get(usize::from(bytecode)) else { break };
            let operands = code.get(at + 1..at + usize::from(size)).unwrap_or_default();
            // Prefixes, by which the next one has longer operands; an offset is that of the prefix.
            if scale == 0 && bytecode < PREFIXES {
                scale = usize::from(bytecode) + 1;
                at += 1;
                continue;
            }
            if let Some(shape) = self.shape(bytecode, operands, scale) {
                let offset = i32::try_from(at - usize::from(scale != 0)).unwrap_or(i32::MAX);
                found.push(Call { offset, shape });
            }
            at += usize::from(size);
            scale = 0;
        }
        found
    }

    fn shape(&self, bytecode: u8, operands: &[u8], scale: usize) -> Option<Shape> {
        // Registers have no small operand: the third is the number of them, of as many bytes as the first.
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
        fits && (operands == 0) == (one == 1) && (operands == 0) == (four == 1) && operands < i32::from(LONGEST)
    })
}
