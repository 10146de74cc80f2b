//! The guest's root file system: a cpio archive in the `newc` format, which is the one that the kernel unpacks.

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, trailer};
use std::{collections::BTreeSet, io::Write as _};

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// An archive in the making.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    /// Inode numbers must differ: two entries with the same one and more than one link are taken for hard links.
    entries: u32,
}

impl Archive {
    /// Adds a file that can be executed, with the directories that lead to it.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            if self.directories.insert(path[..end].to_owned()) {
                self.entry(Builder::new(&path[..end]).mode(DIRECTORY).nlink(2), &[])?;
            }
        }
        self.entry(Builder::new(path).mode(EXECUTABLE).nlink(1), content)
    }

    /// The finished archive.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        Ok(trailer(self.bytes)?)
    }

    fn entry(&mut self, entry: Builder, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).context("too large for cpio")?;
        let mut writer = entry.ino(self.entries).write(&mut self.bytes, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;

    #[test]
    fn directories_come_before_their_files_and_once() -> Result<()> {
        let mut archive = Archive::default();
        for path in ["/bin/a", "/bin/b", "/x/y/z"] {
            archive.file(path, b"content")?;
        }
        let bytes = archive.finish()?;
        let (mut reader, mut found) = (Reader::new(bytes.as_slice())?, Vec::new());
        while !reader.entry().is_trailer() {
            found.push((reader.entry().name().to_owned(), reader.entry().mode(), reader.entry().ino()));
            reader = Reader::new(reader.finish()?)?;
        }
        let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["bin", "bin/a", "bin/b", "x", "x/y", "x/y/z"]);
        assert_eq!((found[0].1, found[1].1), (DIRECTORY, EXECUTABLE));
        assert_eq!(found.iter().map(|(.., inode)| inode).collect::<BTreeSet<_>>().len(), 6);
        Ok(())
    }
}
