//! Why a handle is alive: every reference to it, and how to find the handle that somebody means.

use std::collections::{BTreeSet, HashMap};

use super::{
    Paths, Peer, Sharer, groups::Example, holders::mapping_holder, paths::Namer, peers, processes::Processes,
};
use crate::{
    holders::{HolderSnapshot, Link, Owner},
    model::{Holder, Kind},
};

/// What somebody calls a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The kernel's address of it.
    Address(u64),
    /// A descriptor of a process.
    Descriptor {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
    },
    /// The number of its inode.
    Inode(u64),
    /// Its path, or the name that a unix socket is bound to.
    Path(String),
}

impl Wanted {
    /// From a word: `0xffff888012345678`, `4711:3`, `131`, `pipe:[131]`, `/var/log/x`.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        let digits = word.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        if let Some(address) = digits {
            return Self::Address(address);
        }
        if let Some((pid, fd)) = word.split_once(':')
            && let (Ok(pid), Ok(fd)) = (pid.parse(), fd.parse())
        {
            return Self::Descriptor { pid, fd };
        }
        // As the links in /proc/PID/fd have it.
        let inside = ["pipe:[", "socket:["].into_iter().find_map(|start| word.strip_prefix(start));
        let number = inside.and_then(|inside| inside.strip_suffix(']')).unwrap_or(word);
        number.parse().map_or_else(|_| Self::Path(word.to_owned()), Self::Inode)
    }
}

/// How something holds a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A descriptor, and whether exec closes it.
    Descriptor {
        /// Its number.
        fd: u32,
        /// Whether exec closes it; `None` where that is unknown.
        close_on_exec: Option<bool>,
    },
    /// A mapping.
    Mapping {
        /// First address.
        start: u64,
        /// First address behind it.
        end: u64,
    },
    /// It is the file of this SysV segment.
    Segment(u32),
    /// It waits in the queue of the socket with this address.
    Queue(u64),
    /// It is registered with the ring at this address.
    Ring(u64),
    /// The BPF map or link whose handle has this address keeps it.
    Bpf(u64),
    /// A task has registered it, in place of a descriptor.
    RingOfTask,
    /// It is a program that runs.
    Program,
}

/// A reference to a handle: the kernel counts each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What keeps it.
    pub holder: Holder,
    /// How.
    pub by: By,
    /// The processes that have it: several share a table, or a memory.
    pub processes: Vec<Sharer>,
}

/// A handle and what keeps it alive.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its place in the walk.
    pub place: u32,
    /// What it is called.
    pub name: String,
    /// References, in the order of holders.
    pub references: Vec<Reference>,
    /// Who is at its other ends.
    pub peers: Vec<Peer>,
    /// The process that allocated it, as far as credentials tell.
    pub opened_by: Option<Sharer>,
}

/// The handles that somebody means.
pub fn wanted(snapshot: &HolderSnapshot, wanted: &Wanted, paths: &mut dyn Paths) -> Vec<u32> {
    match wanted {
        Wanted::Address(address) => snapshot.place(*address).into_iter().collect(),
        Wanted::Descriptor { pid, fd } => descriptor(snapshot, *pid, *fd).into_iter().collect(),
        Wanted::Inode(ino) => places(snapshot, |_, handle| handle.ino == *ino),
        Wanted::Path(path) => by_path(snapshot, path, paths),
    }
}

/// The handles of a file, by its device as the kernel numbers it and its inode.
#[must_use]
pub fn of_file(snapshot: &HolderSnapshot, dev: u32, ino: u64) -> Vec<u32> {
    places(snapshot, |_, handle| handle.dev == dev && handle.ino == ino && handle.has_own_inode())
}

fn places(snapshot: &HolderSnapshot, is_wanted: impl Fn(u32, &crate::holders::Handle) -> bool) -> Vec<u32> {
    let wanted = (0..).zip(&snapshot.handles).filter(|(place, handle)| is_wanted(*place, handle));
    wanted.map(|(place, _)| place).collect()
}

fn descriptor(snapshot: &HolderSnapshot, pid: u32, fd: u32) -> Option<u32> {
    let tables: BTreeSet<u64> =
        snapshot.tasks.iter().filter(|task| task.tgid == pid).map(|task| task.files).collect();
    let of_process = snapshot.tables.iter().filter(|table| tables.contains(&table.address));
    let mut entries = of_process.flat_map(|table| table.of(&snapshot.descriptors));
    entries.find(|entry| entry.fd == fd).map(|entry| entry.handle)
}

/// Those whose last name is right are asked for their paths.
fn by_path(snapshot: &HolderSnapshot, path: &str, paths: &mut dyn Paths) -> Vec<u32> {
    let last = path.rsplit('/').next().unwrap_or(path).as_bytes();
    let bound = path.strip_prefix('@').map(|name| [b"\0", name.as_bytes()].concat());
    let bound = bound.as_deref().unwrap_or(path.as_bytes());
    let may_be = places(snapshot, |_, handle| {
        let raw = handle.raw_name(&snapshot.names);
        if handle.kind == Kind::Socket { raw == bound } else { raw == last || is_cut(raw, last) }
    });
    let examples = examples(snapshot, &may_be);
    let mut namer = Namer::new(paths);
    let has_name = |place: &u32| {
        snapshot.handles[*place as usize].kind == Kind::Socket
            || namer.name(snapshot, *place, examples.get(place).copied()) == path
    };
    may_be.into_iter().filter(has_name).collect()
}

