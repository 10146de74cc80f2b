//! Kernel functions by address and by name, from `/proc/kallsyms`.

use std::{io, ops::Range};

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
        Ok(Self::parse(&String::from_utf8_lossy(&std::fs::read("/proc/kallsyms")?)))
    }

    fn parse(text: &str) -> Self {
        let mut found: Vec<(u64, &str)> = text.lines().filter_map(parse_line).collect();
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
    let text = std::fs::read("/proc/kallsyms")?;
    let text = String::from_utf8_lossy(&text);
    let mut found = [None; N];
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(_), Some(name), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        if let Some(place) = names.iter().position(|wanted| *wanted == name) {
            found[place] = u64::from_str_radix(address, 16).ok().filter(|address| *address != 0);
        }
    }
    Ok(found)
}

/// `ffffffff81000000 T name [module]`; only text symbols.
fn parse_line(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let kind = words.next()?;
    let name = words.next()?;
    matches!(kind, "t" | "T" | "w" | "W").then_some((address, name))
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
        let symbols = Symbols::parse(SAMPLE);
        let inside = symbols.resolve(0xffff_ffff_8100_0010).expect("inside a function");
        assert_eq!((inside.name.as_str(), inside.offset), ("alloc_empty_file", 0x10));
        assert_eq!(symbols.function(0xffff_ffff_c000_0001), Some("ovl_open"));
        assert_eq!(symbols.resolve(1), None);
    }

    #[test]
    fn finds_functions_with_compiler_suffixes() {
        let symbols = Symbols::parse(SAMPLE);
        assert_eq!(symbols.range_of("__alloc_file"), Some(0xffff_ffff_8100_0200..0xffff_ffff_8100_0300));
        assert_eq!(symbols.range_of("alloc_empty_file"), Some(0xffff_ffff_8100_0000..0xffff_ffff_8100_0100));
        assert_eq!(symbols.range_of("alloc_empty"), None);
    }

    #[test]
    fn hidden_addresses_resolve_nothing() {
        let symbols = Symbols::parse("0000000000000000 T alloc_empty_file\n0000000000000000 T end\n");
        assert!(!symbols.has_addresses());
        assert!(symbols.contains("end"));
        assert_eq!(symbols.range_of("alloc_empty_file"), None);
        assert_eq!(symbols.resolve(5), None);
    }
}
