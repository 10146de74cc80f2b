//! The interpreter that a file is, by its own symbols and bytes.

use object::elf;

use super::{
    anchors,
    object::{Object, Segment},
    tables::Tables,
};
use crate::runtimes::{self, Image, Memory, Program};

/// `None` for all files but those of interpreters that can be read.
pub(super) fn of(object: Object, path: String) -> Option<Program> {
    let interpreter = runtimes::recognise_file(&image(&object, path), &Loaded(&object))?;
    let mut addresses = anchors::ranges(&object, runtimes::is_loop);
    let unnamed = runtimes::unnamed_loop(&interpreter);
    let first = addresses.first().map(|range| range.start).or(unnamed)?;
    let code = loaded(&object, first)?;
    let code_delta = code.address.wrapping_sub(code.file.start);
    if let Some(unnamed) = unnamed {
        addresses.push(Tables::of(object)?.function(unnamed)?);
    }
    let offset = |address: u64| address.wrapping_sub(code_delta);
    let loops = addresses.iter().map(|range| offset(range.start)..offset(range.end)).collect();
    Some(Program { interpreter, code_delta, loops })
}

/// What is looked at of a file, with addresses as it has them.
pub(super) fn image(object: &Object, path: String) -> Image {
    let symbols = anchors::find(object, &runtimes::symbols().collect::<Vec<_>>());
    let image = Image { path, symbols, said: None };
    let said = runtimes::marker(&image).and_then(|marker| anchors::behind(object, marker));
    Image { said, ..image }
}

/// The segment that an address lies in.
fn loaded(object: &Object, address: u64) -> Option<&Segment> {
    let has_it = |segment: &&Segment| {
        let length = segment.file.end - segment.file.start;
        segment.kind == elf::PT_LOAD && address.wrapping_sub(segment.address) < length
    };
    object.segments.iter().find(has_it)
}

/// A file's bytes at the addresses that it is loaded to, as the file has them.
struct Loaded<'a>(&'a Object);

impl Memory for Loaded<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let segment = loaded(self.0, address)?;
        let start = segment.file.start + (address - segment.address);
        let end = start.checked_add(into.len() as u64).filter(|end| *end <= segment.file.end)?;
        into.copy_from_slice(self.0.bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?);
        Some(())
    }
}
