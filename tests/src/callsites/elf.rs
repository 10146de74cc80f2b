//! What is read of a program's file.

use super::manifest::Functions;
use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _, SymbolKind};
use std::{fs, path::Path};

/// All functions that have a size.
pub(super) fn functions(program: &Path) -> Result<Functions> {
    let bytes = read(program)?;
    let file = object::File::parse(bytes.as_slice())?;
    let segments: Vec<_> = file.segments().map(|segment| (segment.address(), segment.file_range())).collect();
    let offset = |address: u64| {
        let inside = |(start, (_, size)): &&(u64, (u64, u64))| (*start..*start + *size).contains(&address);
        segments.iter().find(inside).map(|(start, (offset, _))| address - start + offset)
    };
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    let place = |symbol: object::Symbol<'_, '_>| {
        let start = offset(symbol.address())?;
        Some((symbol.name().ok()?.to_owned(), (start, start + symbol.size())))
    };
    Ok(functions.filter_map(place).collect())
}

/// The build-id in hexadecimal digits, if it has one.
pub(super) fn build_id(program: &Path) -> Result<Option<String>> {
    let bytes = read(program)?;
    let file = object::File::parse(bytes.as_slice())?;
    let id = file.build_id()?;
    Ok(id.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()))
}

fn read(program: &Path) -> Result<Vec<u8>> {
    fs::read(program).with_context(|| format!("cannot read {}", program.display()))
}
