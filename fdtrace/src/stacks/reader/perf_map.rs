//! `/tmp/perf-PID.map`: what a process says of the code that it makes at run time.
//!
//! A map grows while its process runs, so it is read once, and what has come since.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use crate::process::procfs::hexadecimal;

/// Of a map that is larger only so much is read, from its end: the latest lines count.
const LARGEST: u64 = 128 << 20;
/// The most functions that are kept: those of the latest lines.
const MAX: usize = 2 << 20;
/// Bytes that are read at once.
const PORTION: usize = 1 << 18;
/// The longest name.
const LONGEST: usize = 4096;
/// How many functions before an address are looked at: code that was made where other code was has another start.
const LOOK_BACK: usize = 64;

/// The functions of one map, and how far it was read.
#[derive(Default)]
pub(super) struct PerfMap {
    /// By address; of those with the same, the latest.
    functions: Vec<Function>,
    read: u64,
}

#[derive(Clone, Copy)]
struct Function {
    start: u64,
    length: u32,
    /// Where the name is in the file; later lines are further behind.
    name: u64,
}

impl PerfMap {
    /// Reads what has come since the last time. A map that has become shorter is another one.
    pub(super) fn update(&mut self, file: &File) -> io::Result<()> {
        let length = file.metadata()?.len();
        if length < self.read {
            *self = Self::default();
        }
        let known = self.functions.len();
        let mut portion = vec![0; PORTION];
        if length - self.read > LARGEST {
            self.read = length - LARGEST;
            // From the first whole line on.
            let filled = file.read_at(&mut portion, self.read)?;
            self.read += line_end(&portion[..filled]);
        }
        loop {
            let filled = file.read_at(&mut portion, self.read)?;
            let whole = self.take_lines(&portion[..filled]);
            if whole == 0 && filled < PORTION {
                // The last line is being written, perhaps.
                self.functions.extend(function(&portion[..filled], self.read));
                break;
            }
            // A line that fills a portion is none.
            self.read += if whole == 0 { filled } else { whole } as u64;
        }
        if self.functions.len() > known {
            self.sort();
        }
        Ok(())
    }

    /// Takes in whole lines, and says how many bytes they have.
    fn take_lines(&mut self, portion: &[u8]) -> usize {
        let mut taken = 0;
        for line in portion.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            self.functions.extend(function(line, self.read + taken as u64));
            taken += line.len();
        }
        if self.functions.len() >= 2 * MAX {
            self.sort();
        }
        taken
    }

    /// The function at an address: code is made where other code was, and the latest counts.
    pub(super) fn name(&self, file: &File, address: u64) -> Option<String> {
        let end = self.functions.partition_point(|function| function.start <= address);
        let before = self.functions[..end].iter().rev().take(LOOK_BACK);
        let covers = |function: &&Function| address - function.start < u64::from(function.length);
        let function = before.filter(covers).max_by_key(|function| function.name)?;
        let mut bytes = [0; LONGEST];
        let read = file.read_at(&mut bytes, function.name).ok()?;
        let name = bytes[..read].split(|byte| *byte == b'\n').next()?.trim_ascii_end();
        let mut name = String::from_utf8_lossy(name).into_owned();
        name.truncate(name.floor_char_boundary(LONGEST));
        Some(name)
    }

    fn sort(&mut self) {
        self.functions.sort_unstable_by_key(|function| (function.start, std::cmp::Reverse(function.name)));
        self.functions.dedup_by_key(|function| function.start);
        if self.functions.len() > MAX {
            let mut names: Vec<u64> = self.functions.iter().map(|function| function.name).collect();
            let first_kept = names.len() - MAX;
            let (_, oldest, _) = names.select_nth_unstable(first_kept);
            let oldest = *oldest;
            self.functions.retain(|function| function.name >= oldest);
        }
    }
}

/// How many bytes the first line has.
fn line_end(portion: &[u8]) -> u64 {
    portion.iter().position(|byte| *byte == b'\n').map_or(portion.len(), |end| end + 1) as u64
}

