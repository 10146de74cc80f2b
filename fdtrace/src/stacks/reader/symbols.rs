//! The functions that a file's tables of symbols name.

use object::{NativeEndian, elf, pod::slice_from_all_bytes, read::elf::Sym};

use super::object::{Object, SymbolTable};

/// The most symbols of a file. The largest browsers have two million.
const MAX: usize = 4 << 20;
/// A symbol that does not say where it ends is not believed further than this: written by hand, it is short.
const SIZELESS: u64 = 4096;
/// The longest name; more tells nothing.
const LONGEST: usize = 4096;
/// How many symbols before an address are looked at: functions do not lie in each other deeper than this.
const LOOK_BACK: usize = 16;

/// Functions by their addresses.
#[derive(Default)]
pub(super) struct Symbols {
    tables: Vec<Table>,
}

struct Table {
    names: super::bytes::Bytes,
    is_dynamic: bool,
    /// By address; of those that begin at one address the longest comes last.
    functions: Vec<Function>,
}

#[derive(Clone, Copy)]
struct Function {
    address: u64,
    size: u32,
    name: u32,
    /// Its place in the file.
    index: u32,
    /// Other files may use it.
    is_exported: bool,
}

/// What a table says of an address.
pub(super) struct Symbol {
    /// Mangled as it is.
    pub(super) name: String,
    /// Other files may use it.
    pub(super) is_exported: bool,
}

impl Symbols {
    /// Reads the tables; what has more symbols than any program is left out.
    pub(super) fn of(object: &Object) -> Self {
        Self {
            tables: object.symbol_tables().into_iter().filter_map(|table| Table::of(object, table)).collect(),
        }
    }

    /// The function at an address.
    pub(super) fn find(&self, object: &Object, address: u64) -> Option<Symbol> {
        self.tables.iter().find_map(|table| table.find(object, address))
    }
}

impl Table {
    fn of(object: &Object, table: SymbolTable) -> Option<Self> {
        let functions = if table.is_64_bit {
            functions::<elf::Sym64<NativeEndian>>(object, &table.entries)
        } else {
            functions::<elf::Sym32<NativeEndian>>(object, &table.entries)
        };
        Some(Self { functions: functions?, names: table.names, is_dynamic: table.is_dynamic })
    }

    fn find(&self, object: &Object, address: u64) -> Option<Symbol> {
        let end = self.functions.partition_point(|function| function.address <= address);
        let mut before = self.functions[..end].iter().rev().take(LOOK_BACK);
        let found = before.find(|function| self.covers(object, function, address))?;
        let aliases = before.take_while(|other| (other.address, other.size) == (found.address, found.size));
        let known_best = std::iter::once(found).chain(aliases).min_by_key(|function| self.rank(function))?;
        let name = String::from_utf8_lossy(self.name_of(known_best)).into_owned();
        (!name.is_empty()).then_some(Symbol { name, is_exported: known_best.is_exported })
    }

    fn name_of(&self, function: &Function) -> &[u8] {
        let rest =
            usize::try_from(function.name).ok().and_then(|name| self.names.get(name..)).unwrap_or_default();
        let rest = &rest[..rest.len().min(LONGEST)];
        without_version(rest.split(|byte| *byte == 0).next().unwrap_or_default())
    }

    /// Of several names for the same code people know the one that other files use, without a library's own underscores
    /// (`open64`, not `__open` nor `__libc_open64`), whatever tables of the file are left.
    fn rank(&self, function: &Function) -> (bool, usize, u32) {
        let underscores = self.name_of(function).iter().take_while(|byte| **byte == b'_').count();
        (!function.is_exported, underscores, function.index)
    }

    /// A table of what other files may use names little of the code, so one of its symbols without a size stands for its
    /// first byte only.
    fn covers(&self, object: &Object, function: &Function, address: u64) -> bool {
        let offset = address - function.address;
        match function.size {
            0 if self.is_dynamic => offset == 0,
            0 => offset < SIZELESS && object.is_one_section(function.address, address),
            size => offset < u64::from(size),
        }
    }
}

/// A library's full table has the version behind the name (`__libc_start_main@@GLIBC_2.34`), its table for others has not.
fn without_version(name: &[u8]) -> &[u8] {
    match name.iter().position(|byte| *byte == b'@') {
        None | Some(0) => name,
        Some(at) => &name[..at],
    }
}

fn functions<Symbol: Sym<Endian = NativeEndian>>(object: &Object, entries: &[u8]) -> Option<Vec<Function>> {
    let whole = entries.len() - entries.len() % size_of::<Symbol>();
    let symbols = slice_from_all_bytes::<Symbol>(&entries[..whole]).ok()?;
    if symbols.len() > MAX {
        return None;
    }
    let code: Vec<_> = object.code().collect();
    let is_code = |address: &u64| code.iter().any(|section| section.contains(address));
    let mut found: Vec<Function> = Vec::new();
    for (index, symbol) in (0..).zip(symbols) {
        let address: u64 = symbol.st_value(NativeEndian).into();
        let is_function = matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC);
        let is_label = symbol.st_type() == elf::STT_NOTYPE && is_code(&address);
        if symbol.st_shndx(NativeEndian) == elf::SHN_UNDEF || !(is_function || is_label) {
            continue;
        }
        let size: u64 = symbol.st_size(NativeEndian).into();
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let is_exported = symbol.st_bind() != elf::STB_LOCAL;
        found.push(Function { address, size, name: symbol.st_name(NativeEndian), index, is_exported });
    }
    found.sort_unstable_by_key(|function| (function.address, function.size));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_version() {
        assert_eq!(without_version(b"__libc_start_main@@GLIBC_2.34"), b"__libc_start_main");
        assert_eq!(without_version(b"fopen@GLIBC_2.2.5"), b"fopen");
        assert_eq!(
            [without_version(b"open64"), without_version(b"@"), without_version(b"")],
            [&b"open64"[..], b"@", b""]
        );
    }
}
