//! Parts of files that are true to their formats, and absurd.

use super::{
    PROGBITS,
    program::{Data, Section, code_address},
    section,
};

const CODE_BYTES: u64 = 0x1000;

fn cie(id: u32) -> Vec<u8> {
    // Version 1, no augmentation, code alignment 1, data alignment -8, return address in 16, and the usual first rules.
    let mut body = id.to_le_bytes().to_vec();
    body.extend([1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1, 0, 0]);
    [&u32::try_from(body.len()).expect("short").to_le_bytes()[..], &body].concat()
}

/// A description of 64 bits of length that covers the code, and what comes behind its head.
fn description(debug: bool, size: u64, instructions: &[u8]) -> Data {
    let mut bytes = cie(if debug { u32::MAX } else { 0 });
    let start = bytes.len() as u64;
    bytes.extend(u32::MAX.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    // Where its common part is: from the beginning of the section, or backwards from here.
    bytes.extend(if debug { 0u64 } else { start + 12 }.to_le_bytes());
    bytes.extend(code_address().to_le_bytes());
    bytes.extend(CODE_BYTES.to_le_bytes());
    bytes.extend_from_slice(instructions);
    let rest = size.saturating_sub(24 + instructions.len() as u64);
    Data::Sparse(bytes, rest)
}

/// A description that says that it is as long as that.
pub(super) fn long_description(size: u64) -> Data {
    description(false, size, &[])
}

/// The same with instructions that do nothing.
pub(super) fn long_program(size: u64) -> Data {
    description(true, size, &[])
}

/// Instructions that remember the state again and again.
pub(super) fn remembering(count: usize) -> Data {
    description(false, 24 + count as u64, &vec![0x0a; count])
}

/// Descriptions of a byte each; the last one covers the code.
pub(super) fn many_descriptions(count: u32) -> Data {
    let mut bytes = cie(0);
    for number in 0..count {
        let here = u32::try_from(bytes.len()).expect("less than four gigabytes");
        let (start, length) = if number + 1 == count {
            (code_address(), CODE_BYTES)
        } else {
            (0x10_0000_0000 + u64::from(number), 1)
        };
        bytes.extend(20u32.to_le_bytes());
        bytes.extend((here + 4).to_le_bytes());
        bytes.extend(start.to_le_bytes());
        bytes.extend(length.to_le_bytes());
    }
    Data::Bytes(bytes)
}

/// An index of descriptions that has one entry, which leads to the index itself.
pub(super) fn index(count: u32) -> Data {
    let mut bytes = vec![1, 0x1b, 3, 0x3b];
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    for _ in 0..2 {
        bytes.extend(0u32.to_le_bytes());
    }
    Data::Bytes(bytes)
}

/// A function.
pub(super) fn symbol(name: u32, address: u64, size: u64) -> Vec<u8> {
    let mut symbol = name.to_le_bytes().to_vec();
    symbol.extend([0x12, 0, 1, 0]);
    symbol.extend(address.to_le_bytes());
    symbol.extend(size.to_le_bytes());
    symbol
}

pub(super) fn functions(count: u64, start: u64) -> Vec<u8> {
    (0..count).flat_map(|number| symbol(1, start + number, 1)).collect()
}

/// A build-id of so many bytes.
pub(super) fn note(size: usize) -> Vec<u8> {
    note_of(u32::try_from(size).expect("small"), &vec![7; size])
}

pub(super) fn note_of(claimed: u32, description: &[u8]) -> Vec<u8> {
    let mut note = 4u32.to_le_bytes().to_vec();
    note.extend(claimed.to_le_bytes());
    note.extend(3u32.to_le_bytes());
    note.extend(b"GNU\0");
    note.extend_from_slice(description);
    note
}

pub(super) fn link(name: &[u8]) -> Vec<u8> {
    let mut link = name.to_vec();
    link.push(0);
    link.resize(link.len().next_multiple_of(4), 0);
    link.extend(77u32.to_le_bytes());
    link
}

/// Where the loader finds the dynamic section.
const LOADED: u64 = 0x7000_0000;

fn entry(tag: u64, value: u64) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[..8].copy_from_slice(&tag.to_le_bytes());
    entry[8..].copy_from_slice(&value.to_le_bytes());
    entry
}