/// Whether a name may be the beginning of a longer one.
fn is_cut(raw: &[u8], name: &[u8]) -> bool {
    raw.len() + 1 >= fdtrace_common::holder_walk::NAME_LEN && name.starts_with(raw)
}

/// Where each handle is to be found.
fn examples(snapshot: &HolderSnapshot, places: &[u32]) -> HashMap<u32, Example> {
    let wanted: BTreeSet<u32> = places.iter().copied().collect();
    let mut examples = HashMap::new();
    for table in &snapshot.tables {
        for entry in table.of(&snapshot.descriptors).iter().filter(|entry| wanted.contains(&entry.handle)) {
            examples
                .entry(entry.handle)
                .or_insert(Example::Descriptor { thread: table.thread, fd: entry.fd });
        }
    }
    for space in &snapshot.spaces {
        for map in space.of(&snapshot.mappings).iter().filter(|map| wanted.contains(&map.handle)) {
            let (thread, start, end) = (space.thread, map.start, map.end);
            examples.entry(map.handle).or_insert(Example::Mapping { thread, start, end });
        }
    }
    examples
}

/// What keeps each of some handles alive.
pub fn kept(snapshot: &HolderSnapshot, places: &[u32], paths: &mut dyn Paths) -> Vec<Kept> {
    let processes = Processes::of(snapshot);
    let mut references = References::new(places);
    references.tables(snapshot, &processes);
    references.spaces(snapshot, &processes);
    references.others(snapshot, &processes);
    let peers = peers::of(snapshot, &processes, places);
    let examples = examples(snapshot, places);
    let mut namer = Namer::new(paths);
    let kept = |(place, peers): (&u32, Vec<Peer>)| Kept {
        place: *place,
        name: namer.name(snapshot, *place, examples.get(place).copied()),
        references: references.take(*place),
        peers,
        opened_by: processes.allocator(snapshot, *place),
    };
    places.iter().zip(peers).map(kept).collect()
}

/// References to the handles that are asked for.
struct References(HashMap<u32, Vec<Reference>>);

impl References {
    fn new(places: &[u32]) -> Self {
        Self(places.iter().map(|place| (*place, Vec::new())).collect())
    }

    fn take(&mut self, place: u32) -> Vec<Reference> {
        let mut references = self.0.remove(&place).unwrap_or_default();
        references.sort_by_key(|reference| reference.holder);
        references
    }

    fn add(&mut self, place: u32, holder: Holder, by: By, processes: impl FnOnce() -> Vec<Sharer>) {
        if let Some(references) = self.0.get_mut(&place) {
            references.push(Reference { holder, by, processes: processes() });
        }
    }

    fn tables(&mut self, snapshot: &HolderSnapshot, processes: &Processes) {
        for table in &snapshot.tables {
            for entry in table.of(&snapshot.descriptors) {
                let by = By::Descriptor { fd: entry.fd, close_on_exec: entry.close_on_exec };
                let sharers = || processes.with_table(table);
                self.add(entry.handle, Holder::Descriptor, by, sharers);
            }
        }
    }

    fn spaces(&mut self, snapshot: &HolderSnapshot, processes: &Processes) {
        for space in &snapshot.spaces {
            for map in space.of(&snapshot.mappings) {
                let by = By::Mapping { start: map.start, end: map.end };
                let holder = mapping_holder(snapshot, map.handle);
                self.add(map.handle, holder, by, || processes.with_space(space.address));
            }
        }
    }

    fn others(&mut self, snapshot: &HolderSnapshot, processes: &Processes) {
        for segment in &snapshot.segments {
            self.add(segment.handle, Holder::ShmSegment, By::Segment(segment.id), Vec::new);
        }
        let address = |place: u32| snapshot.handles[place as usize].address;
        for found in &snapshot.in_flight {
            let carriers = || processes.carriers_of(found.receiver);
            self.add(found.handle, Holder::ScmRights, By::Queue(address(found.receiver)), carriers);
        }
        for found in &snapshot.registered {
            let carriers = || processes.carriers_of(found.ring);
            self.add(found.handle, Holder::IoUring, By::Ring(address(found.ring)), carriers);
        }
        for found in snapshot.linked.iter().filter(|found| found.link == Link::Bpf) {
            let carriers = || processes.carriers_of(found.through);
            self.add(found.handle, Holder::Bpf, By::Bpf(address(found.through)), carriers);
        }
        for (task, ring) in &snapshot.ring_descriptors {
            let pid = snapshot.tasks.get(*task as usize).map_or(0, |task| task.tgid);
            self.add(*ring, Holder::IoUring, By::RingOfTask, || vec![processes.by_pid(pid, 1)]);
        }
        let mut spaces = BTreeSet::new();
        for task in snapshot.tasks.iter().filter(|task| task.mm != 0 && spaces.insert(task.mm)) {
            if let Some(place) = snapshot.place(task.executable) {
                self.add(place, Holder::Executable, By::Program, || processes.with_space(task.mm));
            }
        }
    }
}

