//! An ELF file's table of contents. How many there are of everything is looked at before anything is walked through.

use std::ops::Range;

use object::{
    NativeEndian, elf,
    read::{
        CompressionFormat,
        elf::{CompressionHeader as _, FileHeader, ProgramHeader as _, SectionHeader as _},
    },
};

use super::bytes::Bytes;

/// The most sections, and as many segments: linkers make some dozens, `-ffunction-sections` some ten thousands.
const MAX_SECTIONS: usize = 1 << 16;
/// The longest name of a section that anybody asks for.
const LONGEST_NAME: usize = 32;
/// What is unpacked at most, of one section and of all together.
const MAX_UNPACKED: u64 = 64 << 20;
/// What compilers write shrinks to a third, what is made up for the purpose to nothing.
const MAX_SHRUNK: u64 = 64;

/// What mappings begin at multiples of. Linkers align to more on some machines, which is a multiple of this too.
const PAGE: u64 = 4096;

/// A program or a library of this machine's byte order.
#[derive(Debug)]
pub(super) struct Object {
    /// The whole file.
    pub(super) bytes: Bytes,
    /// It is for x86_64.
    pub(super) is_x86_64: bool,
    /// Where the kernel lets a program begin.
    pub(super) entry: u64,
    pub(super) segments: Vec<Segment>,
    sections: Vec<Section>,
}

/// A part of the file that is loaded, or says something of loading.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) kind: u32,
    pub(super) file: Range<u64>,
    pub(super) address: u64,
}

#[derive(Debug)]
struct Section {
    name: Vec<u8>,
    kind: u32,
    flags: u64,
    addresses: Range<u64>,
    link: usize,
    offset: u64,
    size: u64,
    packed: Option<Packed>,
}

/// A compressed section, whose bytes are behind a header.
#[derive(Debug)]
struct Packed {
    format: CompressionFormat,
    offset: u64,
    size: u64,
    unpacked: u64,
}

/// A table of symbols and its names.
pub(super) struct SymbolTable {
    pub(super) entries: Bytes,
    pub(super) names: Bytes,
    pub(super) is_64_bit: bool,
    pub(super) is_dynamic: bool,
}

impl Object {
    /// `None` where it is something else, or its sizes are absurd.
    pub(super) fn parse(bytes: Bytes) -> Option<Self> {
        match *bytes.get(4)? {
            elf::ELFCLASS64 => Self::of::<elf::FileHeader64<NativeEndian>>(bytes),
            elf::ELFCLASS32 => Self::of::<elf::FileHeader32<NativeEndian>>(bytes),
            _ => None,
        }
    }

    fn of<Elf: FileHeader<Endian = NativeEndian>>(bytes: Bytes) -> Option<Self> {
        let data = &bytes[..];
        let header = Elf::parse(data).ok()?;
        let endian = header.endian().ok()?;
        if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN) {
            return None;
        }
        let (sections, segments) =
            (header.sections(endian, data).ok()?, header.program_headers(endian, data).ok()?);
        if sections.len() > MAX_SECTIONS || segments.len() > MAX_SECTIONS {
            return None;
        }
        let segments = segments.iter().map(|segment| {
            let (offset, size) = segment.file_range(endian);
            let file = offset..offset.saturating_add(size);
            Segment { kind: segment.p_type(endian), file, address: segment.p_vaddr(endian).into() }
        });
        let sections = sections.iter().map(|section| {
            let name = sections.section_name(endian, section).unwrap_or_default();
            Section::of::<Elf>(section, endian, data, name)
        });
        Some(Self {
            is_x86_64: header.e_machine(endian) == elf::EM_X86_64 && header.is_class_64(),
            entry: header.e_entry(endian).into(),
            segments: segments.collect(),
            sections: sections.collect::<Option<_>>()?,
            bytes,
        })
    }

    /// The address that a byte of the file is loaded to, as the file has it.
    pub(super) fn address(&self, offset: u64) -> Option<u64> {
        let loaded = |segment: &&Segment| segment.kind == elf::PT_LOAD && segment.file.contains(&offset);
        let segment = self.segments.iter().find(loaded)?;
        segment.address.checked_add(offset - segment.file.start)
    }

    /// The same for the first byte of a page, which may be of the page that a segment begins in.
    pub(super) fn page_address(&self, offset: u64) -> Option<u64> {
        let first = |segment: &Segment| segment.file.start - segment.file.start % PAGE;
        let loaded = |segment: &&Segment| {
            segment.kind == elf::PT_LOAD && (first(segment)..segment.file.end).contains(&offset)
        };
        // A page that two segments share is mapped for each of them, the later one where code lies.
        let segment = self.segments.iter().rfind(loaded)?;
        segment.address.checked_sub(segment.file.start % PAGE)?.checked_add(offset - first(segment))
    }

    /// Where a section is loaded; 0 for one that is not there.
    pub(super) fn address_of(&self, name: &str) -> u64 {
        self.section(name).map_or(0, |section| section.addresses.start)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.section(name).is_some()
    }

    /// Whether there is a section with this name that has bytes in the file.
    pub(super) fn has_bytes(&self, name: &str) -> bool {
        self.section(name).is_some_and(Section::has_bytes)
    }

    /// What a section has in the file, unpacked if it is packed: nothing where it is missing, broken or too large.
    pub(super) fn contents(&self, name: &str) -> Bytes {
        self.section(name).and_then(|section| section.contents(&self.bytes)).unwrap_or_default()
    }

    /// Whether all that is packed together unpacks into a sensible number of bytes.
    pub(super) fn unpacks_into_little(&self) -> bool {
        let packed = self.sections.iter().filter_map(|section| section.packed.as_ref());
        packed.fold(0, |sum: u64, packed| sum.saturating_add(packed.unpacked)) <= MAX_UNPACKED
    }

    /// Whether two addresses are of one section with code.
    pub(super) fn is_one_section(&self, one: u64, other: u64) -> bool {
        self.code().any(|section| section.contains(&one) && section.contains(&other))
    }

    /// The addresses of sections with code.
    pub(super) fn code(&self) -> impl Iterator<Item = &Range<u64>> {
        let is_code = |section: &&Section| section.flags & u64::from(elf::SHF_EXECINSTR) != 0;
        self.sections.iter().filter(is_code).map(|section| &section.addresses)
    }

    /// The tables of symbols, the full one first.
    pub(super) fn symbol_tables(&self) -> Vec<SymbolTable> {
        let of_kind = |kind| self.sections.iter().filter(move |section| section.kind == kind);
        let tables = of_kind(elf::SHT_SYMTAB).chain(of_kind(elf::SHT_DYNSYM));
        let table = |section: &Section| {
            Some(SymbolTable {
                entries: section.contents(&self.bytes)?,
                names: self.sections.get(section.link)?.contents(&self.bytes)?,
                is_64_bit: self.bytes.get(4) == Some(&elf::ELFCLASS64),
                is_dynamic: section.kind == elf::SHT_DYNSYM,
            })
        };
        tables.filter_map(table).collect()
    }

    /// Notes that are sections, whole.
    pub(super) fn notes(&self) -> impl Iterator<Item = Bytes> {
        let notes = self.sections.iter().filter(|section| section.kind == elf::SHT_NOTE);
        notes.filter_map(|section| section.contents(&self.bytes))
    }

    /// A segment's bytes.
    pub(super) fn segment(&self, kind: u32) -> Option<Bytes> {
        let segment = self.segments.iter().find(|segment| segment.kind == kind)?;
        self.bytes.part(segment.file.start, segment.file.end - segment.file.start)
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name.as_bytes())
    }
}

