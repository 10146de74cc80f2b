//! Symbols that are looked for by their names.

use std::collections::HashMap;

use object::{NativeEndian, elf, pod::slice_from_all_bytes, read::elf::Sym as _};

use super::object::{Object, SymbolTable};

/// The most symbols of a file that are looked at, as in [`super::symbols`].
const MOST: usize = 4 << 20;

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
    let whole = table.entries.len() - table.entries.len() % size_of::<elf::Sym64<NativeEndian>>();
    let symbols = slice_from_all_bytes::<elf::Sym64<NativeEndian>>(&table.entries[..whole]);
    for symbol in symbols.unwrap_or_default().iter().take(MOST) {
        if symbol.st_shndx(NativeEndian) == elf::SHN_UNDEF {
            continue;
        }
        let name = usize::try_from(symbol.st_name(NativeEndian)).ok().and_then(|at| table.names.get(at..));
        let is = |wanted: &&str| name.is_some_and(|name| is_named(name, wanted));
        if let Some(name) = names.iter().copied().find(is) {
            found.entry(name).or_insert(symbol.st_value(NativeEndian));
        }
    }
}

fn is_named(bytes: &[u8], name: &str) -> bool {
    bytes.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_it_ends() {
        assert!(is_named(b"_PyRuntime\0x", "_PyRuntime"));
        assert!(!is_named(b"_PyRuntimeState\0", "_PyRuntime") && !is_named(b"_PyRuntime", "_PyRuntime"));
    }
}
