//! What reading files costs in memory, and how to give it back: the libraries keep all that they ever read.

use std::{
    fs::{self, File},
    io::Read as _,
    ops::Range,
    os::unix::fs::MetadataExt as _,
};

/// Of smaller files nothing is given back.
const WORTHWHILE: u64 = 4 << 20;

/// Resident bytes of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resident {
    /// Its own.
    pub(super) anonymous: u64,
    /// Pages of mapped files.
    pub(super) of_files: u64,
}

impl Resident {
    /// Nothing where procfs does not say.
    pub(super) fn now() -> Self {
        let mut bytes = [0; 128];
        let read = File::open("/proc/self/statm").and_then(|mut file| file.read(&mut bytes));
        let text = std::str::from_utf8(&bytes[..read.unwrap_or(0)]).unwrap_or_default();
        let mut pages = text.split_ascii_whitespace().skip(1).map(|word| word.parse().unwrap_or(0u64));
        let (all, of_files) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        let page = page_size();
        Self { anonymous: all.saturating_sub(of_files) * page, of_files: of_files * page }
    }
}

/// Gives pages of a file that is mapped as a whole, for reading, back to the kernel, which has them still.
pub(super) fn forget_pages(file: &File) {
    advise(file, libc::MADV_DONTNEED);
}

/// Of such a file no more is to be mapped than the surroundings of what is read. Huge pages would map all of it for the
/// few bytes at which each unit of debug information begins.
pub(super) fn map_little(file: &File) {
    advise(file, libc::MADV_NOHUGEPAGE);
}

fn advise(file: &File, advice: libc::c_int) {
    let Some(metadata) = file.metadata().ok().filter(|metadata| metadata.len() >= WORTHWHILE) else { return };
    let whole = metadata.len().next_multiple_of(page_size());
    let Ok(maps) = fs::read("/proc/self/maps") else { return };
    let lines = maps.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let ranges = lines.filter_map(|line| mapping(line, metadata.ino()));
    ranges.filter(|range| range.end - range.start == whole).for_each(|range| advise_range(&range, advice));
}

/// The range of a shared mapping of an inode, from its first byte on: nobody can have pages of his own there.
fn mapping(line: &str, inode: u64) -> Option<Range<u64>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_it = fields.next()? == "r--s"
        && u64::from_str_radix(fields.next()?, 16).ok()? == 0
        && fields.nth(1)?.parse() == Ok(inode);
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    is_it.then_some(number(start)?..number(end)?)
}

fn advise_range(range: &Range<u64>, advice: libc::c_int) {
    let (Ok(start), Ok(length)) = (usize::try_from(range.start), usize::try_from(range.end - range.start))
    else {
        return;
    };
    // SAFETY: the mapping is shared, so its pages are those of the file: whoever reads them gets them again.
    unsafe { libc::madvise(start as *mut libc::c_void, length, advice) };
}

/// Gives freed memory back to the kernel, where the allocator can.
pub(super) fn trim() {
    // SAFETY: it takes a number, and may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

fn page_size() -> u64 {
    // SAFETY: it reads a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted() {
        let before = Resident::now();
        let block = vec![1u8; 64 << 20];
        assert!(Resident::now().anonymous >= before.anonymous + (32 << 20));
        assert!(std::hint::black_box(block)[5] == 1 && before.of_files > 0);
    }

    #[test]
    fn whole_files_for_reading() {
        let line = |rest: &str| mapping(&format!("7f00000000-7f00003000 {rest}"), 77);
        assert_eq!(
            line("r--s 00000000 fe:00 77                         /a b"),
            Some(0x7f_0000_0000..0x7f_0000_3000)
        );
        assert_eq!(line("r--s 00001000 fe:00 77   /a"), None);
        assert_eq!(line("rw-s 00000000 fe:00 77   /a"), None);
        assert_eq!(line("r--s 00000000 fe:00 78   /a"), None);
        assert_eq!(line("r--p 00000000 fe:00 77   /a"), None);
        assert_eq!(line("r--s 00000000 00:00 0"), None);
    }
}
