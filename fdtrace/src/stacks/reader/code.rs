//! What a file says of its code: functions, source lines, and what was inlined.

use std::sync::Arc;

use addr2line::{Context, Location};
use gimli::{EndianReader, RunTimeEndian, SectionId};

use super::{
    bytes::{Bytes, Dwarf},
    demangle::demangled,
    object::Object,
    request::Name,
    symbols::{Symbol, Symbols},
};

/// The longest name or path; more tells nothing.
const LONGEST: usize = 4096;
/// The most functions that are one in the other at one address.
const DEEPEST: usize = 64;

/// The debug information of one source file, and its lines. Those of the largest ever seen are some megabytes.
const LARGEST_UNIT: u64 = 64 << 20;
const LARGEST_LINES: u64 = 16 << 20;
/// The most source files of a program: the largest browsers have some fifty thousand.
const MAX_PARTS: u32 = 1 << 18;

/// A file with code.
pub(super) struct Code {
    object: Object,
    symbols: Symbols,
    /// `None` where there is no debug information, or it is broken or too large.
    lines: Option<Context<Dwarf>>,
}

impl Code {
    /// With `lines` debug information is read as well.
    pub(super) fn of(object: Object, lines: bool) -> Self {
        let lines = if lines { read_lines(&object) } else { None };
        let this = Self { symbols: Symbols::of(&object), lines, object };
        this.forget_pages();
        this
    }

    /// The address that a byte of the file is loaded to.
    pub(super) fn address(&self, offset: u64) -> Option<u64> {
        self.object.address(offset)
    }

    /// The functions at an address, innermost first; none where it has no name.
    pub(super) fn names(&self, address: u64) -> Vec<Name> {
        let mut names = self.lines.as_ref().and_then(|lines| by_lines(lines, address)).unwrap_or_default();
        let symbol = self.symbols.find(&self.object, address);
        if let Some(last) = names.last_mut() {
            last.function = best(last.function.take(), symbol);
        } else if let Some(function) = best(None, symbol) {
            let location = self.lines.as_ref().and_then(|lines| lines.find_location(address).ok()?);
            names.push(named(Some(function), location.as_ref(), false));
        }
        if names.iter().all(|name| name.function.is_none()) { Vec::new() } else { names }
    }

    /// What was read of the file is read again where it is needed.
    pub(super) fn forget_pages(&self) {
        self.object.bytes.forget_pages();
    }
}

/// Debug information may know the line and not the function, and knows what programs call by the library's own names for it
/// (`__GI_pipe2` for `pipe2`): who has it at hand must not see another function than who has not.
fn best(by_lines: Option<String>, symbol: Option<Symbol>) -> Option<String> {
    match symbol {
        Some(symbol) if symbol.is_exported || by_lines.is_none() => Some(clipped(demangled(&symbol.name))),
        _ => by_lines,
    }
}

/// Debug information of which a part is in another file is not read: a name in a file does not decide what is opened.
fn read_lines(object: &Object) -> Option<Context<Dwarf>> {
    let leads_elsewhere =
        [".gnu_debugaltlink", ".debug_sup", ".gnu_debuglink"].iter().any(|name| object.has(name));
    if leads_elsewhere || !object.has_bytes(".debug_info") || !object.unpacks_into_little() {
        return None;
    }
    let has_small_parts = |name, most| parts_are_small(&object.contents(name), most);
    if !has_small_parts(".debug_info", LARGEST_UNIT) || !has_small_parts(".debug_line", LARGEST_LINES) {
        return None;
    }
    let endian = if cfg!(target_endian = "little") { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let section = |id: SectionId| -> Result<Dwarf, gimli::Error> {
        let bytes: Bytes = if id.name() == SectionId::EhFrame.name() {
            Bytes::default()
        } else {
            object.contents(id.name())
        };
        Ok(EndianReader::new(bytes, endian))
    };
    let mut dwarf = gimli::Dwarf::load(section).ok()?;
    dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
    Context::from_arc_dwarf(Arc::new(dwarf)).ok()
}

/// Whether no part is longer than that. To name one address a whole part is read, and its pages are in memory meanwhile.
fn parts_are_small(section: &[u8], most: u64) -> bool {
    let (mut rest, mut parts) = (section, 0);
    while let Some((length, behind)) =
        rest.split_first_chunk().map(|(length, rest)| (u32::from_ne_bytes(*length), rest))
    {
        let (length, behind) = match (length, behind.split_first_chunk()) {
            // Numbers of 64 bits.
            (u32::MAX, Some((length, behind))) => (u64::from_ne_bytes(*length), behind),
            _ => (u64::from(length), behind),
        };
        let Some(next) = usize::try_from(length).ok().and_then(|length| behind.get(length..)) else {
            return length <= most;
        };
        parts += 1;
        // Whoever has empty ones, or so many, wants to keep somebody busy.
        if length == 0 || length > most || parts > MAX_PARTS {
            return false;
        }
        rest = next;
    }
    true
}

fn by_lines(lines: &Context<Dwarf>, address: u64) -> Option<Vec<Name>> {
    let mut frames = lines.find_frames(address).skip_all_loads().ok()?;
    let mut names = Vec::new();
    while let Some(frame) = frames.next().ok()? {
        let Some(function) = frame.function else { continue };
        let name = function.raw_name().ok().map(|name| clipped(demangled(&name)));
        names.push(named(name.filter(|name| !name.is_empty()), frame.location.as_ref(), true));
    }
    // The function itself comes last; what is inlined too deep into it is left out.
    names.last_mut()?.inlined = false;
    let left_out = names.len().saturating_sub(DEEPEST + 1);
    Some(names.split_off(left_out))
}

fn named(function: Option<String>, location: Option<&Location<'_>>, inlined: bool) -> Name {
    Name {
        function,
        file: location.and_then(|location| location.file).map(|file| clipped(file.to_owned())),
        line: location.and_then(|location| location.line).filter(|line| *line > 0),
        inlined,
    }
}

fn clipped(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}
