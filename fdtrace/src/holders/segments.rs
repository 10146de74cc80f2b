//! Segments of SysV shared memory, and which mappings attach them.
//!
//! A segment owns a handle whether anybody attaches it or not, and every attach is one more (`newseg` and `do_shmat`,
//! ipc/shm.c). An attach names its segment: the file's `private_data` is a `struct shm_file_data`.

use std::{
    collections::{BTreeSet, HashMap},
    io,
};

use super::{
    Handle, HolderSnapshot, Memory,
    handle::mark,
    memory::{half, is_address, word},
};
use crate::{
    kernel::SegmentLayout,
    model::Kind,
    process::procfs::{self, fields, lines},
};

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `shmid`
    pub id: u32,
    /// The key that it was made with; 0 for a private one.
    pub key: u32,
    /// Who made it, a process id; 0 where that is not known.
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

/// The place of a handle that is not known.
const NONE: u32 = u32::MAX;
/// How the names of segments' files begin; the key follows (`newseg`, ipc/shm.c).
const NAME: &[u8] = b"SYSV";
/// `SHM_DEST` (include/linux/shm.h), in the permissions.
const SHM_DEST: u32 = 0o1000;

/// Reads lines of `/proc/sysvipc/shm` of one IPC namespace: segments without a handle yet. The first line says what is in
/// the columns.
pub(super) fn parse(namespace: u32, text: &[u8]) -> Vec<Segment> {
    lines(text).filter_map(|line| segment(namespace, line)).collect()
}

/// `key shmid perms size cpid lpid nattch uid ...`
fn segment(namespace: u32, line: &[u8]) -> Option<Segment> {
    let fields: Vec<&[u8]> = fields(line).collect();
    let number = |index: usize| procfs::number::<u64>(fields.get(index)?);
    let small = |index: usize| u32::try_from(number(index)?).ok();
    // The key is printed with a sign.
    let key = procfs::number::<i32>(fields.first()?)?.cast_unsigned();
    Some(Segment {
        id: small(1)?,
        key,
        creator: small(4).unwrap_or(0),
        last: small(5).unwrap_or(0),
        attaches: number(6)?,
        bytes: number(3)?,
        namespace,
        is_removed: u32::from_str_radix(std::str::from_utf8(fields.get(2)?).ok()?, 8).ok()? & SHM_DEST != 0,
        handle: NONE,
    })
}

/// Tells attaches from other mappings, finds the segments' own handles, and gives those that nobody attaches one of
/// which only the number is known.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub(super) fn find(
    snapshot: &mut HolderSnapshot,
    memory: &mut impl Memory,
    layout: Option<SegmentLayout>,
) -> io::Result<()> {
    let Some(layout) = layout else {
        without_memory(snapshot);
        return Ok(());
    };
    let attaches = attaches(snapshot, memory, layout)?;
    snapshot.learn(memory, attaches.iter().map(|attach| attach.own))?;
    confirm(snapshot, &attaches);
    bare(snapshot);
    Ok(())
}

/// The same where no memory can be read: the name has to do.
pub(super) fn without_memory(snapshot: &mut HolderSnapshot) {
    candidates(snapshot).into_iter().for_each(|place| mark_attach(snapshot, place));
    bare(snapshot);
}

/// What may be an attach: a file on a file system of the kernel's own, named like a segment, with private data.
fn candidates(snapshot: &HolderSnapshot) -> Vec<u32> {
    (0..)
        .zip(&snapshot.handles)
        .filter(|(_, handle)| handle.marks & mark::INTERNAL != 0 && is_address(handle.private))
        .filter(|(_, handle)| handle.family == 0 && handle.raw_name(&snapshot.names).starts_with(NAME))
        .map(|(place, _)| place)
        .collect()
}

/// What an attach says of its segment.
struct Attach {
    /// The place of its handle.
    place: u32,
    /// The address of the segment's own file.
    own: u64,
    id: u32,
    /// The number of the IPC namespace.
    namespace: u32,
}

