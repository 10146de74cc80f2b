//! The interpreter that a file is, by its own symbols and bytes.

use object::elf;

use super::{
    anchors,
    filled::Filled,
    object::{Object, Segment},
    tables::Tables,
};
use crate::runtimes::{self, Image, Memory, Program, WorkQueue};

/// `None` for all files but those of interpreters that can be read.
pub(super) fn of(object: Object, path: String) -> Option<Program> {
    let image = image(&object, path);
    let interpreter = runtimes::recognise_file(&image, &Loaded::of(&object, &image))?;
    let mut addresses = anchors::ranges(&object, runtimes::is_loop);
    let unnamed = runtimes::unnamed_loop(&interpreter);
    let any_code = || object.code().map(|range| range.start).next();
    let first = addresses.first().map(|range| range.start).or(unnamed).or_else(any_code)?;
    let code = loaded(&object, first)?;
    let code_delta = code.address.wrapping_sub(code.file.start);
    if let Some(unnamed) = unnamed {
        addresses.push(Tables::of(object)?.function(unnamed)?);
    }
    let offset = |address: u64| address.wrapping_sub(code_delta);
    let loops = addresses.iter().map(|range| offset(range.start)..offset(range.end)).collect();
    let work_queue = WorkQueue::of(&image, offset);
    Some(Program { interpreter, code_delta, loops, work_queue })
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

/// A file's bytes at the addresses that it is loaded to, as the file has them, with what is written there when it is loaded.
struct Loaded<'a> {
    object: &'a Object,
    filled: Filled,
}

impl<'a> Loaded<'a> {
    fn of(object: &'a Object, image: &Image) -> Self {
        let mut loaded = Self { object, filled: Filled::default() };
        if let Some(table) = runtimes::filled_table(image) {
            loaded.filled = Filled::by_loader(object);
            let table = loaded.word(table, 0).unwrap_or_default();
            loaded.filled = loaded.filled.with_numbers(object, table);
        }
        loaded
    }

    fn bytes(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let segment = loaded(self.object, address)?;
        let start = segment.file.start + (address - segment.address);
        let end = start.checked_add(into.len() as u64).filter(|end| *end <= segment.file.end)?;
        let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
        into.copy_from_slice(self.object.bytes.get(range)?);
        Some(())
    }
}

impl Memory for Loaded<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        // Only whole words are filled in.
        match self.filled.word(address) {
            Some(word) if into.len() == size_of::<u64>() => into.copy_from_slice(&word.to_ne_bytes()),
            _ => self.bytes(address, into)?,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, path::PathBuf};

    use super::*;
    use crate::stacks::reader::bytes::Bytes;

    /// The libraries of the machine's Java, where there is one.
    fn libraries() -> Vec<PathBuf> {
        let homes = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
        homes.map(|home| home.path().join("lib/server/libjvm.so")).filter(|path| path.is_file()).collect()
    }

    #[test]
    fn a_hotspot_is_recognised_by_its_file() {
        for path in libraries() {
            let file = File::open(&path).expect("a file");
            let object = Object::parse(Bytes::map(&file).expect("bytes")).expect("a library");
            let program = of(object, path.to_string_lossy().into_owned());
            let layout = program.unwrap_or_else(|| panic!("{}", path.display())).layout();
            assert_eq!(layout.kind, fdtrace_common::scripts::kind::HOTSPOT, "{}", path.display());
        }
    }
}
