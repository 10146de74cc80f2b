//! The unwind tables of a file: .eh_frame, which nearly all programs have, and .debug_frame.

use std::ops::Range;

use fdtrace_common::unwind::{Rule, note};
use gimli::{
    BaseAddresses, CieOrFde, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, FrameDescriptionEntry,
    LittleEndian, UnwindContext, UnwindSection,
};

use super::{anchors, bytes::Bytes, object::Object, rule};
use crate::runtimes;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Code that is searched for the return from a signal: that of a libc, not of everything that has none.
const MAX_CODE: usize = 4 << 20;
/// A description, with its instructions. Those of the largest functions have some hundred kilobytes.
const LARGEST_DESCRIPTION: usize = 4 << 20;
/// The most descriptions in an index that is made here. Linkers make one where there are more.
const MAX_INDEXED: usize = 1 << 20;
/// The largest section that is walked through for it.
const LARGEST_INDEXED: usize = 64 << 20;

/// `mov $15, %rax; syscall`: how a handler returns to what the signal interrupted (`rt_sigreturn`). Not every libc
/// has tables for it, so debuggers know it by its code.
const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

/// Nobody calls the code at a program's entry, which is written by hand and as short as this; the loader's has no table.
const ENTRY_BYTES: u64 = 64;

/// What a file says of its frames.
pub(in crate::stacks) struct Tables {
    object: Object,
    bases: BaseAddresses,
    eh_frame: Bytes,
    /// An index of it that the linker has made.
    eh_frame_hdr: Bytes,
    /// One that was made here, where there is none.
    eh_index: Index,
    debug_frame: Bytes,
    debug_index: Index,
    /// Go's functions keep frame pointers, always, and have no other tables once they are stripped.
    is_go: bool,
    /// So do the functions that V8 has compiled beforehand, which have no tables.
    has_v8: bool,
    /// Where code returns from signals.
    sigreturns: Vec<u64>,
}

/// Descriptions by the addresses that they cover, sorted: first address, how many, and the place in the section.
type Index = Vec<(u64, u64, usize)>;

impl Tables {
    /// The tables of a file for x86_64; `None` of anything else.
    pub(super) fn of(object: Object) -> Option<Self> {
        if !object.is_x86_64 {
            return None;
        }
        let bases = BaseAddresses::default()
            .set_eh_frame(object.address_of(".eh_frame"))
            .set_eh_frame_hdr(object.address_of(".eh_frame_hdr"))
            .set_text(object.address_of(".text"))
            .set_got(object.address_of(".got"));
        let mut tables = Self {
            bases,
            eh_frame: object.contents(".eh_frame"),
            eh_frame_hdr: object.contents(".eh_frame_hdr"),
            eh_index: Index::new(),
            debug_frame: object.contents(".debug_frame"),
            debug_index: Index::new(),
            has_v8: runtimes::keeps_frame_pointers(|names| !anchors::find(&object, names).is_empty()),
            is_go: object.has(".gopclntab") || object.has(".go.buildinfo"),
            sigreturns: sigreturns(&object.contents(".text"), object.address_of(".text")),
            object,
        };
        if tables.eh_frame_hdr.is_empty() {
            tables.eh_index = index(&tables.eh_frame(), tables.eh_frame.len(), &tables.bases);
        }
        tables.debug_index = index(&tables.debug_frame(), tables.debug_frame.len(), &tables.bases);
        tables.object.bytes.forget_pages();
        Some(tables)
    }

    /// The rule at an offset of the file. `exact` says that an instruction is there, and not the one before a return
    /// address: nobody called from there.
    pub(in crate::stacks) fn rule(&self, offset: u64, exact: bool) -> Rule {
        let Some(address) = self.object.address(offset) else { return Rule::UNKNOWN };
        if let Some(rule) = self.eh_rule(address) {
            return rule;
        }
        // A signal's frame returns to the trampoline's first instruction, one behind.
        if self.sigreturns.contains(&address) || self.sigreturns.contains(&(address + 1)) {
            return Rule::SIGNAL;
        }
        if address.wrapping_sub(self.object.entry) < ENTRY_BYTES {
            return Rule::END;
        }
        match (self.is_go, exact) {
            (true, false) => Rule::FRAME_POINTER,
            (false, false) if self.has_v8 => Rule::FRAME_POINTER,
            (true, true) => self.debug_rule(address).unwrap_or(Rule::LEAF),
            (false, _) => self.debug_rule(address).unwrap_or(guess(exact)),
        }
    }