fn attaches(
    snapshot: &HolderSnapshot,
    memory: &mut impl Memory,
    layout: SegmentLayout,
) -> io::Result<Vec<Attach>> {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(0);
    let length = at(layout.file.max(layout.id).max(layout.namespace)) + 8;
    let candidates = candidates(snapshot);
    let wanted: Vec<(u64, usize)> =
        candidates.iter().map(|place| (snapshot.handles[*place as usize].private, length)).collect();
    let data = memory.read(&wanted)?;
    let namespaces = data.iter().flatten().map(|bytes| word(bytes, at(layout.namespace)));
    let numbers = numbers(memory, namespaces.collect(), layout.number)?;
    let attach = |(place, bytes): (u32, Option<Vec<u8>>)| {
        let bytes = bytes?;
        let namespace = numbers.get(&word(&bytes, at(layout.namespace))).copied().unwrap_or(0);
        Some(Attach { place, own: word(&bytes, at(layout.file)), id: half(&bytes, at(layout.id)), namespace })
    };
    Ok(candidates.into_iter().zip(data).filter_map(attach).collect())
}

/// The number of each namespace at an address.
fn numbers(
    memory: &mut impl Memory,
    namespaces: BTreeSet<u64>,
    offset: u64,
) -> io::Result<HashMap<u64, u32>> {
    let wanted: Vec<(u64, usize)> =
        namespaces.iter().map(|address| (address.wrapping_add(offset), size_of::<u32>())).collect();
    let found = memory.read(&wanted)?;
    let number = |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or(0, |bytes| half(bytes, 0));
    Ok(namespaces.into_iter().zip(found.iter().map(number)).collect())
}

/// Confirms attaches by the segment's own file, which has the same inode, and finds out whose file that is. An id says so
/// within its namespace only: the first one is 0 in each. A key does not: a segment that is removed has none any more.
fn confirm(snapshot: &mut HolderSnapshot, attaches: &[Attach]) {
    let listed = snapshot.segments.len();
    let mut known: HashMap<(u32, u32), usize> = (0..)
        .zip(&snapshot.segments)
        .map(|(index, segment)| ((segment.namespace, segment.id), index))
        .collect();
    for attach in attaches {
        let Some(own) = snapshot.place(attach.own) else { continue };
        if snapshot.handles[own as usize].inode != snapshot.handles[attach.place as usize].inode {
            continue;
        }
        mark_attach(snapshot, attach.place);
        let next = snapshot.segments.len();
        let index = *known.entry((attach.namespace, attach.id)).or_insert(next);
        if index == next {
            snapshot.segments.push(Segment::unlisted(snapshot, attach));
        }
        let segment = &mut snapshot.segments[index];
        segment.handle = own;
        segment.attaches += u64::from(index >= listed);
    }
}

fn mark_attach(snapshot: &mut HolderSnapshot, place: u32) {
    let handle = &mut snapshot.handles[place as usize];
    handle.marks |= mark::ATTACH;
    handle.kind = Kind::Shm;
}

impl Segment {
    /// One of a namespace that could not be entered, or that has no process any more.
    fn unlisted(snapshot: &HolderSnapshot, attach: &Attach) -> Self {
        let handle = &snapshot.handles[attach.place as usize];
        Self {
            id: attach.id,
            key: key(handle.raw_name(&snapshot.names)),
            creator: 0,
            last: 0,
            attaches: 0,
            bytes: handle.size,
            namespace: attach.namespace,
            is_removed: false,
            handle: NONE,
        }
    }
}

