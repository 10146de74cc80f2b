//! `/proc/PID/maps`.

use std::{ops::Range, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};

use super::procfs::{Text, hexadecimal, lines, number, split};

/// A mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its addresses.
    pub range: Range<u64>,
    /// It may be executed.
    pub executable: bool,
    /// Where in the file it begins.
    pub offset: u64,
    /// The file's device, as the kernel numbers it: 12 bits and 20 bits.
    pub device: u32,
    /// The file's inode; 0 for no file.
    pub inode: u64,
    /// The file's path as the process sees it, without what the kernel adds to that of a deleted file; or what the kernel
    /// calls it.
    pub path: Arc<Path>,
}

impl Mapping {
    /// Where in the file an address of the mapping lies.
    #[must_use]
    pub const fn offset_of(&self, address: u64) -> u64 {
        address - self.range.start + self.offset
    }

    /// The kernel's own code in a process.
    #[must_use]
    pub fn is_vdso(&self) -> bool {
        self.inode == 0 && self.path.as_os_str() == "[vdso]"
    }
}

/// Where the kernel's own code lies in a process; it is the same code in all processes of this architecture.
#[must_use]
pub fn vdso(pid: u32) -> Option<Range<u64>> {
    mappings(pid).into_iter().find(Mapping::is_vdso).map(|mapping| mapping.range)
}

/// The mappings of a process, sorted; empty when it is gone.
#[must_use]
pub fn mappings(pid: u32) -> Vec<Mapping> {
    parse(&Text::of(pid, "maps").unwrap_or_default())
}

pub(super) fn parse(maps: &[u8]) -> Vec<Mapping> {
    lines(maps).filter_map(line).collect()
}

/// `55d0-55e0 r-xp 00001000 08:01 131 /bin/x`; the path is behind blanks and may hold anything but a new line, which is
/// escaped.
fn line(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let (start, end) = split(fields.next()?, b'-')?;
    let range = hexadecimal(start)?..hexadecimal(end)?;
    let executable = fields.next()?.get(2) == Some(&b'x');
    let offset = hexadecimal(fields.next()?)?;
    let (major, minor) = split(fields.next()?, b':')?;
    let device = u32::try_from((hexadecimal(major)?.checked_mul(1 << 20)?) | hexadecimal(minor)?).ok()?;
    let inode = number(fields.next()?)?;
    let path = fields.next().unwrap_or_default().trim_ascii_start();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let path = Path::new(std::ffi::OsStr::from_bytes(path)).into();
    Some(Mapping { range, executable, offset, device, inode, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_six_fields_and_a_path_may_have_blanks() {
        let maps = b"55d0-55e0 r-xp 00001000 08:10 131        /bin/a b (deleted)\n\
            7000-8000 rw-p 00000000 00:00 0 \n7f00-7f01 r-xp 0 00:00 0   [vdso]\nbad\n";
        let found = parse(maps);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].range, 0x55d0..0x55e0);
        assert_eq!((found[0].offset, found[0].device, found[0].inode), (0x1000, 0x80_0010, 131));
        assert_eq!(&*found[0].path, Path::new("/bin/a b"));
        assert!(found[0].executable && !found[1].executable);
        assert!(found[2].is_vdso() && !found[0].is_vdso());
        let file = line(b"7000-8000 r-xp 0 00:00 7 [vdso]").expect("a mapping");
        assert!(!file.is_vdso(), "a file of that name");
    }
}
