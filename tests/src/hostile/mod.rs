//! What users can lay before a tracer that runs as root: programs whose files are made up, and maps of JIT compilers.
//!
//! Each has a name and does one thing. All run, and open a file now and then; what is false is what their files say.

mod dwarf;
pub mod names;
mod program;
pub mod trace;

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use flate2::{Compression, write::ZlibEncoder};

use self::program::{Data, OPENED, Program, Section, code_address};

/// A gigabyte.
const GB: u64 = 1 << 30;

const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;
const DYNAMIC: u32 = 6;
const NOTE: u32 = 7;
const DYNSYM: u32 = 11;
const COMPRESSED: u64 = 1 << 11;

/// A program whose file is made up.
pub struct Hostile {
    /// What is wrong with it.
    pub name: &'static str,
    program: Program,
}

impl Hostile {
    /// Files that it opens and does not close, in less than a second.
    pub const OPENED: u32 = OPENED;

    /// Writes the program.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        self.program.write(path)
    }
}

/// A program that says of itself what is true: all of its code is one function. It stays for a while.
#[must_use]
pub fn honest(function: &str) -> Hostile {
    let program = Program { sections: named(function), opened: Some(1000), ..Program::default() };
    Hostile { name: "honest", program }
}

/// A program whose code lies in no file.
#[must_use]
pub fn made_at_run_time() -> Hostile {
    Hostile { name: "made at run time", program: Program { is_made_at_run_time: true, ..Program::default() } }
}

