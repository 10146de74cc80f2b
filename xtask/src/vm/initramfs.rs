//! The guest's root file system: a cpio archive in the `newc` format, which is the one that the kernel unpacks.
//!
//! The layout is in the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`. Written here because it
//! is forty lines, and because a `cpio` program would be one more thing to install.

use anyhow::{Context as _, Result};
use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const TRAILER: &str = "TRAILER!!!";

/// An archive in the making.
pub(super) struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    /// Inode numbers must differ: two entries with the same one and more than one link are taken for hard links.
    entries: u32,
}

impl Archive {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), directories: BTreeSet::new(), entries: 0 }
    }

    /// Adds a file that can be executed, with the directories that lead to it.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            self.directory(&path[..end])?;
        }
        self.entry(path, EXECUTABLE, content)
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(TRAILER, 0, &[])?;
        Ok(self.bytes)
    }

    fn directory(&mut self, path: &str) -> Result<()> {
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, &[])?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large for cpio"))?;
        let name_size = u32::try_from(name.len() + 1).context("a file name is too long for cpio")?;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        // inode, mode, uid, gid, links, mtime, size, device (4 numbers), length of the name, checksum
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    /// Header and content each begin at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an entry says, read back independently of the writer.
    #[derive(Debug, PartialEq)]
    struct Entry {
        name: String,
        mode: u32,
        inode: u32,
        content: Vec<u8>,
    }

    fn field(header: &[u8], index: usize) -> usize {
        let digits = std::str::from_utf8(&header[6 + index * 8..14 + index * 8]).expect("hexadecimal digits");
        usize::from_str_radix(digits, 16).expect("a number")
    }

    fn read(bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let header = &bytes[at..];
            assert_eq!(&header[..6], b"070701", "at byte {at}");
            let (size, name_size) = (field(header, 6), field(header, 11));
            let name = &header[110..110 + name_size];
            assert_eq!(name.last(), Some(&0));
            let content = (at + 110 + name_size).next_multiple_of(4);
            entries.push(Entry {
                name: String::from_utf8(name[..name_size - 1].to_vec()).expect("UTF-8"),
                mode: u32::try_from(field(header, 1)).expect("32 bits"),
                inode: u32::try_from(field(header, 0)).expect("32 bits"),
                content: bytes[content..content + size].to_vec(),
            });
            at = (content + size).next_multiple_of(4);
        }
        entries
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<Entry> {
        let mut archive = Archive::new();
        for (path, content) in files {
            archive.file(path, content).expect("small files");
        }
        read(&archive.finish().expect("small files"))
    }

    #[test]
    fn an_empty_archive_is_a_trailer() {
        let entries = archive(&[]);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].name, TRAILER);
    }

    #[test]
    fn directories_come_before_their_files_and_once() {
        let entries = archive(&[("/bin/a", b"A"), ("/bin/b", b"B"), ("/x/y/z", b"")]);
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["bin", "bin/a", "bin/b", "x", "x/y", "x/y/z", TRAILER]);
        assert_eq!(entries[0].mode, DIRECTORY);
        assert_eq!(entries[1].mode, EXECUTABLE);
    }

    #[test]
    fn contents_of_every_length_keep_the_alignment() {
        for length in 0..9 {
            let content = vec![b'x'; length];
            let entries = archive(&[("/file", &content), ("/longer-name", b"next")]);
            assert_eq!(entries[0].content, content);
            assert_eq!(entries[1].content, b"next");
        }
    }

    #[test]
    fn inode_numbers_differ() {
        let entries = archive(&[("/a", b""), ("/b", b"")]);
        assert_ne!(entries[0].inode, entries[1].inode);
    }
}
