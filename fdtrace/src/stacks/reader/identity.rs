//! What a file says it is.

use std::{fs::File, os::unix::fs::FileExt as _};

use object::{NativeEndian, elf, read::elf::NoteIterator};

use super::{bytes::Bytes, object::Object, request::Identity};

/// Bytes that are read at once.
const PORTION: usize = 1 << 20;
/// Longer ones are made up.
const LONGEST_BUILD_ID: usize = 64;

/// With `sum` the whole file is read.
pub(super) fn of(object: &Object, sum: Option<&File>) -> Identity {
    Identity {
        build_id: object.notes().find_map(|note| build_id(&note)),
        debug_link: debug_link(&object.contents(".gnu_debuglink")),
        has_debug_info: object.has_bytes(".debug_info"),
        sum: sum.and_then(sum_of),
    }
}

/// By reads: pages of a mapping would stay in memory.
fn sum_of(file: &File) -> Option<u32> {
    let (mut sum, mut at, mut portion) = (crc32fast::Hasher::new(), 0, vec![0; PORTION]);
    loop {
        let read = file.read_at(&mut portion, at).ok()?;
        if read == 0 {
            return Some(sum.finalize());
        }
        sum.update(&portion[..read]);
        at += read as u64;
    }
}

fn build_id(notes: &Bytes) -> Option<Vec<u8>> {
    let mut notes = NoteIterator::<elf::FileHeader64<NativeEndian>>::new(NativeEndian, 4, notes).ok()?;
    while let Some(note) = notes.next().ok()? {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(NativeEndian) == elf::NT_GNU_BUILD_ID {
            return Some(note.desc().to_vec()).filter(|id| id.len() <= LONGEST_BUILD_ID);
        }
    }
    None
}

/// A name, up to three bytes to the next multiple of four, and a checksum.
fn debug_link(data: &[u8]) -> Option<(Vec<u8>, u32)> {
    let end = data.iter().position(|byte| *byte == 0)?;
    let sum = data.get((end + 1).next_multiple_of(4)..)?.first_chunk()?;
    Some((data[..end].to_vec(), u32::from_ne_bytes(*sum))).filter(|(name, _)| name.len() <= 255)
}
