//! How an ELF file is laid out: read with ordinary reads and limits, before anything maps the file and trusts it.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    ops::Range,
    os::unix::ffi::OsStringExt as _,
};

use object::{
    NativeEndian, ReadCache, ReadRef, elf,
    read::{
        CompressionFormat,
        elf::{CompressionHeader as _, FileHeader, ProgramHeader as _, SectionHeader as _, SectionTable},
    },
};

use super::file::reopen;

/// Files that are larger are not looked at.
const LARGEST_FILE: u64 = 32 << 30;
/// The most that is read at once: tables of headers, notes.
const LARGEST_READ: u64 = 16 << 20;
/// The most sections, and as many segments.
const MOST_SECTIONS: usize = 1 << 16;
/// The most bytes of symbol tables: an index of all symbols is made in memory.
const MOST_SYMBOLS: u64 = 512 << 20;
/// The most bytes of compressed sections: all are unpacked in memory.
const MOST_UNPACKED: u64 = 256 << 20;
/// What compilers write shrinks to a third, what is made up for the purpose to nothing.
const MOST_SHRUNK: u64 = 64;

/// What there is to know of a file before its symbols are read.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) build_id: Option<Vec<u8>>,
    /// The name of a separate debug file, and its checksum.
    pub(super) debug_link: Option<(OsString, u32)>,
    pub(super) has_debug_info: bool,
    /// It names other files that have a part of its debug information, which a library would open by itself.
    pub(super) leads_elsewhere: bool,
    segments: Vec<Segment>,
    /// Addresses of the sections with code.
    code: Vec<Range<u64>>,
    packed: Vec<Packed>,
}

#[derive(Debug)]
struct Segment {
    file: Range<u64>,
    address: u64,
}

/// A compressed section.
#[derive(Debug)]
struct Packed {
    format: CompressionFormat,
    offset: u64,
    size: u64,
    unpacked: u64,
}

impl Layout {
    /// `None` where it is no ELF program of this machine's byte order, or one of absurd sizes.
    pub(super) fn read(file: &File) -> Option<Self> {
        let size = file.metadata().ok()?.len();
        if size > LARGEST_FILE {
            return None;
        }
        let cache = ReadCache::new(reopen(file)?);
        let data = Bounded(&cache);
        let class = *data.read_bytes_at(0, 16).ok()?.get(4)?;
        match class {
            elf::ELFCLASS64 => Self::of::<elf::FileHeader64<NativeEndian>>(data),
            elf::ELFCLASS32 => Self::of::<elf::FileHeader32<NativeEndian>>(data),
            _ => None,
        }
    }

    fn of<Elf: FileHeader<Endian = NativeEndian>>(data: Bounded<'_>) -> Option<Self> {
        let header = Elf::parse(data).ok()?;
        let endian = header.endian().ok()?;
        if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN) {
            return None;
        }
        let sections = header.sections(endian, data).ok()?;
        let segments = segments(header, endian, data)?;
        if sections.len() > MOST_SECTIONS || segments.len() > MOST_SECTIONS {
            return None;
        }
        let named = |name: &[u8]| sections.section_by_name(endian, name).map(|(_, section)| section);
        let read = |name: &[u8]| named(name)?.data(endian, data).ok();
        let has = |name: &[u8]| named(name).is_some();
        is_small(&sections, endian).then_some(())?;
        Some(Self {
            build_id: build_id(&sections, endian, data),
            debug_link: read(b".gnu_debuglink").and_then(debug_link),
            has_debug_info: named(b".debug_info").is_some_and(|info| has_data::<Elf>(info, endian)),
            leads_elsewhere: has(b".gnu_debuglink") || has(b".gnu_debugaltlink") || has(b".debug_sup"),
            segments,
            code: code(&sections, endian),
            packed: packed(&sections, endian, data)?,
        })
    }

    /// The address that a byte of the file is mapped to, as the file has it.
    pub(super) fn address(&self, offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| segment.file.contains(&offset))?;
        segment.address.checked_add(offset - segment.file.start)
    }

    /// Whether two addresses are of one section with code.
    pub(super) fn is_one_section(&self, one: u64, other: u64) -> bool {
        self.code.iter().any(|section| section.contains(&one) && section.contains(&other))
    }

    /// Bytes that its compressed sections take in memory.
    pub(super) fn unpacked(&self) -> u64 {
        self.packed.iter().fold(0, |sum, packed| sum.saturating_add(packed.unpacked))
    }

    /// Whether its compressed sections are of sensible sizes, and of the sizes that they claim: the library believes them.
    pub(super) fn unpacks_well(&self, file: &File) -> bool {
        let sensible = |packed: &Packed| {
            packed.unpacked <= packed.size.saturating_mul(MOST_SHRUNK).saturating_add(1 << 20)
        };
        self.unpacked() <= MOST_UNPACKED
            && self.packed.iter().all(sensible)
            && self.packed.iter().all(|packed| packed.is_honest(file).unwrap_or(false))
    }
}

