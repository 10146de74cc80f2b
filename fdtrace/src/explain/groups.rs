//! Handles that are alike, gathered.

use std::{cmp::Reverse, collections::HashMap};

use super::{
    PerHolder,
    holders::Attribution,
    keys::{Key, Keys},
    ordinary,
    paths::Namer,
    peers::Peer,
    processes::Processes,
    references::Held,
};
use crate::{
    holders::HolderSnapshot,
    model::{Holder, Kind},
};

/// Where one handle of a group is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Example {
    Descriptor { thread: u32, fd: u32 },
    Mapping { thread: u32, start: u64, end: u64 },
}

/// Handles of one process that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are.
    pub kind: Kind,
    /// What they are called: a path, addresses, the name of an anonymous inode.
    pub name: String,
    /// References by which the process holds them; a handle may have several.
    pub holders: PerHolder,
    /// Handles.
    pub count: u64,
    /// Those to which no descriptor of any process points.
    pub hidden: u64,
    /// The files have no name any more.
    pub deleted: bool,
    /// What the files take on their disk or in memory.
    pub bytes: u64,
    /// Socket: the state of its connection, if it has one.
    pub state: Option<&'static str>,
    /// Socket: bytes (of a listener, connections) that wait to be read, and to be sent.
    pub queue: Option<(u64, u64)>,
    /// The lowest descriptors, a few.
    pub fds: Vec<u32>,
    /// Descriptors that came over exec and that the program did not ask for.
    pub inherited: u64,
    /// Who allocated them, as far as credentials tell: a process id, if it is another.
    pub opened_by: Option<u32>,
    /// Where they are in the walk, if that is asked for.
    pub places: Vec<u32>,
    /// Who is at their other ends, if that is asked for.
    pub peers: Vec<Peer>,
}

/// A process and how many of a group's handles it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharer {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its handles of the group.
    pub count: u64,
}

/// Hidden handles of all processes that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenGroup {
    /// What hides them.
    pub holder: Holder,
    /// What they are.
    pub kind: Kind,
    /// What they are called.
    pub name: String,
    /// How many.
    pub count: u64,
    /// What the files take.
    pub bytes: u64,
    /// The files have no name any more.
    pub deleted: bool,
    /// Mapped as code.
    pub code: bool,
    /// file-nr does not count them.
    pub uncounted: bool,
    /// What every program has that runs: see [`super::ordinary`].
    pub ordinary: bool,
    /// The segment that they belong to.
    pub shmid: Option<u32>,
    /// Who holds them, most first; whoever made it, of a segment that nobody attaches.
    pub processes: Vec<Sharer>,
    /// Where they are in the walk, if that is asked for.
    pub places: Vec<u32>,
}

struct Gathering {
    places: Vec<u32>,
    place: u32,
    count: u64,
    bytes: u64,
    inode: u64,
    example: Option<Example>,
    sharers: HashMap<usize, u64>,
}

/// By holder, whether file-nr does not count them, and what they are.
type Gatherings = HashMap<GroupKey, Gathering>;
type GroupKey = (Holder, bool, Key);

/// Gathers the hidden handles among those `inside`.
pub(super) fn hidden(
    snapshot: &HolderSnapshot,
    attribution: &Attribution,
    processes: &Processes,
    inside: &dyn Fn(u32) -> bool,
    remember: bool,
    keys: &Keys,
    namer: &mut Namer<'_>,
) -> Vec<HiddenGroup> {
    let wanted = |place: u32| {
        let holder = attribution.first(place)?;
        let is_wanted = attribution.is_without_descriptor(place) && inside(place);
        let key = || keys.of(snapshot, &snapshot.handles[place as usize]);
        is_wanted.then(|| (holder, attribution.is_uncounted(place), key()))
    };
    let mut groups = gather(snapshot, keys, &wanted, remember);
    share(snapshot, processes, &wanted, &mut groups);
    let mut found: Vec<HiddenGroup> =
        groups.into_iter().map(|(key, group)| finish(snapshot, processes, namer, key, group)).collect();
    ordinary::mark(&mut found);
    found.sort_by(|a, b| (Reverse(a.count), a.holder, &a.name).cmp(&(Reverse(b.count), b.holder, &b.name)));
    found
}

/// Handles of each group.
fn gather(
    snapshot: &HolderSnapshot,
    keys: &Keys,
    wanted: &dyn Fn(u32) -> Option<GroupKey>,
    remember: bool,
) -> Gatherings {
    let mut groups = Gatherings::new();
    for (place, handle) in (0..).zip(&snapshot.handles) {
        let Some(key) = wanted(place) else { continue };
        if !keys.has_room(groups.len(), &key.2) && !groups.contains_key(&key) {
            continue;
        }
        let group = groups.entry(key).or_insert_with(|| Gathering {
            place,
            count: 0,
            bytes: 0,
            inode: 0,
            example: None,
            sharers: HashMap::new(),
            places: Vec::new(),
        });
        group.count += 1;
        group.places.extend(remember.then_some(place));
        if std::mem::replace(&mut group.inode, handle.inode) != handle.inode || handle.inode == 0 {
            group.bytes = group.bytes.saturating_add(handle.allocated);
        }
    }
    groups
}

/// Who holds handles of each group.
fn share(
    snapshot: &HolderSnapshot,
    processes: &Processes,
    wanted: &dyn Fn(u32) -> Option<GroupKey>,
    groups: &mut Gatherings,
) {
    processes.each_held(snapshot, |index, held: &Held| {
        if held.first
            && let Some(group) = wanted(held.handle).and_then(|key| groups.get_mut(&key))
        {
            *group.sharers.entry(index).or_insert(0) += 1;
            group.example = group.example.or(held.example);
        }
    });
}

fn finish(
    snapshot: &HolderSnapshot,
    processes: &Processes,
    namer: &mut Namer<'_>,
    (holder, uncounted, key): GroupKey,
    group: Gathering,
) -> HiddenGroup {
    let segment = match holder {
        Holder::ShmAttach | Holder::ShmSegment => {
            u32::try_from(snapshot.handles[group.place as usize].ino).ok()
        }
        _ => None,
    };
    let mut sharers: Vec<Sharer> =
        group.sharers.into_iter().map(|(index, count)| processes.sharer(index, count)).collect();
    if holder == Holder::ShmSegment {
        let found = snapshot.segments.iter().find(|segment| segment.handle == group.place);
        let creator = found.map(|segment| segment.creator).filter(|creator| *creator != 0);
        sharers.extend(creator.map(|creator| processes.by_pid(creator, group.count)));
    }
    sharers.sort_by_key(|sharer| (Reverse(sharer.count), sharer.pid));
    HiddenGroup {
        holder,
        kind: key.kind,
        name: namer.name(snapshot, group.place, group.example),
        count: group.count,
        bytes: group.bytes,
        deleted: key.deleted,
        code: snapshot.handles[group.place as usize].is_code(),
        uncounted,
        ordinary: false,
        shmid: segment,
        processes: sharers,
        places: group.places,
    }
}