impl Section {
    /// `None` where it says that it is packed and is not.
    fn of<Elf: FileHeader<Endian = NativeEndian>>(
        section: &Elf::SectionHeader,
        endian: NativeEndian,
        data: &[u8],
        name: &[u8],
    ) -> Option<Self> {
        let kind = section.sh_type(endian);
        let (address, size): (u64, u64) = (section.sh_addr(endian).into(), section.sh_size(endian).into());
        let packed = if kind == elf::SHT_NOBITS { None } else { section.compression(endian, data).ok()? };
        let packed = packed.map(|(header, offset, size)| Packed {
            format: match header.ch_type(endian) {
                elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
                elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
                _ => CompressionFormat::Unknown,
            },
            offset,
            size,
            unpacked: header.ch_size(endian).into(),
        });
        Some(Self {
            name: if name.len() > LONGEST_NAME { Vec::new() } else { name.to_vec() },
            kind,
            flags: section.sh_flags(endian).into(),
            addresses: address..address.saturating_add(size),
            link: usize::try_from(section.sh_link(endian)).ok()?,
            offset: section.sh_offset(endian).into(),
            size,
            packed,
        })
    }

    fn has_bytes(&self) -> bool {
        self.kind != elf::SHT_NOBITS
    }

    fn contents(&self, file: &Bytes) -> Option<Bytes> {
        match &self.packed {
            Some(packed) => packed.unpack(file),
            None if self.has_bytes() => file.part(self.offset, self.size),
            None => None,
        }
    }
}

impl Packed {
    /// `None` where the size that is claimed is not the one that comes.
    fn unpack(&self, file: &Bytes) -> Option<Bytes> {
        let packed = file.part(self.offset, self.size)?;
        let most = self.size.saturating_mul(MAX_SHRUNK).saturating_add(1 << 20).min(MAX_UNPACKED);
        if self.unpacked > most {
            return None;
        }
        let mut unpacked = Vec::new();
        match self.format {
            CompressionFormat::Zlib => {
                read(flate2::bufread::ZlibDecoder::new(&packed[..]), self.unpacked, &mut unpacked)
            }
            CompressionFormat::Zstandard => {
                read(zstd::Decoder::with_buffer(&packed[..]).ok()?, self.unpacked, &mut unpacked)
            }
            _ => None,
        }?;
        (unpacked.len() as u64 == self.unpacked).then(|| unpacked.into())
    }
}

/// Stops just behind what is claimed.
fn read(from: impl std::io::Read, claimed: u64, to: &mut Vec<u8>) -> Option<()> {
    use std::io::Read as _;
    from.take(claimed.saturating_add(1)).read_to_end(to).ok().map(drop)
}
