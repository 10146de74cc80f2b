//! Kernel functions by address and by name, from `/proc/kallsyms`.

use std::{io, iter, ops::Range};

use crate::process::procfs::Text;

/// The kernel prints a pointer in full width (`%px`, kernel/kallsyms.c).
const ADDRESS_DIGITS: usize = size_of::<usize>() * 2;

/// A kernel function and a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The function's name.
    pub name: String,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// The kernel's functions, sorted by address.
#[derive(Debug, Default)]
pub struct Symbols {
    addresses: Vec<u64>,
    /// Where each name begins in `names`, one for each address.
    starts: Vec<u32>,
    names: String,
}

impl Symbols {
    /// Reads `/proc/kallsyms`. Without CAP_SYSLOG the kernel shows every address as 0: then nothing is found by it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load() -> io::Result<Self> {
        Ok(Self::parse(&Text::read("/proc/kallsyms")?))
    }

    fn parse(text: &[u8]) -> Self {
        let functions = lines(text).filter(|line| matches!(line.kind, b't' | b'T' | b'w' | b'W'));
        let mut found: Vec<(u64, &str)> = functions.map(|line| (line.address, line.name)).collect();
        found.sort_by_key(|(address, _)| *address);
        let mut symbols = Self::default();
        for (address, name) in found {
            let Ok(start) = u32::try_from(symbols.names.len()) else { break };
            symbols.addresses.push(address);
            symbols.starts.push(start);
            symbols.names.push_str(name);
        }
        symbols
    }

    /// Whether kernel addresses are visible at all.
    #[must_use]
    pub fn has_addresses(&self) -> bool {
        self.addresses.last().is_some_and(|address| *address != 0)
    }

    /// The function that an address lies in.
    #[must_use]
    pub fn resolve(&self, address: u64) -> Option<Symbol> {
        let index = self.index_of(address)?;
        Some(Symbol { name: self.name(index).to_owned(), offset: address - self.addresses[index] })
    }

    /// The name of the function that an address lies in.
    #[must_use]
    pub fn function(&self, address: u64) -> Option<&str> {
        self.index_of(address).map(|index| self.name(index))
    }

    /// Where the function of this name lies, compiler suffixes (`.isra.0`, `.constprop.0`) included.
    #[must_use]
    pub fn range_of(&self, name: &str) -> Option<Range<u64>> {
        let index = (0..self.addresses.len()).find(|index| is_function(self.name(*index), name))?;
        let start = self.addresses[index];
        let end = self.addresses[index..].iter().copied().find(|address| *address > start)?;
        (start != 0).then_some(start..end)
    }

    /// Whether the kernel has a function of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        (0..self.addresses.len()).any(|index| self.name(index) == name)
    }

    fn index_of(&self, address: u64) -> Option<usize> {
        let index = self.addresses.partition_point(|start| *start <= address).checked_sub(1)?;
        (self.addresses[index] != 0).then_some(index)
    }

    fn name(&self, index: usize) -> &str {
        let end = self.starts.get(index + 1).map_or(self.names.len(), |next| *next as usize);
        &self.names[self.starts[index] as usize..end]
    }
}

/// Where variables lie; `None` for one that the kernel does not show (it does with CONFIG_KALLSYMS_ALL only).
///
/// # Errors
/// When kallsyms cannot be read.
pub(super) fn data<const N: usize>(names: [&str; N]) -> io::Result<[Option<u64>; N]> {
    let text = Text::read("/proc/kallsyms")?;
    let mut found = [None; N];
    for line in lines(&text).filter(|line| !line.is_of_module) {
        if let Some(place) = names.iter().position(|wanted| *wanted == line.name) {
            found[place] = Some(line.address).filter(|address| *address != 0);
        }
    }
    Ok(found)
}

/// `ffffffff81000000 T name\t[module]`
struct Line<'a> {
    address: u64,
    kind: u8,
    name: &'a str,
    is_of_module: bool,
}

/// A tracer reads this at every start, and there are a quarter of a million lines: they are taken apart by bytes.
fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut rest = text;
    let each_line = iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, behind) = (!rest.is_empty()).then(|| rest.split_at(end))?;
        rest = behind.get(1..).unwrap_or_default();
        Some(line)
    });
    each_line.filter_map(|line| {
        let (digits, behind) = line.split_at_checked(ADDRESS_DIGITS)?;
        let [b' ', kind, b' ', name @ ..] = behind else { return None };
        let end = memchr::memchr(b'\t', name);
        let name = std::str::from_utf8(&name[..end.unwrap_or(name.len())]).ok()?;
        Some(Line { address: hexadecimal(digits)?, kind: *kind, name, is_of_module: end.is_some() })
    })
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

/// Whether a symbol is this function or a copy that the compiler made of it; `.cold` parts are elsewhere in memory.
fn is_function(symbol: &str, name: &str) -> bool {
    match symbol.strip_prefix(name) {
        Some("") => true,
        Some(suffix) => suffix.starts_with(".isra.") || suffix.starts_with(".constprop."),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "ffffffff81000200 t __alloc_file.isra.0\nffffffff81000000 T alloc_empty_file\n\
        ffffffff81000100 t alloc_empty_file.cold\nffffffff81000000 D data\nffffffff81000300 T end\n\
        ffffffffc0000000 t ovl_open\t[overlay]\n";

    #[test]
    fn resolves_addresses() {
        let symbols = Symbols::parse(SAMPLE.as_bytes());
        let inside = symbols.resolve(0xffff_ffff_8100_0010).expect("inside a function");
        assert_eq!((inside.name.as_str(), inside.offset), ("alloc_empty_file", 0x10));
        assert_eq!(symbols.function(0xffff_ffff_c000_0001), Some("ovl_open"));
        assert_eq!(symbols.resolve(1), None);
    }

    #[test]
    fn finds_functions_with_compiler_suffixes() {
        let symbols = Symbols::parse(SAMPLE.as_bytes());
        assert_eq!(symbols.range_of("__alloc_file"), Some(0xffff_ffff_8100_0200..0xffff_ffff_8100_0300));
        assert_eq!(symbols.range_of("alloc_empty_file"), Some(0xffff_ffff_8100_0000..0xffff_ffff_8100_0100));
        assert_eq!(symbols.range_of("alloc_empty"), None);
    }

    #[test]
    fn lines_that_are_none_are_left_out() {
        let text = b"\nfffff\n00000000000000yz T name\n0000000000000001 Tname\n0000000000000002 T \xff\n\
            00000000000000a3 T good\t[module]\n0000000000000004 T cut";
        let found: Vec<_> = lines(text).map(|line| (line.address, line.name, line.is_of_module)).collect();
        assert_eq!(found, [(0xa3, "good", true), (4, "cut", false)]);
    }

    #[test]
    fn hidden_addresses_resolve_nothing() {
        let symbols = Symbols::parse(b"0000000000000000 T alloc_empty_file\n0000000000000000 T end\n");
        assert!(!symbols.has_addresses());
        assert!(symbols.contains("end"));
        assert_eq!(symbols.range_of("alloc_empty_file"), None);
        assert_eq!(symbols.resolve(5), None);
    }
}
