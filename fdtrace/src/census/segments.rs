//! Segments of SysV shared memory, and which mappings attach them.
//!
//! A segment owns a handle whether anybody attaches it or not, and every attach is one more (`newseg` and `do_shmat`,
//! ipc/shm.c). An attach names its segment: the file's `private_data` is a `struct shm_file_data`.

use std::{collections::HashMap, io};

use super::{
    Census, Handle, Memory,
    handle::mark,
    memory::{half, is_address, word},
};
use crate::kinds::Kind;

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `shmid`
    pub id: u32,
    /// The key that it was made with; 0 for a private one.
    pub key: u32,
    /// Who made it, a process id.
    pub creator: u32,
    /// Who attached or detached it last.
    pub last: u32,
    /// How often it is attached.
    pub attaches: u64,
    /// Its size.
    pub bytes: u64,
    /// The IPC namespace's number.
    pub namespace: u32,
    /// Marked to go with its last attach.
    pub is_removed: bool,
    /// The place of its own handle.
    pub handle: u32,
}

/// `SHM_DEST` (include/linux/shm.h), in the permissions.
const SHM_DEST: u32 = 0o1000;

/// Reads `/proc/sysvipc/shm` of one IPC namespace: segments without a handle yet.
pub(super) fn parse(namespace: u32, text: &str) -> Vec<Segment> {
    text.lines().skip(1).filter_map(|line| segment(namespace, line)).collect()
}

/// `key shmid perms size cpid lpid nattch uid ...`
fn segment(namespace: u32, line: &str) -> Option<Segment> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let small = |index: usize| u32::try_from(number(index)?).ok();
    // The key is printed with a sign.
    let key = fields.first()?.parse::<i32>().ok()?.cast_unsigned();
    Some(Segment {
        id: small(1)?,
        key,
        creator: small(4).unwrap_or(0),
        last: small(5).unwrap_or(0),
        attaches: number(6)?,
        bytes: number(3)?,
        namespace,
        is_removed: u32::from_str_radix(fields.get(2)?, 8).ok()? & SHM_DEST != 0,
        handle: u32::MAX,
    })
}

/// Tells attaches from other mappings, finds the segments' own handles, and gives those that nobody attaches one of
/// which only the number is known.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(
    census: &mut Census,
    memory: &mut impl Memory,
    layout: Option<(u64, u64)>,
) -> io::Result<()> {
    let candidates = candidates(census);
    let own = match layout {
        Some(layout) => attaches(census, memory, &candidates, layout)?,
        None => {
            by_name(census, &candidates);
            HashMap::new()
        }
    };
    let mut segments = std::mem::take(&mut census.segments);
    for segment in &mut segments {
        segment.handle = match own.get(&(segment.id, segment.key)) {
            Some(handle) => *handle,
            None => bare(census, segment),
        };
    }
    census.segments = segments;
    Ok(())
}

/// What may be an attach: a file on a file system of the kernel's own, named like a segment, with private data.
fn candidates(census: &Census) -> Vec<u32> {
    (0..)
        .zip(&census.handles)
        .filter(|(_, handle)| handle.marks & mark::INTERNAL != 0 && is_address(handle.private))
        .filter(|(_, handle)| handle.family == 0 && handle.raw_name(&census.names).starts_with(b"SYSV"))
        .map(|(place, _)| place)
        .collect()
}

/// Confirms attaches by the segment's own file, which has the same inode; says which file is whose, by id and key.
fn attaches(
    census: &mut Census,
    memory: &mut impl Memory,
    candidates: &[u32],
    (file, id): (u64, u64),
) -> io::Result<HashMap<(u32, u32), u32>> {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(0);
    let length = at(file.max(id)) + 8;
    let wanted: Vec<(u64, usize)> =
        candidates.iter().map(|place| (census.handles[*place as usize].private, length)).collect();
    let data = memory.read(&wanted)?;
    let named: Vec<(u32, u64, u32)> = candidates
        .iter()
        .zip(&data)
        .filter_map(|(place, bytes)| {
            let bytes = bytes.as_deref()?;
            Some((*place, word(bytes, at(file)), half(bytes, at(id))))
        })
        .filter(|(_, own, _)| is_address(*own))
        .collect();
    let mut unknown: Vec<u64> = named.iter().map(|(_, own, _)| *own).collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown.retain(|own| census.place(*own).is_none());
    for found in memory.describe(&unknown)? {
        census.add(&found);
    }
    let mut files = HashMap::new();
    for (place, own, id) in named {
        let Some(own) = census.place(own) else { continue };
        if census.handles[own as usize].inode == census.handles[place as usize].inode {
            let key = key(census, own);
            mark_attach(census, place);
            files.insert((id, key), own);
        }
    }
    Ok(files)
}

fn mark_attach(census: &mut Census, place: u32) {
    let handle = &mut census.handles[place as usize];
    handle.marks |= mark::ATTACH;
    handle.kind = Kind::Shm;
}

/// The key that a segment's file is named by.
fn key(census: &Census, place: u32) -> u32 {
    let name = census.handles[place as usize].raw_name(&census.names);
    name.strip_prefix(b"SYSV")
        .and_then(|hex| u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
        .unwrap_or(0)
}

/// Where the layout is not known, the name has to do.
fn by_name(census: &mut Census, candidates: &[u32]) {
    candidates.iter().for_each(|place| mark_attach(census, *place));
}

/// Gives each segment a handle where no memory can be read.
pub(super) fn without_memory(census: &mut Census) {
    let mut segments = std::mem::take(&mut census.segments);
    segments.iter_mut().for_each(|segment| segment.handle = bare(census, segment));
    census.segments = segments;
}

fn bare(census: &mut Census, segment: &Segment) -> u32 {
    let place = u32::try_from(census.handles.len()).unwrap_or(u32::MAX);
    let handle = Handle::of_segment(segment.id, segment.key, segment.bytes, &mut census.names);
    census.handles.push(handle);
    place
}