impl Packed {
    fn is_honest(&self, file: &File) -> io::Result<bool> {
        let mut file = reopen(file).ok_or(io::ErrorKind::NotFound)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let data = BufReader::with_capacity(1 << 16, file.take(self.size));
        let length = match self.format {
            CompressionFormat::Zlib => self.length(flate2::bufread::ZlibDecoder::new(data)),
            CompressionFormat::Zstandard => self.length(zstd::Decoder::with_buffer(data)?),
            _ => return Ok(false),
        };
        Ok(length? == self.unpacked)
    }

    /// Stops just behind what is claimed.
    fn length(&self, unpacked: impl Read) -> io::Result<u64> {
        io::copy(&mut unpacked.take(self.unpacked.saturating_add(1)), &mut io::sink())
    }
}

fn segments<Elf: FileHeader<Endian = NativeEndian>>(
    header: &Elf,
    endian: NativeEndian,
    data: Bounded<'_>,
) -> Option<Vec<Segment>> {
    let headers = header.program_headers(endian, data).ok()?;
    let loaded = headers.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD);
    let segment = |segment: &Elf::ProgramHeader| {
        let (offset, size) = segment.file_range(endian);
        Segment { file: offset..offset.saturating_add(size), address: segment.p_vaddr(endian).into() }
    };
    Some(loaded.map(segment).collect())
}

/// The ranges of addresses with code.
fn code<'data, Elf: FileHeader<Endian = NativeEndian>>(
    sections: &SectionTable<'data, Elf, Bounded<'data>>,
    endian: NativeEndian,
) -> Vec<Range<u64>> {
    let flags = |section: &Elf::SectionHeader| -> u64 { section.sh_flags(endian).into() };
    let code = sections.iter().filter(|section| flags(section) & u64::from(elf::SHF_EXECINSTR) != 0);
    let range = |section: &Elf::SectionHeader| {
        let (start, size): (u64, u64) = (section.sh_addr(endian).into(), section.sh_size(endian).into());
        start..start.saturating_add(size)
    };
    code.map(range).collect()
}

/// Whether an index of all symbols fits into memory.
fn is_small<'data, Elf: FileHeader<Endian = NativeEndian>>(
    sections: &SectionTable<'data, Elf, Bounded<'data>>,
    endian: NativeEndian,
) -> bool {
    let named = |section: &&Elf::SectionHeader| {
        matches!(sections.section_name(endian, section), Ok(b".symtab" | b".dynsym"))
    };
    let size = |section: &Elf::SectionHeader| -> u64 { section.sh_size(endian).into() };
    let with_data = sections.iter().filter(|section| has_data::<Elf>(section, endian));
    with_data.filter(named).map(size).fold(0, u64::saturating_add) <= MOST_SYMBOLS
}

fn has_data<Elf: FileHeader<Endian = NativeEndian>>(
    section: &Elf::SectionHeader,
    endian: NativeEndian,
) -> bool {
    section.sh_type(endian) != elf::SHT_NOBITS
}

fn build_id<'data, Elf: FileHeader<Endian = NativeEndian>>(
    sections: &SectionTable<'data, Elf, Bounded<'data>>,
    endian: NativeEndian,
    data: Bounded<'data>,
) -> Option<Vec<u8>> {
    sections.iter().find_map(|section| {
        let mut notes = section.notes(endian, data).ok()??;
        while let Some(note) = notes.next().ok()? {
            if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                return Some(note.desc().to_vec());
            }
        }
        None
    })
}

/// A name, up to three bytes to the next multiple of four, and a checksum.
fn debug_link(data: &[u8]) -> Option<(OsString, u32)> {
    let end = data.iter().position(|byte| *byte == 0)?;
    let checksum = data.get((end + 1).next_multiple_of(4)..)?.first_chunk()?;
    Some((OsString::from_vec(data[..end].to_vec()), u32::from_ne_bytes(*checksum)))
}

/// `None` where a section says that it is compressed and is not.
fn packed<'data, Elf: FileHeader<Endian = NativeEndian>>(
    sections: &SectionTable<'data, Elf, Bounded<'data>>,
    endian: NativeEndian,
    data: Bounded<'data>,
) -> Option<Vec<Packed>> {
    let mut all = Vec::new();
    for section in sections.iter().filter(|section| has_data::<Elf>(section, endian)) {
        let Some((header, offset, size)) = section.compression(endian, data).ok()? else { continue };
        let format = match header.ch_type(endian) {
            elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
            elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
            _ => CompressionFormat::Unknown,
        };
        all.push(Packed { format, offset, size, unpacked: header.ch_size(endian).into() });
    }
    Some(all)
}

/// Reads that cannot ask for more memory than a sensible file needs.
#[derive(Clone, Copy)]
struct Bounded<'data>(&'data ReadCache<File>);

impl<'data> ReadRef<'data> for Bounded<'data> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        if size > LARGEST_READ { Err(()) } else { self.0.read_bytes_at(offset, size) }
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}
