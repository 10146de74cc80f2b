//! How many handles the kernel says there are.
//!
//! `/proc/sys/fs/file-nr` sums the kernel's per-CPU counter in some versions (6.18 and 7.x do) and reads its common part
//! alone in others (6.12 and older), which is off by up to a batch for each CPU (`proc_nr_files`, fs/file_table.c;
//! lib/percpu_counter.c). A self-test tells them apart; where the file is not exact, the counter is summed here.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use aya::util::nr_cpus;

use crate::process::procfs::{Text, fields, number};

use super::{
    holder_walk::{
        HolderWalk,
        records::{half, word},
    },
    kallsyms,
};

const FILE_NR: &str = "/proc/sys/fs/file-nr";

/// What the kernel says of the number of handles in the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileNr {
    /// Handles allocated. Up to at least 6.12 this is off by up to a batch (32 or more) for each CPU.
    pub allocated: u64,
    /// The most there may be (`fs.file-max`).
    pub limit: u64,
}

impl FileNr {
    /// Reads it now; `None` when the file is not there or not as expected.
    #[must_use]
    pub fn read() -> Option<Self> {
        parse(&Text::read(FILE_NR).ok()?)
    }
}

fn parse(text: &[u8]) -> Option<FileNr> {
    let mut numbers = fields(text).map(number::<u64>);
    let allocated = numbers.next()??;
    let _unused_since_2_6 = numbers.next()??;
    Some(FileNr { allocated, limit: numbers.next()?? })
}

/// How far the number can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// file-nr follows each handle.
    FileNr,
    /// file-nr does not, and the kernel's counter was summed in its stead.
    Summed,
    /// file-nr is off by at most so many.
    Within(u64),
}

/// Counts handles as exactly as this kernel allows. Keeps file-nr open, so that reading it makes no handle.
pub struct HandleCounter {
    file: File,
    parts: Vec<(u64, usize)>,
    /// How far its samples can be trusted.
    pub exactness: Exactness,
}

impl HandleCounter {
    /// Tests whether file-nr follows, and looks for the counter where it does not.
    ///
    /// # Errors
    /// When file-nr cannot be opened.
    pub fn new(programs: Option<&HolderWalk>) -> io::Result<Self> {
        let file = File::open(FILE_NR)?;
        let mut counter = Self { file, parts: Vec::new(), exactness: Exactness::FileNr };
        if !counter.follows() {
            let parts = programs.and_then(|programs| parts(programs).ok().flatten());
            counter.exactness = match parts {
                Some(parts) => {
                    counter.parts = parts;
                    Exactness::Summed
                }
                None => Exactness::Within(slack()),
            };
        }
        Ok(counter)
    }

    /// Whether a sample is a short read of a file, and no walk through memory.
    #[must_use]
    pub const fn is_cheap(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many handles there are now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sample(&self, programs: &HolderWalk) -> io::Result<u64> {
        if self.parts.is_empty() {
            return self.file_nr();
        }
        let part = |bytes: &Vec<u8>| match bytes.len() {
            8 => word(bytes, 0).cast_signed(),
            _ => i64::from(half(bytes, 0).cast_signed()),
        };
        let sum: i64 = programs.read(&self.parts)?.iter().flatten().map(part).sum();
        Ok(u64::try_from(sum).unwrap_or(0))
    }

    /// The same from the file alone.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file_nr(&self) -> io::Result<u64> {
        let mut text = [0; 64];
        let length = self.file.read_at(&mut text, 0)?;
        let found = parse(&text[..length]);
        found.map(|found| found.allocated).ok_or_else(|| io::Error::other("file-nr is not as expected"))
    }

    /// Whether file-nr counts a dozen handles as a dozen, give or take what others do meanwhile; two times of three.
    fn follows(&self) -> bool {
        const HANDLES: u64 = 12;
        const OTHERS: u64 = 6;
        let test = || {
            let before = self.file_nr().ok()?;
            let held: Vec<File> =
                (0..HANDLES).map(|_| File::open(Path::new("/dev/null"))).collect::<io::Result<_>>().ok()?;
            let after = self.file_nr().ok()?;
            drop(held);
            Some((after.wrapping_sub(before)).abs_diff(HANDLES) <= OTHERS)
        };
        (0..3).filter(|_| test() == Some(true)).count() >= 2
    }
}

/// A batch of the counter for each CPU (`compute_batch_value`, lib/percpu_counter.c).
fn slack() -> u64 {
    let cpus = nr_cpus().unwrap_or(1) as u64;
    (cpus * 2).max(32) * cpus
}

/// Where the common part of the counter lies and those of all CPUs; `None` where kallsyms does not tell.
fn parts(programs: &HolderWalk) -> io::Result<Option<Vec<(u64, usize)>>> {
    let Some((count, counters)) = programs.chase.counter else { return Ok(None) };
    let [Some(counter), Some(offsets)] = kallsyms::data(["nr_files", "__per_cpu_offset"])? else {
        return Ok(None);
    };
    let cpus = nr_cpus().map_err(|(_, error)| error)?;
    let read = programs.read(&[(counter + counters, 8), (offsets, cpus * 8)])?;
    let [Some(base), Some(offsets)] = &read[..] else { return Ok(None) };
    let of_cpu = |cpu: usize| (word(base, 0).wrapping_add(word(offsets, cpu * 8)), 4);
    Ok(Some(std::iter::once((counter + count, 8)).chain((0..cpus).map(of_cpu)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        assert_eq!(parse(b"305\t0\t2466170\n"), Some(FileNr { allocated: 305, limit: 2_466_170 }));
        assert_eq!(parse(b"305"), None);
        assert_eq!(parse(b"a b c"), None);
    }
}