/// `START SIZE name`, numbers in hexadecimal; the name is the rest of the line. Where the line begins in the file tells
/// where the name is.
fn function(line: &[u8], begins: u64) -> Option<Function> {
    let (start, rest) = word(line)?;
    let (size, name) = word(rest)?;
    let (start, length) = (address(start)?, address(size)?);
    start.checked_add(length)?;
    let name_at = begins + (line.len() - name.len()) as u64;
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    (!name.trim_ascii().is_empty()).then_some(Function { start, length, name: name_at })
}

/// The first word, and what comes behind the blanks.
fn word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace)?;
    Some((&line[..end], line[end..].trim_ascii_start()))
}

fn address(digits: &[u8]) -> Option<u64> {
    hexadecimal(digits.strip_prefix(b"0x").unwrap_or(digits))
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::fd::FromRawFd as _};

    use super::*;

    /// A file without a name.
    fn file(bytes: &[u8]) -> File {
        // SAFETY: a valid name.
        let fd = unsafe { libc::memfd_create(c"map".as_ptr(), 0) };
        // SAFETY: it was made just now, and nobody else has it.
        let mut file = unsafe { File::from_raw_fd(fd) };
        file.write_all(bytes).expect("room");
        file
    }

    fn found(map: &[u8], addresses: &[u64]) -> Vec<String> {
        let (file, mut map) = (file(map), PerfMap::default());
        map.update(&file).expect("a file that can be read");
        addresses.iter().map(|address| map.name(&file, *address).unwrap_or_default()).collect()
    }

    #[test]
    fn the_latest_line_wins() {
        let map = b"1000 100 old one\n1080 10 new\n2000 0 empty\n0x3000 0x10 prefixed\n";
        assert_eq!(
            found(map, &[0xfff, 0x1000, 0x1085, 0x1090, 0x2000, 0x300f]),
            ["", "old one", "new", "old one", "", "prefixed"]
        );
        assert_eq!(found(b"1000 10 first\n1000 20 second\n", &[0x1005, 0x1015]), ["second", "second"]);
    }

    #[test]
    fn bad_lines_are_passed_over() {
        let mut map = b"\nnonsense\nzz 1 a\n1000\n1000 10\nffffffffffffffff ff wraps\n".to_vec();
        map.extend(b"1000 10 ");
        map.extend(vec![b'x'; 20_000]);
        map.extend(b"\n2000 10 \xff\xfe\x1b\r\n3000 10 last");
        let names = found(&map, &[0x1000, 0x2000, 0x3000]);
        assert!(names[0].len() <= LONGEST && names[0].starts_with("xx"));
        assert_eq!(names[1..], ["\u{fffd}\u{fffd}\u{1b}", "last"]);
        let mut long = vec![b'y'; 3 * PORTION];
        long.extend(b"\n1000 10 behind\n");
        assert_eq!(found(&long, &[0x1000]), ["behind"]);
    }

    #[test]
    fn what_comes_later_is_read_later() {
        let (mut file, mut map) = (file(b"1000 10 one\n2000 10 tw"), PerfMap::default());
        let mut names = |file: &File| {
            map.update(file).expect("a file that can be read");
            [0x1000, 0x2000, 0x3000].map(|address| map.name(file, address).unwrap_or_default())
        };
        assert_eq!(names(&file), ["one", "tw", ""]);
        file.write_all(b"o\n3000 10 three\n").expect("room");
        assert_eq!(names(&file), ["one", "two", "three"]);
        file.set_len(0).expect("shorter");
        assert_eq!(names(&file), ["", "", ""]);
    }

    #[test]
    fn of_too_many_functions_the_latest_stay() {
        let mut map = PerfMap::default();
        let all = 0..2 * MAX as u64;
        map.functions = all.map(|number| Function { start: number ^ 1, length: 1, name: number }).collect();
        map.sort();
        assert_eq!(map.functions.len(), MAX);
        assert!(map.functions.iter().all(|function| function.name >= MAX as u64));
    }
}
