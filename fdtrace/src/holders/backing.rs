//! Files behind files: overlayfs opens the file below for each that is opened, and it is that one which is mapped
//! (`ovl_mmap`, fs/overlayfs/file.c). It belongs to the file above, whose private data names it.

use std::io;

use super::{
    HolderSnapshot, Memory,
    memory::{is_address, word},
};

/// What a file on overlayfs names: a file behind it, or from 6.13 on a `struct ovl_file` that begins with one of the layer
/// it was opened on, and the one that it was copied up to.
const NAMED: usize = 16;

/// Finds the files above those that file-nr does not count.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(snapshot: &mut HolderSnapshot, memory: &mut impl Memory) -> io::Result<()> {
    if snapshot.handles.iter().all(super::Handle::is_accounted) {
        return Ok(());
    }
    let above: Vec<(u32, u64)> = (0..)
        .zip(&snapshot.handles)
        .filter(|(_, handle)| handle.is_on_overlay() && is_address(handle.private))
        .map(|(place, handle)| (place, handle.private))
        .collect();
    let wanted: Vec<(u64, usize)> = above.iter().map(|(_, private)| (*private, NAMED)).collect();
    for ((place, private), bytes) in above.into_iter().zip(memory.read(&wanted)?) {
        let bytes = bytes.unwrap_or_default();
        for address in [private, word(&bytes, 0), word(&bytes, 8)] {
            snapshot.note_behind(address, place);
        }
    }
    Ok(())
}

impl HolderSnapshot {
    fn note_behind(&mut self, address: u64, above: u32) {
        if let Some(behind) = self.place(address)
            && !self.handles[behind as usize].is_accounted()
        {
            self.behind.push((behind, above));
        }
    }
}

#[cfg(test)]
mod tests {
    use fdtrace_common::holder_walk::File;

    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Records, backing_file, file, overlay_file};

    const DATA: u64 = KERNEL + 0x10_0000;

    /// The addresses of files behind others, and of those.
    fn found(files: &[File], memory: &mut Pages) -> Vec<(u64, u64)> {
        let mut records = Records::default();
        files.iter().for_each(|file| _ = records.file(file));
        let mut snapshot = records.snapshot();
        find(&mut snapshot, memory).expect("memory");
        let address = |place: u32| snapshot.handles[place as usize].address;
        snapshot.behind.iter().map(|(behind, above)| (address(*behind), address(*above))).collect()
    }

    #[test]
    fn the_file_behind_is_named_directly_or_by_a_structure() {
        let behind = [1, 2, 3].map(|number| KERNEL + number * 256);
        let above = [4, 5].map(|number| KERNEL + number * 256);
        let mut memory = Pages::default();
        memory.word(DATA, behind[1]).word(DATA + 8, behind[2]);
        let files = [
            backing_file(behind[0], b"a"),
            backing_file(behind[1], b"b"),
            backing_file(behind[2], b"b"),
            overlay_file(above[0], b"a", behind[0]),
            overlay_file(above[1], b"b", DATA),
        ];
        let expected = [(behind[0], above[0]), (behind[1], above[1]), (behind[2], above[1])];
        assert_eq!(found(&files, &mut memory), expected);
    }

    #[test]
    fn nothing_else_is_behind_a_file() {
        let (behind, other) = (KERNEL + 256, KERNEL + 512);
        let plain = File { private: behind, ..file(other, b"not on overlayfs") };
        assert_eq!(found(&[backing_file(behind, b"a"), plain], &mut Pages::default()), []);
        let counted = [file(behind, b"a"), overlay_file(other, b"a", behind)];
        assert_eq!(found(&counted, &mut Pages::default()), []);
        let nowhere = [backing_file(behind, b"a"), overlay_file(other, b"a", DATA)];
        assert_eq!(found(&nowhere, &mut Pages::default()), []);
    }
}
