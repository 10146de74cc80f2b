//! The unwind tables of a file: .eh_frame, which nearly all programs have, and .debug_frame.

use std::{fs::File, ops::Range};

use fdtrace_common::unwind::Rule;
use gimli::{
    BaseAddresses, CieOrFde, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, FrameDescriptionEntry,
    LittleEndian, UnwindContext, UnwindSection,
};
use object::{Object as _, ObjectSection as _, ObjectSegment as _, ReadRef, read::ReadCache};

use super::rule;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// More is no table of a program that anybody runs.
const MOST_BYTES: u64 = 1 << 30;
/// Code that is searched for the return from a signal: that of a libc, not of everything that has none.
const MOST_CODE: u64 = 4 << 20;

/// `mov $15, %rax; syscall`: how a handler returns to what the signal interrupted (`rt_sigreturn`). Not every libc
/// has tables for it, so debuggers know it by its code.
const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

/// Nobody calls the code at a program's entry, which is written by hand and as short as this; the loader's has no table.
const ENTRY_BYTES: u64 = 64;

/// What a file says of its frames.
pub(super) struct Tables {
    /// Where parts of the file lie in memory.
    segments: Vec<Segment>,
    bases: BaseAddresses,
    eh_frame: Vec<u8>,
    /// An index of it that the linker has made.
    eh_frame_hdr: Vec<u8>,
    /// One that was made here, where there is none.
    eh_index: Index,
    debug_frame: Vec<u8>,
    debug_index: Index,
    /// Go's functions keep frame pointers, always, and have no other tables once they are stripped.
    is_go: bool,
    /// Where code returns from signals.
    sigreturns: Vec<u64>,
    /// Where the kernel lets a program begin.
    entry: u64,
}

struct Segment {
    offsets: Range<u64>,
    address: u64,
}

/// Descriptions by the addresses that they cover, sorted: first address, how many, and the place in the section.
type Index = Vec<(u64, u64, usize)>;

impl Tables {
    /// Reads the tables of a file for x86_64; `None` of anything else.
    pub(super) fn read(file: &File) -> Option<Self> {
        Self::parse(&ReadCache::new(file))
    }

    /// The same of a file in memory.
    pub(super) fn parse<'a>(data: impl ReadRef<'a>) -> Option<Self> {
        let object = object::File::parse(data).ok()?;
        if object.architecture() != object::Architecture::X86_64 {
            return None;
        }
        let section = |name: &str| object.section_by_name(name);
        let address = |name: &str| section(name).map_or(0, |section| section.address());
        let bytes = |name: &str| section(name).and_then(|section| contents(&section)).unwrap_or_default();
        let segments = object.segments().map(|segment| {
            let (offset, size) = segment.file_range();
            Segment { offsets: offset..offset.saturating_add(size), address: segment.address() }
        });
        let bases = BaseAddresses::default()
            .set_eh_frame(address(".eh_frame"))
            .set_eh_frame_hdr(address(".eh_frame_hdr"))
            .set_text(address(".text"))
            .set_got(address(".got"));
        let mut tables = Self {
            segments: segments.collect(),
            bases,
            eh_frame: bytes(".eh_frame"),
            eh_frame_hdr: bytes(".eh_frame_hdr"),
            eh_index: Index::new(),
            debug_frame: bytes(".debug_frame"),
            debug_index: Index::new(),
            is_go: section(".gopclntab").is_some() || section(".go.buildinfo").is_some(),
            sigreturns: Vec::new(),
            entry: object.entry(),
        };
        if tables.eh_frame_hdr.is_empty() {
            tables.eh_index = index(&tables.eh_frame(), &tables.bases);
        }
        tables.debug_index = index(&tables.debug_frame(), &tables.bases);
        tables.sigreturns = section(".text").and_then(|text| sigreturns(&text)).unwrap_or_default();
        Some(tables)
    }

    /// The rule at an offset of the file. `exact` says that an instruction is there, and not the one before a return
    /// address: nobody called from there.
    pub(super) fn rule(&self, offset: u64, exact: bool) -> Rule {
        let Some(address) = self.address(offset) else { return Rule::UNKNOWN };
        if let Some(rule) = self.eh_rule(address) {
            return rule;
        }
        // A signal's frame returns to the trampoline's first instruction, one behind.
        if self.sigreturns.contains(&address) || self.sigreturns.contains(&(address + 1)) {
            return Rule::SIGNAL;
        }
        if address.wrapping_sub(self.entry) < ENTRY_BYTES {
            return Rule::END;
        }
        match (self.is_go, exact) {
            (true, false) => Rule::FRAME_POINTER,
            (true, true) => self.debug_rule(address).unwrap_or(Rule::LEAF),
            (false, _) => self.debug_rule(address).unwrap_or(guess(exact)),
        }
    }

    /// How much memory they take.
    pub(super) fn bytes(&self) -> usize {
        let index = size_of_val(&self.eh_index[..]) + size_of_val(&self.debug_index[..]);
        self.eh_frame.len() + self.eh_frame_hdr.len() + self.debug_frame.len() + index
    }

    fn address(&self, offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| segment.offsets.contains(&offset))?;
        Some(segment.address.wrapping_add(offset - segment.offsets.start))
    }

    fn eh_frame(&self) -> EhFrame<Bytes<'_>> {
        EhFrame::new(&self.eh_frame, LittleEndian)
    }

    fn debug_frame(&self) -> DebugFrame<Bytes<'_>> {
        let mut section = DebugFrame::new(&self.debug_frame, LittleEndian);
        section.set_address_size(8);
        section
    }

    fn eh_rule(&self, address: u64) -> Option<Rule> {
        let section = self.eh_frame();
        let offset = if self.eh_frame_hdr.is_empty() {
            find(&self.eh_index, address)?
        } else {
            let header = EhFrameHdr::new(&self.eh_frame_hdr, LittleEndian).parse(&self.bases, 8).ok()?;
            let table = header.table()?;
            table.pointer_to_offset(table.lookup(address, &self.bases).ok()?).ok()?.0
        };
        let entry = section.fde_from_offset(&self.bases, offset.into(), EhFrame::cie_from_offset).ok()?;
        rule_of(&section, &self.bases, &entry, address)
    }

    fn debug_rule(&self, address: u64) -> Option<Rule> {
        let section = self.debug_frame();
        let offset = find(&self.debug_index, address)?;
        let entry = section.fde_from_offset(&self.bases, offset.into(), DebugFrame::cie_from_offset).ok()?;
        rule_of(&section, &self.bases, &entry, address)
    }
}