/// The key that a segment's file is named by.
fn key(name: &[u8]) -> u32 {
    name.strip_prefix(NAME)
        .and_then(|hex| u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
        .unwrap_or(0)
}

/// Gives a handle to each segment that has none.
fn bare(snapshot: &mut HolderSnapshot) {
    for segment in snapshot.segments.iter_mut().filter(|segment| segment.handle == NONE) {
        segment.handle = u32::try_from(snapshot.handles.len()).unwrap_or(NONE);
        snapshot.handles.push(Handle::of_segment(segment, &mut snapshot.names));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holders::fixture::{KERNEL, Pages, Records, file, segment_file};

    const LAYOUT: SegmentLayout = SegmentLayout { id: 0, namespace: 8, file: 16, number: 0x88 };
    const DATA: u64 = KERNEL + 0x10_0000;
    const NAMESPACE: u64 = KERNEL + 0x20_0000;
    const FIRST: u32 = 4_026_531_839;

    /// Attaches and segments, and what the kernel's memory says of them.
    #[derive(Default)]
    struct Scene {
        records: Records,
        memory: Pages,
        attaches: u64,
        text: Vec<(u32, String)>,
    }

    impl Scene {
        /// An attach of segment `id` of a namespace, whose own file is `own`; a handle.
        fn attach(&mut self, own: u64, id: u32, key: u32, namespace: u32) -> u64 {
            self.attaches += 1;
            let (handle, data) = (KERNEL + self.attaches * 256, DATA + self.attaches * 64);
            let own_file = segment_file(own, id, key, 0);
            let inode = own_file.inode + u64::from(namespace - FIRST) * 0x1_0000;
            self.memory.file(fdtrace_common::holder_walk::File { inode, ..own_file });
            let ns = NAMESPACE + u64::from(namespace - FIRST) * 0x1000;
            self.memory.word(data, id.into()).word(data + 8, ns).word(data + 16, own);
            self.memory.word(ns + 0x88, namespace.into());
            let attach = segment_file(handle, id, key, data);
            self.records.file(&fdtrace_common::holder_walk::File { inode, ..attach });
            handle
        }

        /// A line of `/proc/sysvipc/shm`.
        fn listed(&mut self, namespace: u32, id: u32, key: i32, permissions: &str, attaches: u32) {
            let line = format!("{key:>10} {id:>10} {permissions:>5} 4096 41 42 {attaches} 0 0 0 0 1 2 3 0 0");
            self.text.push((namespace, line));
        }

        fn snapshot(mut self, layout: Option<SegmentLayout>) -> HolderSnapshot {
            let mut snapshot = self.records.snapshot();
            for (namespace, line) in &self.text {
                snapshot.segments.extend(parse(*namespace, line.as_bytes()));
            }
            find(&mut snapshot, &mut self.memory, layout).expect("memory");
            snapshot
        }
    }

    fn own(snapshot: &HolderSnapshot) -> Vec<(u32, u64)> {
        let of = |segment: &Segment| (segment.id, snapshot.handles[segment.handle as usize].address);
        snapshot.segments.iter().map(of).collect()
    }

    #[test]
    fn attaches_name_their_segment() {
        let mut scene = Scene::default();
        let attaches = [(); 3].map(|()| scene.attach(KERNEL + 0x8000, 5, 0x1234, FIRST));
        scene.listed(FIRST, 5, 0x1234, "600", 3);
        scene.listed(FIRST, 6, -1, "600", 0);
        let snapshot = scene.snapshot(Some(LAYOUT));
        let marked = |handle: &u64| snapshot.handles[snapshot.place(*handle).unwrap() as usize].is_attach();
        assert!(attaches.iter().all(marked));
        assert_eq!(own(&snapshot), [(5, KERNEL + 0x8000), (6, 0)]);
        assert_eq!(snapshot.handles.len(), 5);
        assert_eq!(snapshot.name(snapshot.segments[1].handle), "SysV segment 6 (key 0xffffffff)");
    }

    #[test]
    fn ids_of_different_namespaces_are_different_segments() {
        let mut scene = Scene::default();
        for (namespace, own) in [(FIRST, KERNEL + 0x8000), (FIRST + 1, KERNEL + 0x9000)] {
            scene.attach(own, 0, 0, namespace);
            scene.listed(namespace, 0, 0, "600", 1);
        }
        let snapshot = scene.snapshot(Some(LAYOUT));
        assert_eq!(own(&snapshot), [(0, KERNEL + 0x8000), (0, KERNEL + 0x9000)]);
        assert_eq!(snapshot.handles.len(), 4);
    }

    #[test]
    fn a_segment_that_is_removed_has_lost_its_key() {
        let mut scene = Scene::default();
        scene.attach(KERNEL + 0x8000, 5, 0x1234, FIRST);
        scene.listed(FIRST, 5, 0, "1600", 1);
        let snapshot = scene.snapshot(Some(LAYOUT));
        assert_eq!(own(&snapshot), [(5, KERNEL + 0x8000)]);
        assert!(snapshot.segments[0].is_removed);
        assert_eq!(snapshot.handles.len(), 2);
    }

    #[test]
    fn a_segment_of_a_namespace_that_was_not_listed_is_there() {
        let mut scene = Scene::default();
        (0..2).for_each(|_| _ = scene.attach(KERNEL + 0x8000, 5, 0x1234, FIRST + 9));
        let snapshot = scene.snapshot(Some(LAYOUT));
        assert_eq!(own(&snapshot), [(5, KERNEL + 0x8000)]);
        let segment = &snapshot.segments[0];
        assert_eq!((segment.key, segment.attaches, segment.namespace), (0x1234, 2, FIRST + 9));
    }

    #[test]
    fn a_users_file_of_that_name_is_a_file() {
        let mut scene = Scene::default();
        scene.listed(FIRST, 5, 0, "600", 1);
        let named = segment_file(KERNEL, 5, 0, DATA);
        scene.records.file(&fdtrace_common::holder_walk::File { mount_flags: 0, ..named });
        // One whose private data leads to the file of another.
        scene.records.file(&segment_file(KERNEL + 256, 6, 0, DATA + 0x100));
        scene.memory.word(DATA + 0x110, KERNEL + 0x300);
        scene.memory.file(file(KERNEL + 0x300, b"other"));
        let snapshot = scene.snapshot(Some(LAYOUT));
        assert!(!snapshot.handles.iter().any(Handle::is_attach));
        assert_eq!(snapshot.handles[0].kind, Kind::Regular);
        assert_eq!(snapshot.name(0), "SYSV00000000");
    }

    #[test]
    fn private_data_that_cannot_be_read_is_no_attach() {
        let mut scene = Scene::default();
        for private in [DATA + 0x9_0000, 0, 8, !0xfff] {
            let handle = KERNEL + 0x4000 + scene.records.0.len() as u64 / 8 * 8;
            scene.records.file(&segment_file(handle, 5, 0, private));
        }
        assert!(!scene.snapshot(Some(LAYOUT)).handles.iter().any(Handle::is_attach));
    }

    #[test]
    fn without_a_layout_the_name_has_to_do() {
        let mut scene = Scene::default();
        scene.attach(KERNEL + 0x8000, 5, 0x1234, FIRST);
        scene.listed(FIRST, 5, 0x1234, "600", 1);
        let snapshot = scene.snapshot(None);
        assert!(snapshot.handles[0].is_attach());
        assert_eq!(own(&snapshot), [(5, 0)]);
    }

    #[test]
    fn lines() {
        let header = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid";
        let line = "-559038737         65  1600           18446744073709547520 12 34 56 0 0 0 0 0 0 0";
        let found = parse(3, format!("{header}\n{line}\n").as_bytes());
        let expected = Segment {
            id: 65,
            key: 0xdead_beef,
            creator: 12,
            last: 34,
            attaches: 56,
            bytes: 18_446_744_073_709_547_520,
            namespace: 3,
            is_removed: true,
            handle: NONE,
        };
        assert_eq!(found, [expected]);
        for end in 0..34 {
            assert_eq!(parse(3, &line.as_bytes()[..end]), [], "{end}");
        }
        assert_eq!(parse(3, b"\n\n \xff\n9 9 9 9 9\nx x x x x x x x"), []);
    }

    #[test]
    fn keys() {
        let names: [&[u8]; 5] = [b"SYSV0000002a", b"SYSVffffffff", b"SYSV", b"SYSV\xff", b"other"];
        assert_eq!(names.map(key), [42, u32::MAX, 0, 0, 0]);
    }
}