impl Processes {
    fn sharers(&self, is_one: impl Fn(&super::processes::Member) -> bool) -> Vec<Sharer> {
        let ones = self.members.iter().enumerate().filter(|(_, member)| is_one(member));
        ones.map(|(index, _)| self.sharer(index, 1)).collect()
    }

    fn with_table(&self, table: &Owner) -> Vec<Sharer> {
        let found = self.sharers(|member| member.tables.contains(&table.address));
        if found.is_empty() { vec![self.by_pid(table.tgid, 1)] } else { found }
    }

    fn with_space(&self, space: u64) -> Vec<Sharer> {
        self.sharers(|member| member.spaces.contains(&space))
    }

    fn carriers_of(&self, carrier: u32) -> Vec<Sharer> {
        let carriers = self.carriers.get(&carrier).into_iter().flatten();
        carriers.map(|index| self.sharer(*index, 1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holders::fixture::{Scene, ring, unix_socket};

    struct Links;

    impl Paths for Links {
        fn of_descriptor(&mut self, pid: u32, _: u32) -> Option<std::path::PathBuf> {
            Some(format!("/data/{pid}/log").into())
        }

        fn of_mapping(&mut self, _: u32, _: u64, _: u64) -> Option<std::path::PathBuf> {
            Some("/lib/log".into())
        }
    }

    #[test]
    fn names_of_handles() {
        let inode = |ino| Wanted::Inode(ino);
        assert_eq!(Wanted::parse("0xffff888000000100"), Wanted::Address(0xffff_8880_0000_0100));
        assert_eq!(Wanted::parse("7:3"), Wanted::Descriptor { pid: 7, fd: 3 });
        assert_eq!(["131", "pipe:[131]", "socket:[131]"].map(Wanted::parse), [131, 131, 131].map(inode));
        for path in ["/a", "0xyz", "a:3", "7:", "@name", "pipe:[x]"] {
            assert_eq!(Wanted::parse(path), Wanted::Path(path.to_owned()));
        }
    }

    #[test]
    fn every_reference_in_order() {
        let mut scene = Scene::default();
        scene.process(1, "a").process(2, "b");
        let file = scene.regular("file");
        let socket = {
            let handle = scene.next();
            scene.file(unix_socket(handle, handle + 128))
        };
        let ring = {
            let handle = scene.next();
            scene.file(ring(handle, handle + 128))
        };
        scene.registers(file, ring).sends(file, socket).maps(1, &[file, file], 0).opens(2, &[file, socket]);
        scene.opens(1, &[ring]);
        let snapshot = scene.snapshot();
        let place = snapshot.place(file).expect("it is there");
        let kept = kept(&snapshot, &[place], &mut Links);
        let found: Vec<(Holder, Vec<u32>)> = kept[0]
            .references
            .iter()
            .map(|found| (found.holder, found.processes.iter().map(|process| process.pid).collect()))
            .collect();
        let expected = [
            (Holder::Descriptor, vec![2]),
            (Holder::Mapping, vec![1]),
            (Holder::Mapping, vec![1]),
            (Holder::ScmRights, vec![2]),
            (Holder::IoUring, vec![1]),
        ];
        assert_eq!(found, expected);
        assert_eq!(kept[0].references[3].by, By::Queue(socket));
    }

    #[test]
    fn handles_by_what_they_are_called() {
        let mut scene = Scene::default();
        scene.process(1, "a").process(2, "b");
        let [one, other, mapped] = ["log", "log", "log"].map(|name| scene.regular(name));
        let mut bound = unix_socket(scene.next(), 8);
        crate::holders::fixture::rename(&mut bound, b"/run/x");
        let bound = scene.file(bound);
        scene.opens(1, &[one, bound]).opens(2, &[other]).maps(2, &[mapped], 0);
        let snapshot = scene.snapshot();
        let find = |word: &str| -> Vec<u64> {
            let places = wanted(&snapshot, &Wanted::parse(word), &mut Links);
            places.into_iter().map(|place| snapshot.handles[place as usize].address).collect()
        };
        assert_eq!(find(&format!("0x{one:x}")), [one]);
        assert_eq!((find("2:3"), find("2:4"), find("9:3")), (vec![other], vec![], vec![]));
        assert_eq!(find(&(other & 0xffff).to_string()), [other]);
        assert_eq!(find("/run/x"), [bound]);
        assert_eq!(find("/nowhere/log"), Vec::<u64>::new());
        // Directories that are the same have one path.
        assert!(find("/data/1/log").contains(&one));
    }
}