/// So many libraries, all with the longest name.
pub(super) fn dynamic(count: usize) -> Vec<u8> {
    let head = [entry(5, LOADED + 32 + 16 * count as u64), entry(10, 4096)].concat();
    [head, entry(1, 0).repeat(count), vec![b'l'; 4095], vec![0]].concat()
}

pub(super) fn run_path(length: usize) -> Vec<u8> {
    let head = [entry(5, LOADED + 64), entry(10, length as u64), entry(29, 0), entry(1, 0)].concat();
    [head, b"/a:".repeat(length / 3)].concat()
}

/// Debug information of one unit, DWARF 4.
fn unit(body: &[u8]) -> Vec<u8> {
    let mut unit = u32::try_from(body.len() + 7).expect("small").to_le_bytes().to_vec();
    unit.extend(4u16.to_le_bytes());
    unit.extend(0u32.to_le_bytes());
    unit.push(8);
    unit.extend_from_slice(body);
    unit
}

/// 1: a unit, 2: a function, 3: an inlined one; each with a range.
fn abbreviations() -> Vec<u8> {
    let range = [0x11, 1, 0x12, 7, 0, 0];
    let of = |number: u8, tag: u8| [&[number, tag, 1][..], &range].concat();
    [of(1, 0x11), of(2, 0x2e), of(3, 0x1d), vec![0]].concat()
}

fn range(abbreviation: u8) -> Vec<u8> {
    let mut entry = vec![abbreviation];
    entry.extend(code_address().to_le_bytes());
    entry.extend(CODE_BYTES.to_le_bytes());
    entry
}

fn debug(info: Vec<u8>) -> Vec<Section> {
    vec![
        section(".debug_info", PROGBITS, Data::Bytes(info)),
        section(".debug_abbrev", PROGBITS, Data::Bytes(abbreviations())),
    ]
}

/// Functions in functions.
pub(super) fn deep(depth: usize) -> Vec<Section> {
    let body = [range(1), range(2), range(3).repeat(depth), vec![0; depth + 2]].concat();
    debug(unit(&body))
}

pub(super) fn units(count: usize) -> Vec<Section> {
    debug(unit(&[range(1), vec![0]].concat()).repeat(count))
}

pub(super) fn unit_of(body: &[u8]) -> Vec<Section> {
    debug(unit(body))
}

/// A program of lines that goes on and on.
pub(super) fn lines(size: usize) -> Vec<Section> {
    // A unit with its range and the place of its lines.
    let abbreviations = vec![1, 0x11, 0, 0x11, 1, 0x12, 7, 0x10, 0x17, 0, 0, 0];
    let body = [range(1), vec![0; 4]].concat();
    let mut header = vec![1, 1, 1, 0xfb, 14, 10];
    header.extend([0, 1, 1, 1, 1, 0, 0, 0, 1]);
    header.extend(b"\0a.c\0\0\0\0\0");
    let mut program = vec![0, 9, 2];
    program.extend(code_address().to_le_bytes());
    program.extend(vec![0x20; size]);
    let length = 2 + 4 + header.len() + program.len();
    let mut lines = u32::try_from(length).expect("less than four gigabytes").to_le_bytes().to_vec();
    lines.extend(4u16.to_le_bytes());
    lines.extend(u32::try_from(header.len()).expect("short").to_le_bytes());
    lines.extend(header);
    lines.extend(program);
    vec![
        section(".debug_info", PROGBITS, Data::Bytes(unit(&body))),
        section(".debug_abbrev", PROGBITS, Data::Bytes(abbreviations)),
        section(".debug_line", PROGBITS, Data::Bytes(lines)),
    ]
}