/// All of them.
#[must_use]
pub fn programs() -> Vec<Hostile> {
    let with =
        |name, sections: Vec<Section>| Hostile { name, program: Program { sections, ..Program::default() } };
    let header = |name, change: fn(&mut Program)| {
        let mut program =
            Program { sections: vec![section(".text", PROGBITS, Data::default())], ..Program::default() };
        change(&mut program);
        Hostile { name, program }
    };
    vec![
        // Tables of contents.
        header("a hundred million sections", |program| {
            program.extended_count = Some(100_000_000);
            program.length = Some(6_400_000_000 + (1 << 20));
        }),
        header("more sections than numbers", |program| program.extended_count = Some(u64::MAX)),
        header("sections where the file has ended", |program| program.claimed_table = Some(1 << 40)),
        header("sections across the end of numbers", |program| program.claimed_table = Some(u64::MAX - 63)),
        header("names of sections in a section that is not there", |program| {
            program.claimed_names = Some(0xfff0);
        }),
        header("a file of forty gigabytes", |program| program.length = Some(40 * GB)),
        header("segments that wrap around", |program| {
            program.segments = vec![(4, u64::MAX - 8, u64::MAX - 8, 64), (2, 1 << 50, 1 << 50, 1 << 50)];
        }),
        with("sixty thousand sections", vec![section(".eh_frame", PROGBITS, Data::default()); 60_000]),
        with(
            "sections that lie about where they are",
            [".eh_frame", ".debug_info", ".text", ".gnu_debuglink"]
                .map(|name| Section {
                    claimed_offset: Some(u64::MAX - 4),
                    claimed_size: Some(64),
                    ..section(name, PROGBITS, Data::default())
                })
                .to_vec(),
        ),
        // Unwind tables.
        with("a gigabyte of zeros for frames", vec![section(".eh_frame", PROGBITS, sparse(GB))]),
        with("a gigabyte of zeros for debug frames", vec![section(".debug_frame", PROGBITS, sparse(GB))]),
        with("frames that unpack to a gigabyte", vec![bomb(".eh_frame")]),
        with("debug frames that unpack to a gigabyte", vec![bomb(".debug_frame")]),
        with("packed frames that claim more than memory", vec![claims(".debug_frame", u64::MAX)]),
        with("packed frames that claim nothing", vec![claims(".debug_frame", 0)]),
        with(
            "one description of a gigabyte",
            vec![section(".eh_frame", PROGBITS, dwarf::long_description(GB))],
        ),
        with(
            "a gigabyte of instructions for one frame",
            vec![section(".debug_frame", PROGBITS, dwarf::long_program(GB))],
        ),
        with(
            "four million descriptions",
            vec![section(".eh_frame", PROGBITS, dwarf::many_descriptions(4_000_000))],
        ),
        with(
            "state that is remembered for ever",
            vec![section(".eh_frame", PROGBITS, dwarf::remembering(1 << 20))],
        ),
        with(
            "an index of four billion descriptions",
            vec![
                section(".eh_frame", PROGBITS, dwarf::many_descriptions(10)),
                section(".eh_frame_hdr", PROGBITS, dwarf::index(u32::MAX)),
            ],
        ),
        with(
            "an index that leads round",
            vec![
                section(".eh_frame", PROGBITS, dwarf::many_descriptions(10)),
                section(".eh_frame_hdr", PROGBITS, dwarf::index(1)),
            ],
        ),
        // Symbols.
        with("twenty million symbols", symbols(SYMTAB, sparse(24 * 20_000_000))),
        with(
            "twenty million symbols of one address",
            symbols(SYMTAB, Data::Sparse(dwarf::symbol(1, code_address(), 4096), 24 * 20_000_000)),
        ),
        with(
            "three million functions",
            symbols(SYMTAB, Data::Bytes(dwarf::functions(3_000_000, code_address()))),
        ),
        with("twenty million dynamic symbols", symbols(DYNSYM, sparse(24 * 20_000_000))),
        with(
            "a symbol whose name has no end",
            vec![
                Section {
                    link: 2,
                    ..section(".symtab", SYMTAB, Data::Bytes(dwarf::symbol(1, code_address(), 4096)))
                },
                section(".strtab", STRTAB, Data::Bytes([&[0][..], &vec![b'a'; 8 << 20]].concat())),
            ],
        ),
        with("a name that unfolds", named(&format!("_Z1f{}", "St4pairI".repeat(400)))),
        with("a name that unfolds in Rust", named(&format!("_RNvC1a{}1b", "INvC1cB1_".repeat(300)))),
        with(
            "a name that is no text",
            vec![
                Section {
                    link: 2,
                    ..section(".symtab", SYMTAB, Data::Bytes(dwarf::symbol(1, code_address(), 4096)))
                },
                section(".strtab", STRTAB, Data::Bytes(b"\0\xff\xfe\x1b[2J\x80\0".to_vec())),
            ],
        ),
        // Notes and links.
        with(
            "a build-id of a megabyte",
            vec![section(".note.gnu.build-id", NOTE, Data::Bytes(dwarf::note(1 << 20)))],
        ),
        with(
            "a note that lies about its length",
            vec![section(".note.gnu.build-id", NOTE, Data::Bytes(dwarf::note_of(u32::MAX, &[7; 20])))],
        ),
        with(
            "a link to a debug file that blocks",
            vec![section(".gnu_debuglink", PROGBITS, Data::Bytes(dwarf::link(b"fifo")))],
        ),
        with(
            "a link to a debug file that never ends",
            vec![section(".gnu_debuglink", PROGBITS, Data::Bytes(dwarf::link(b"zero")))],
        ),
        with(
            "a link whose name has no end",
            vec![section(".gnu_debuglink", PROGBITS, Data::Bytes(vec![b'x'; 8 << 20]))],
        ),
        // What is needed.
        with_segment("libraries without end", 2, dwarf::dynamic(1_000_000)),
        with_segment("a run path of a megabyte", 2, dwarf::run_path(1 << 20)),
        // Debug information.
        with("functions inlined a million deep", dwarf::deep(1_000_000)),
        with("two hundred thousand units", dwarf::units(200_000)),
        with("an abbreviation that leads nowhere", dwarf::unit_of(&[0xff; 64])),
        with("lines without end", dwarf::lines(256 << 20)),
        with(
            "a gigabyte of zeros for debug information",
            vec![
                section(".debug_info", PROGBITS, sparse(GB)),
                section(".debug_abbrev", PROGBITS, sparse(GB)),
            ],
        ),
        with(
            "debug information that unpacks to a gigabyte",
            vec![bomb(".debug_info"), bomb(".debug_abbrev"), bomb(".debug_line")],
        ),
        with(
            "strings without end",
            [dwarf::deep(2), vec![section(".debug_str", PROGBITS, Data::Bytes(vec![b's'; 32 << 20]))]]
                .concat(),
        ),
    ]
}

