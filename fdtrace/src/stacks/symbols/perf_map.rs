//! `/tmp/perf-PID.map`: what a process says of the code that it makes at run time.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::{BufRead as _, BufReader, Read, Seek as _, SeekFrom},
    ops::Range,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use super::module::open_no_link;
use crate::process::procfs::{Text, fields, hexadecimal, number};

/// Of a map that is larger only so much is read, from its end: the latest lines count.
const LARGEST: u64 = 128 << 20;

/// The longest line that is believed; the rest of it is passed over.
const LONGEST_LINE: u64 = 8 << 10;

/// The longest name.
const LONGEST: usize = 4096;

/// The functions at addresses, as far as the process names them.
pub(super) fn names(pid: u32, addresses: &[u64]) -> HashMap<u64, String> {
    let Some(map) = open(pid).and_then(|map| last_part(map, LARGEST)) else { return HashMap::new() };
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    read(map, &sorted)
}

/// Its folder is one that everybody can write to: only what the process itself wrote, or root, is believed.
fn open(pid: u32) -> Option<File> {
    let owner = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let map = open_no_link(&path(pid)?)?;
    let is_theirs = |map: &Metadata| map.is_file() && (map.uid() == owner || map.uid() == 0);
    map.metadata().is_ok_and(|map| is_theirs(&map)).then_some(map)
}

/// The process has named it by the id that it has in its own pid namespace.
fn path(pid: u32) -> Option<PathBuf> {
    let id: u32 = number(fields(Text::of(pid, "status").ok()?.line("NStgid:")?).next_back()?)?;
    Some(PathBuf::from(format!("/proc/{pid}/root/tmp/perf-{id}.map")))
}

/// From the first whole line of the last bytes.
fn last_part(mut map: File, length: u64) -> Option<BufReader<File>> {
    let left_out = map.metadata().ok()?.len().saturating_sub(length);
    map.seek(SeekFrom::Start(left_out.saturating_sub(1))).ok()?;
    let mut reader = BufReader::with_capacity(1 << 16, map);
    if left_out > 0 {
        reader.skip_until(b'\n').ok()?;
    }
    Some(reader)
}

/// Code is made where other code was: the latest line counts.
fn read(map: impl Read, sorted: &[u64]) -> HashMap<u64, String> {
    // It may grow while it is read.
    let mut reader = BufReader::new(map.take(2 * LARGEST));
    let mut names = HashMap::new();
    let mut line = Vec::new();
    while next_line(&mut reader, &mut line) {
        let Some((range, name)) = entry(&line) else { continue };
        let first = sorted.partition_point(|address| *address < range.start);
        for address in sorted[first..].iter().take_while(|address| range.contains(address)) {
            names.insert(*address, clipped(name));
        }
    }
    names
}

/// Whether there is another line.
fn next_line(reader: &mut BufReader<impl Read>, line: &mut Vec<u8>) -> bool {
    line.clear();
    let length = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', line).unwrap_or(0);
    if length > 0 && line.last() != Some(&b'\n') {
        let _ = reader.skip_until(b'\n');
    }
    length > 0
}

/// `START SIZE name`, numbers in hexadecimal; the name is the rest of the line.
fn entry(line: &[u8]) -> Option<(Range<u64>, &[u8])> {
    let line = line.trim_ascii();
    let (start, rest) = word(line)?;
    let (size, name) = word(rest)?;
    let start = address(start)?;
    let end = start.checked_add(address(size)?)?;
    (!name.is_empty()).then_some((start..end, name))
}

fn word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(u8::is_ascii_whitespace)?;
    Some((&line[..end], line[end..].trim_ascii_start()))
}

fn address(digits: &[u8]) -> Option<u64> {
    hexadecimal(digits.strip_prefix(b"0x").unwrap_or(digits))
}

fn clipped(name: &[u8]) -> String {
    let mut name = String::from_utf8_lossy(name).into_owned();
    name.truncate(name.floor_char_boundary(LONGEST));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(map: &[u8], addresses: &[u64]) -> Vec<String> {
        let mut names = read(map, addresses);
        addresses.iter().map(|address| names.remove(address).unwrap_or_default()).collect()
    }

    #[test]
    fn the_latest_line_wins() {
        let map = b"1000 100 old one\n1080 10 new\n2000 0 empty\n0x3000 0x10 prefixed\n";
        assert_eq!(
            found(map, &[0xfff, 0x1000, 0x1085, 0x1090, 0x2000, 0x300f]),
            ["", "old one", "new", "old one", "", "prefixed"]
        );
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
    }
}
