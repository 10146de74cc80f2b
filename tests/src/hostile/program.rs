//! The smallest program that opens files: its code is the same in all, what its file says of itself is not.

use std::{
    fs::{self, File},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Files that a program opens, one every ten milliseconds.
pub(super) const OPENED: u32 = 30;

const BASE: u64 = 0x40_0000;
/// Where the code begins in the file.
const CODE: u64 = 0x1000;
/// Where sections begin in the file.
const CONTENTS: u64 = 0x2000;
const HEADER: u64 = 64;
const SECTION: usize = 64;

/// A section of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) address: u64,
    pub(super) link: u32,
    pub(super) data: Data,
    /// What the header says, if that is something else.
    pub(super) claimed_size: Option<u64>,
    pub(super) claimed_offset: Option<u64>,
}

/// What a section has in the file.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Bytes(Vec<u8>),
    /// So many zeros, which take no room on a disk; these bytes are before them.
    Sparse(Vec<u8>, u64),
}

impl Default for Data {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

impl Data {
    fn bytes(&self) -> &[u8] {
        let (Self::Bytes(bytes) | Self::Sparse(bytes, _)) = self;
        bytes
    }

    fn size(&self) -> u64 {
        let more = if let Self::Sparse(_, more) = self { *more } else { 0 };
        self.bytes().len() as u64 + more
    }
}

/// A program, and what its file says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub(super) sections: Vec<Section>,
    /// A header says 0 sections, and the first section says how many there are.
    pub(super) extended_count: Option<u64>,
    /// Where the table of sections is said to be.
    pub(super) claimed_table: Option<u64>,
    pub(super) claimed_names: Option<u16>,
    /// More segments: kind, offset, address, size.
    pub(super) segments: Vec<(u32, u64, u64, u64)>,
    /// The length of the file, of which the rest is zeros.
    pub(super) length: Option<u64>,
    /// Files that it opens, if not the usual number.
    pub(super) opened: Option<u32>,
    /// The code copies itself to memory that is of no file, and runs there.
    pub(super) is_made_at_run_time: bool,
}

impl Program {
    /// Writes it where anybody may run it.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        let mut names = vec![0];
        let mut headers = vec![vec![0; SECTION]];
        let mut at = CONTENTS;
        for section in &self.sections {
            let name = names.len();
            names.extend_from_slice(section.name.as_bytes());
            names.push(0);
            file.seek(SeekFrom::Start(at))?;
            file.write_all(section.data.bytes())?;
            headers.push(section.header(name, at));
            at = (at + section.data.size()).next_multiple_of(16);
        }
        let table_of_names = Section { name: "", kind: 3, data: Data::Bytes(names), ..Section::default() };
        file.seek(SeekFrom::Start(at))?;
        file.write_all(table_of_names.data.bytes())?;
        headers.push(table_of_names.header(0, at));
        at = (at + table_of_names.data.size()).next_multiple_of(16);
        if let Some(count) = self.extended_count {
            headers[0][32..40].copy_from_slice(&count.to_le_bytes());
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&headers.concat())?;
        let end = at + (headers.len() * SECTION) as u64;
        file.set_len(self.length.unwrap_or(end).max(end))?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&self.file_header(at, headers.len()))?;
        file.seek(SeekFrom::Start(CODE))?;
        file.write_all(&code(self.is_made_at_run_time, self.opened.unwrap_or(OPENED)))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    }

    fn file_header(&self, table: u64, sections: usize) -> Vec<u8> {
        let count = if self.extended_count.is_some() { 0 } else { u16::try_from(sections).expect("few") };
        let names = self.claimed_names.unwrap_or(u16::try_from(sections - 1).expect("few"));
        let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        header.extend(2u16.to_le_bytes());
        header.extend(62u16.to_le_bytes());
        header.extend(1u32.to_le_bytes());
        for word in [BASE + CODE, HEADER, self.claimed_table.unwrap_or(table)] {
            header.extend(word.to_le_bytes());
        }
        header.extend(0u32.to_le_bytes());
        let segments = u16::try_from(self.segments.len() + 1).expect("few");
        for half in [64, 56, segments, 64, count, names] {
            header.extend(half.to_le_bytes());
        }
        // Readable and executable: all that is needed to run.
        header.extend(segment(1, 0, BASE, CONTENTS));
        for (kind, offset, address, size) in &self.segments {
            header.extend(segment(*kind, *offset, *address, *size));
        }
        header
    }
}

