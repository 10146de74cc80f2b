//! What a fuzzer throws bytes at.

use std::{cell::Cell, collections::HashMap};

use super::{CodeObject, Image, Memory, RawText, frame, hotspot, perl, recognise, ruby, symbols, v8};

/// Files that have the name of each version that is read in another way.
const NAMES: [&str; 7] =
    ["python3.6", "libpython3.8.so.1.0", "python3.10", "python3.11", "python3.12", "python3.13", "python"];

/// Memory that these bytes are, again and again, with symbols anywhere in it: whatever is read there, it ends.
pub fn memory(bytes: &[u8]) {
    let place = |at: usize| u64::from(bytes.get(at).copied().unwrap_or(0)) * 8;
    let places: HashMap<&str, u64> = symbols().zip(0..).map(|(name, at)| (name, place(at))).collect();
    let said = bytes.get(64..).map(<[u8]>::to_vec);
    for path in NAMES {
        let wild = Wild { bytes, left: Cell::new(READS) };
        let image = Image { path: path.to_owned(), symbols: places.clone(), said: said.clone() };
        let found = recognise(&image, &wild).and_then(|sighting| sighting.found.ok());
        std::hint::black_box(found.map(|found| found.threads(&wild, 8)));
    }
    for perl in perl::Interpreter::all() {
        let wild = Wild { bytes, left: Cell::new(READS) };
        std::hint::black_box(perl.scripts(&wild, 8));
    }
    // A file that has the symbols of all is not taken for one of Ruby, or of Java.
    for names in [&ruby::SYMBOLS[..], &hotspot::SYMBOLS] {
        let wild = Wild { bytes, left: Cell::new(READS) };
        let symbols = names.iter().filter_map(|name| Some((*name, *places.get(name)?)));
        let image = Image { path: "libjvm.so".to_owned(), symbols: symbols.collect(), said: None };
        std::hint::black_box(recognise(&image, &wild));
    }
    methods(bytes);
    functions(bytes);
}

/// Methods of Java that these bytes are the names and the line table of.
fn methods(bytes: &[u8]) {
    let raw = |bytes: &[u8]| RawText { bytes: bytes.into(), width: 1, is_cut: false };
    let (names, lines) = bytes.split_at(bytes.len().min(32));
    for format in hotspot::FORMAT..hotspot::FORMAT_END {
        let (function, file, lines) = (raw(names), raw(names), raw(lines));
        let code = CodeObject { key: 4, format, first_line: 0, function, file, lines };
        for instruction in [-2, -1, 0, 1, 700, i32::MAX] {
            std::hint::black_box(frame(&code, instruction));
        }
    }
}

/// A function of JavaScript that half of these bytes are, in a text that the others are.
fn functions(bytes: &[u8]) {
    let (lines, text) = bytes.split_at(bytes.len() / 2);
    for build in v8::Build::all() {
        for instruction in [-1, 0, 40] {
            std::hint::black_box(v8::place(lines, instruction, &build, text));
        }
    }
    for map in [v8::Map::parse(bytes), v8::Map::inside(bytes)].into_iter().flatten() {
        for (line, column) in [(1, None), (1, Some(1)), (2, Some(u32::MAX))] {
            std::hint::black_box(map.source(v8::Place { line, column }));
        }
    }
}

/// So many reads, then there is no memory any more.
const READS: u32 = 2000;

struct Wild<'a> {
    bytes: &'a [u8],
    left: Cell<u32>,
}

impl Memory for Wild<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        self.left.set(self.left.get().checked_sub(1)?);
        let start = usize::try_from(address % u64::try_from(self.bytes.len()).ok()?.max(1)).ok()?;
        let mut bytes = self.bytes.iter().cycle().skip(start);
        into.iter_mut().try_for_each(|byte| bytes.next().map(|found| *byte = *found))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_bytes_are_a_process() {
        for length in 0..600_usize {
            let byte = |at: usize| (at * length * 31 + at / 7).to_le_bytes()[0];
            super::memory(&(0..length).map(byte).collect::<Vec<u8>>());
        }
    }
}