fn section(name: &'static str, kind: u32, data: Data) -> Section {
    Section { name, kind, address: 0x50_0000, data, ..Section::default() }
}

fn sparse(size: u64) -> Data {
    Data::Sparse(Vec::new(), size)
}

/// Zeros, packed: a gigabyte in a megabyte.
fn bomb(name: &'static str) -> Section {
    let mut packed = ZlibEncoder::new(compression_header(GB), Compression::fast());
    let zeros = vec![0; 1 << 20];
    (0..1024).for_each(|_| packed.write_all(&zeros).expect("memory"));
    let packed = packed.finish().expect("memory");
    Section { flags: COMPRESSED, ..section(name, PROGBITS, Data::Bytes(packed)) }
}

fn claims(name: &'static str, size: u64) -> Section {
    let mut packed = ZlibEncoder::new(compression_header(size), Compression::fast());
    packed.write_all(&[0; 4096]).expect("memory");
    Section { flags: COMPRESSED, ..section(name, PROGBITS, Data::Bytes(packed.finish().expect("memory"))) }
}

fn compression_header(size: u64) -> Vec<u8> {
    let mut header = 1u32.to_le_bytes().to_vec();
    header.extend(0u32.to_le_bytes());
    header.extend(size.to_le_bytes());
    header.extend(1u64.to_le_bytes());
    header
}

fn symbols(kind: u32, data: Data) -> Vec<Section> {
    let name = if kind == SYMTAB { ".symtab" } else { ".dynsym" };
    vec![
        Section { link: 2, ..section(name, kind, data) },
        section(".strtab", STRTAB, Data::Bytes(b"\0function\0".to_vec())),
    ]
}

/// One function, which is all of the code.
fn named(name: &str) -> Vec<Section> {
    vec![
        Section {
            link: 2,
            ..section(".symtab", SYMTAB, Data::Bytes(dwarf::symbol(1, code_address(), 4096)))
        },
        section(".strtab", STRTAB, Data::Bytes([&[0], name.as_bytes(), &[0]].concat())),
    ]
}

fn with_segment(name: &'static str, kind: u32, data: Vec<u8>) -> Hostile {
    let size = data.len() as u64;
    // The first section begins there.
    let segments = vec![(1, 0x2000, 0x7000_0000, size), (kind, 0x2000, 0x7000_0000, size)];
    let sections = vec![section(".dynamic", DYNAMIC, Data::Bytes(data))];
    Hostile { name, program: Program { sections, segments, ..Program::default() } }
}

/// Names of lines in a perf map that are made up; the text of each.
#[must_use]
pub fn perf_maps() -> Vec<(&'static str, Vec<u8>)> {
    let line =
        |number: u64| format!("{:x} 10 made_{number}\n", 0x7000_0000_0000u64 + number * 16).into_bytes();
    vec![
        ("two million lines", (0..2_000_000).flat_map(line).collect()),
        ("one line of thirty megabytes", vec![b'7'; 30 << 20]),
        ("no numbers", b"zz zz zz\n".repeat(100_000)),
        ("functions of all addresses", b"0 ffffffffffffffff everything\n".repeat(100_000)),
        ("names that steer a terminal", b"7000 10 \x1b]0;title\x07\xff\xfe\n".repeat(1000)),
        ("zeros", vec![0; 32 << 20]),
    ]
}

/// Lays beside a program what its links lead to.
///
/// # Errors
/// When it cannot be made.
pub fn lay_traps(folder: &Path) -> io::Result<()> {
    let fifo = std::ffi::CString::new(folder.join("fifo").as_os_str().as_encoded_bytes())
        .map_err(io::Error::other)?;
    // SAFETY: a valid string.
    if unsafe { libc::mkfifo(fifo.as_ptr(), 0o666) } != 0 {
        return Err(io::Error::last_os_error());
    }
    std::os::unix::fs::symlink("/dev/zero", folder.join("zero"))?;
    fs::metadata(folder).map(drop)
}