impl Section {
    fn header(&self, name: usize, offset: u64) -> Vec<u8> {
        let mut header = u32::try_from(name).expect("few").to_le_bytes().to_vec();
        header.extend(self.kind.to_le_bytes());
        let size = self.claimed_size.unwrap_or(self.data.size());
        for word in [self.flags, self.address, self.claimed_offset.unwrap_or(offset), size] {
            header.extend(word.to_le_bytes());
        }
        header.extend(self.link.to_le_bytes());
        header.extend(0u32.to_le_bytes());
        let entry = if matches!(self.kind, 2 | 11) { 24u64 } else { 0 };
        header.extend(1u64.to_le_bytes());
        header.extend(entry.to_le_bytes());
        header
    }
}

fn segment(kind: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    let mut segment = kind.to_le_bytes().to_vec();
    segment.extend(5u32.to_le_bytes());
    for word in [offset, address, address, size, size, 0x1000] {
        segment.extend(word.to_le_bytes());
    }
    segment
}

/// The address of the code.
pub(super) const fn code_address() -> u64 {
    BASE + CODE
}

/// `exit(0)`
const EXIT: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];

/// `mmap(0, 4096, all rights, private and of no file, -1, 0)`; `lea rsi, [rip + body]`, whose last four bytes are missing.
const MAP: [u8; 41] = [
    0xb8, 9, 0, 0, 0, 0x31, 0xff, 0xbe, 0, 0x10, 0, 0, 0xba, 7, 0, 0, 0, 0x41, 0xba, 0x22, 0, 0, 0, 0x49,
    0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0x45, 0x31, 0xc9, 0x0f, 0x05, 0x48, 0x89, 0xc7, 0x48, 0x8d, 0x35,
];
/// `mov ecx, 512; rep movsb; call rax`
const COPY_AND_CALL: [u8; 9] = [0xb9, 0, 2, 0, 0, 0xf3, 0xa4, 0xff, 0xd0];

/// Calls the body, where it lies or where it was copied to, and exits.
fn code(is_made_at_run_time: bool, opened: u32) -> Vec<u8> {
    let call = if is_made_at_run_time {
        let behind = u32::try_from(COPY_AND_CALL.len() + EXIT.len()).expect("short");
        [&MAP[..], &behind.to_le_bytes(), &COPY_AND_CALL].concat()
    } else {
        vec![0xe8, 9, 0, 0, 0]
    };
    [&call[..], &EXIT, &body(opened)].concat()
}

/// `opened times { open("/dev/null", 0); nanosleep(10 ms) } ret`
fn body(opened: u32) -> Vec<u8> {
    let mut code = vec![0x55, 0x48, 0x89, 0xe5, 0xbb]; // push rbp; mov rbp, rsp; mov ebx, opened
    code.extend(opened.to_le_bytes());
    let again = code.len();
    let data = again + 38;
    code.extend([0xb8, 2, 0, 0, 0, 0x48, 0x8d, 0x3d]); // mov eax, 2; lea rdi, [rip + path]
    code.extend(distance(code.len() + 4, data));
    code.extend([0x31, 0xf6, 0x0f, 0x05]); // xor esi, esi; syscall
    code.extend([0xb8, 35, 0, 0, 0, 0x48, 0x8d, 0x3d]); // mov eax, 35; lea rdi, [rip + time]
    code.extend(distance(code.len() + 4, data + 16));
    code.extend([0x31, 0xf6, 0x0f, 0x05]); // xor esi, esi; syscall
    code.extend([0xff, 0xcb, 0x75]); // dec ebx; jnz again
    let back = u8::try_from(code.len() + 1 - again).expect("a short loop");
    code.push(back.wrapping_neg());
    code.extend([0x5d, 0xc3]); // pop rbp; ret
    assert_eq!(code.len(), data, "where the loop says that the data are");
    code.extend(b"/dev/null\0\0\0\0\0\0\0");
    code.extend(0u64.to_le_bytes());
    code.extend(10_000_000u64.to_le_bytes());
    code
}

fn distance(from: usize, to: usize) -> [u8; 4] {
    u32::try_from(to - from).expect("forwards").to_le_bytes()
}