    fn eh_frame(&self) -> EhFrame<Slice<'_>> {
        EhFrame::new(&self.eh_frame, LittleEndian)
    }

    fn debug_frame(&self) -> DebugFrame<Slice<'_>> {
        let mut section = DebugFrame::new(&self.debug_frame, LittleEndian);
        section.set_address_size(8);
        section
    }

    /// The addresses of the function that begins at one.
    pub(super) fn function(&self, address: u64) -> Option<Range<u64>> {
        let entry = self.eh_entry(&self.eh_frame(), address)?;
        let start = entry.initial_address();
        (start == address).then(|| start..start.saturating_add(entry.len()))
    }

    fn eh_rule(&self, address: u64) -> Option<Rule> {
        let section = self.eh_frame();
        let entry = self.eh_entry(&section, address)?;
        rule_of(&section, &self.bases, &entry, address)
    }

    fn eh_entry<'a>(
        &'a self,
        section: &EhFrame<Slice<'a>>,
        address: u64,
    ) -> Option<FrameDescriptionEntry<Slice<'a>>> {
        let offset = if self.eh_frame_hdr.is_empty() {
            find(&self.eh_index, address)?
        } else {
            let header = EhFrameHdr::new(&self.eh_frame_hdr, LittleEndian).parse(&self.bases, 8).ok()?;
            let table = header.table()?;
            table.pointer_to_offset(table.lookup(address, &self.bases).ok()?).ok()?.0
        };
        section.fde_from_offset(&self.bases, offset.into(), EhFrame::cie_from_offset).ok()
    }

    fn debug_rule(&self, address: u64) -> Option<Rule> {
        let section = self.debug_frame();
        let offset = find(&self.debug_index, address)?;
        let entry = section.fde_from_offset(&self.bases, offset.into(), DebugFrame::cie_from_offset).ok()?;
        rule_of(&section, &self.bases, &entry, address)
    }
}

/// How code without tables is written most of the time.
pub(in crate::stacks) const fn guess(exact: bool) -> Rule {
    let rule = if exact { Rule::LEAF } else { Rule::FRAME_POINTER };
    Rule { notes: note::GUESSED, ..rule }
}

fn rule_of<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    entry: &FrameDescriptionEntry<Slice<'a>>,
    address: u64,
) -> Option<Rule> {
    if !entry.contains(address) {
        return None;
    }
    if entry.entry_len().max(entry.cie().entry_len()) > LARGEST_DESCRIPTION {
        return Some(Rule::UNKNOWN);
    }
    if entry.is_signal_trampoline() {
        return Some(Rule::SIGNAL);
    }
    let mut context = UnwindContext::new();
    let row = entry.unwind_info_for_address(section, bases, &mut context, address).ok()?;
    Some(rule::of_row(section, row, entry.cie().encoding()))
}

/// Where the descriptions of a section are, which has no index of its own.
fn index<'a, S: UnwindSection<Slice<'a>>>(section: &S, bytes: usize, bases: &BaseAddresses) -> Index {
    let mut index = Index::new();
    if bytes > LARGEST_INDEXED {
        return index;
    }
    let mut entries = section.entries(bases);
    // What comes behind a broken entry cannot be found.
    while index.len() < MAX_INDEXED
        && let Ok(Some(entry)) = entries.next()
    {
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
fn sigreturns(text: &[u8], address: u64) -> Vec<u64> {
    if text.len() > MAX_CODE {
        return Vec::new();
    }
    let found = text.windows(SIGRETURN.len()).enumerate().filter(|(_, window)| **window == SIGRETURN);
    found.map(|(offset, _)| address.wrapping_add(offset as u64)).collect()
}
