//! Symbols that are looked for by their names.

use std::{collections::HashMap, ops::Range};

use object::{NativeEndian, elf, pod::slice_from_all_bytes, read::elf::Sym as _};

use super::object::{Object, SymbolTable};

/// The most symbols of a file that are looked at, as in [`super::symbols`].
const MOST: usize = 4 << 20;
/// The most symbols of one table that may be wanted.
const MAX_RANGES: usize = 64;

/// Where the symbols are that are there, as the file has it. What other files may use is looked at first: it is short.
pub(super) fn find(object: &Object, names: &[&'static str]) -> HashMap<&'static str, u64> {
    let mut found = HashMap::new();
    for table in object.symbol_tables().into_iter().rev().filter(|table| table.is_64_bit) {
        if found.len() < names.len() {
            add(&table, names, &mut found);
        }
    }
    found
}

fn add(table: &SymbolTable, names: &[&'static str], found: &mut HashMap<&'static str, u64>) {
    // Most symbols of a large program have longer names than any that is wanted.
    let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let wanted: HashMap<&[u8], &'static str> = names.iter().map(|name| (name.as_bytes(), *name)).collect();
    for (symbol, names) in defined(table) {
        if let Some(name) = first(names, longest)
            && let Some(name) = wanted.get(name)
        {
            found.entry(name).or_insert(symbol.st_value(NativeEndian));
        }
    }
}

/// The first of these names, unless it is longer than any that is wanted, or does not end.
fn first(names: &[u8], longest: usize) -> Option<&[u8]> {
    let end = memchr::memchr(0, &names[..names.len().min(longest + 1)])?;
    Some(&names[..end])
}

/// How many bytes behind a marker are looked at.
const BEHIND: usize = 16;

/// What a file has behind the first place of some bytes.
pub(super) fn behind(object: &Object, marker: &[u8]) -> Option<Vec<u8>> {
    let start = memchr::memmem::find(&object.bytes, marker)? + marker.len();
    object.bytes.get(start..start.checked_add(BEHIND)?).map(<[u8]>::to_vec)
}

/// The addresses of all symbols whose name is one that is wanted.
pub(super) fn ranges(object: &Object, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    for table in object.symbol_tables().into_iter().filter(|table| table.is_64_bit) {
        let wanted = defined(&table).filter(|(_, name)| {
            let end = name.iter().position(|byte| *byte == 0);
            end.is_some_and(|end| is_wanted(&name[..end]))
        });
        let ranges = wanted.map(|(symbol, _)| {
            let start = symbol.st_value(NativeEndian);
            start..start.saturating_add(symbol.st_size(NativeEndian))
        });
        found.extend(ranges.take(MAX_RANGES));
    }
    found
}

/// The symbols of a table that are in this file, each with the names from its own on.
fn defined(table: &SymbolTable) -> impl Iterator<Item = (&elf::Sym64<NativeEndian>, &[u8])> {
    let whole = table.entries.len() - table.entries.len() % size_of::<elf::Sym64<NativeEndian>>();
    let symbols = slice_from_all_bytes::<elf::Sym64<NativeEndian>>(&table.entries[..whole]);
    let symbols = symbols.unwrap_or_default().iter().take(MOST);
    symbols.filter(|symbol| symbol.st_shndx(NativeEndian) != elf::SHN_UNDEF).filter_map(|symbol| {
        let at = usize::try_from(symbol.st_name(NativeEndian)).ok()?;
        Some((symbol, table.names.get(at..)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_it_ends() {
        assert_eq!(first(b"_PyRuntime\0x", 10), Some(&b"_PyRuntime"[..]));
        assert_eq!(first(b"_PyRuntimeState\0", 10), None, "longer than any");
        assert_eq!(first(b"_PyRuntime", 10), None, "it does not end");
        assert_eq!(first(b"\0", 0), Some(&b""[..]));
    }
}