/// How code without tables is written most of the time.
const fn guess(exact: bool) -> Rule {
    let rule = if exact { Rule::LEAF } else { Rule::FRAME_POINTER };
    Rule { guessed: 1, ..rule }
}

fn rule_of<'a, S: UnwindSection<Bytes<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    entry: &FrameDescriptionEntry<Bytes<'a>>,
    address: u64,
) -> Option<Rule> {
    if !entry.contains(address) {
        return None;
    }
    if entry.is_signal_trampoline() {
        return Some(Rule::SIGNAL);
    }
    let mut context = UnwindContext::new();
    let row = entry.unwind_info_for_address(section, bases, &mut context, address).ok()?;
    Some(rule::of_row(section, row, entry.cie().encoding()))
}

fn contents<'a>(section: &impl object::ObjectSection<'a>) -> Option<Vec<u8>> {
    let range = section.compressed_file_range().ok()?;
    if range.uncompressed_size > MOST_BYTES || range.compressed_size > MOST_BYTES {
        return None;
    }
    Some(section.uncompressed_data().ok()?.into_owned())
}

/// Where the descriptions of a section are, which has no index of its own.
fn index<'a, S: UnwindSection<Bytes<'a>>>(section: &S, bases: &BaseAddresses) -> Index {
    let mut index = Index::new();
    let mut entries = section.entries(bases);
    // What comes behind a broken entry cannot be found.
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let Ok(entry) = partial.parse(S::cie_from_offset) else { continue };
        index.push((entry.initial_address(), entry.len(), entry.offset()));
    }
    index.sort_unstable();
    index
}

fn find(index: &Index, address: u64) -> Option<usize> {
    let (start, length, offset) = index[..index.partition_point(|(start, ..)| *start <= address)].last()?;
    (address - start < *length).then_some(*offset)
}

/// The addresses at which code returns from a signal.
fn sigreturns<'a>(text: &impl object::ObjectSection<'a>) -> Option<Vec<u64>> {
    if text.size() > MOST_CODE {
        return None;
    }
    let bytes = text.data().ok()?;
    let found = bytes.windows(SIGRETURN.len()).enumerate().filter(|(_, window)| **window == SIGRETURN);
    Some(found.map(|(offset, _)| text.address() + offset as u64).collect())
}
