//! Who allocated handles, by a trace.
//!
//! A walk has addresses, and a trace has them with the time of the allocation. After the trace's end an address may
//! have been used again, so a handle is taken for the traced one only where nothing that both know of it differs.

use std::{cmp::Reverse, collections::BTreeMap};

use fdtrace_common::holder_walk::NAME_LEN;

use crate::{
    holders::{Handle, HolderSnapshot, Names},
    model::Kind,
};

/// Who made a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// A process at a site.
    Site {
        /// The site's id.
        site: u64,
        /// The process.
        pid: u32,
    },
    /// Somebody before the trace began.
    Earlier,
}

/// A handle of a trace.
#[derive(Clone, Debug)]
pub struct TracedHandle<'a> {
    /// Who made it.
    pub maker: Maker,
    /// What it is; [`Kind::Unknown`] where nobody looked.
    pub kind: Kind,
    /// What it is called, if somebody looked.
    pub name: Option<&'a str>,
}

/// What lives at the end of a trace.
pub trait Traced {
    /// The handle at an address.
    fn at(&self, address: u64) -> Option<TracedHandle<'_>>;
    /// The own handle of a segment of SysV shared memory.
    fn segment(&self, shmid: u32) -> Option<TracedHandle<'_>>;
}

/// Who made some handles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Makers {
    /// Sites, those that made most first.
    pub sites: Vec<MakingSite>,
    /// Handles that are pre-existing.
    pub older: u64,
    /// Handles that the trace does not know.
    pub unknown: u64,
}

/// A site, and how many of some handles it made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MakingSite {
    /// Its id.
    pub site: u64,
    /// How many.
    pub count: u64,
    /// By which processes, those that made most first.
    pub pids: Vec<u32>,
}

/// The most processes that are named of a site.
const PIDS: usize = 8;

/// Who made the handles at these places of a walk.
pub fn makers(
    snapshot: &HolderSnapshot,
    places: impl IntoIterator<Item = u32>,
    traced: &dyn Traced,
) -> Makers {
    let mut makers = Makers::default();
    let mut sites: BTreeMap<u64, BTreeMap<u32, u64>> = BTreeMap::new();
    for place in places {
        match maker(&snapshot.handles[place as usize], &snapshot.names, traced) {
            Some(Maker::Site { site, pid }) => {
                *sites.entry(site).or_default().entry(pid).or_default() += 1;
            }
            Some(Maker::Earlier) => makers.older += 1,
            None => makers.unknown += 1,
        }
    }
    makers.sites = sites.into_iter().map(|(site, pids)| making_site(site, pids)).collect();
    makers.sites.sort_by_key(|site| (Reverse(site.count), site.site));
    makers
}

fn making_site(site: u64, pids: BTreeMap<u32, u64>) -> MakingSite {
    let count = pids.values().sum();
    let mut pids: Vec<(u32, u64)> = pids.into_iter().collect();
    pids.sort_by_key(|(pid, count)| (Reverse(*count), *pid));
    MakingSite { site, count, pids: pids.into_iter().map(|(pid, _)| pid).take(PIDS).collect() }
}

fn maker(handle: &Handle, names: &Names, traced: &dyn Traced) -> Option<Maker> {
    let found = match (handle.address, handle.kind) {
        // A segment that nobody attaches is known by its number only.
        (0, Kind::Shm) => traced.segment(u32::try_from(handle.ino).ok()?),
        (0, _) => None,
        (address, _) => traced.at(address),
    }?;
    is_same(handle, names, &found).then_some(found.maker)
}

fn is_same(handle: &Handle, names: &Names, traced: &TracedHandle<'_>) -> bool {
    if traced.kind == Kind::Unknown || handle.kind == Kind::Unknown {
        return true;
    }
    traced.kind == handle.kind && traced.name.is_none_or(|name| has_name(handle, names, name))
}

/// Whether a handle may be the one that a trace has this name of: a path, or what stands for it.
fn has_name(handle: &Handle, names: &Names, traced: &str) -> bool {
    let raw = String::from_utf8_lossy(handle.raw_name(names));
    let traced = traced.strip_suffix(" (deleted)").unwrap_or(traced);
    match handle.kind {
        // A socket's name changes with its connection, and pipes have none.
        Kind::Socket | Kind::Fifo | Kind::Unknown => true,
        Kind::Shm if raw.starts_with("SYSV") && !traced.contains("SYSV") => handle.name(names) == traced,
        // The root of a file system is called otherwise where it is mounted; a long name may go on.
        _ => raw == "/" || raw.len() >= NAME_LEN - 1 || traced.ends_with(raw.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    struct Trace(HashMap<u64, (Maker, Kind, &'static str)>);

    impl Traced for Trace {
        fn at(&self, address: u64) -> Option<TracedHandle<'_>> {
            let (maker, kind, name) = self.0.get(&address)?;
            Some(TracedHandle { maker: *maker, kind: *kind, name: Some(name) })
        }

        fn segment(&self, shmid: u32) -> Option<TracedHandle<'_>> {
            self.at(shmid.into())
        }
    }

    fn snapshot(handles: &[(u64, Kind, &str)]) -> HolderSnapshot {
        let mut snapshot = HolderSnapshot::default();
        for (address, kind, name) in handles {
            let mut handle = Handle::by_link(*kind, 7, 1, name.as_bytes(), &mut snapshot.names);
            handle.address = *address;
            snapshot.handles.push(handle);
        }
        snapshot
    }

    #[test]
    fn by_address_unless_it_is_another_one_now() {
        let made = |site, pid| Maker::Site { site, pid };
        let trace = Trace(HashMap::from([
            (8, (made(1, 70), Kind::Regular, "/tmp/a (deleted)")),
            (16, (made(1, 71), Kind::Regular, "/tmp/a")),
            (24, (made(1, 71), Kind::Regular, "/tmp/a")),
            (32, (Maker::Earlier, Kind::Anon, "anon_inode:[eventfd]")),
            (40, (made(2, 70), Kind::Regular, "/tmp/before")),
            (48, (made(2, 70), Kind::Socket, "tcp 1 to 2")),
        ]));
        let snapshot = snapshot(&[
            (8, Kind::Regular, "a"),
            (16, Kind::Regular, "a"),
            (24, Kind::Socket, "a"),
            (32, Kind::Anon, "[eventfd]"),
            (40, Kind::Regular, "after"),
            (48, Kind::Socket, "tcp 1 to 3"),
            (56, Kind::Regular, "a"),
        ]);
        let makers = makers(&snapshot, 0..7, &trace);
        assert_eq!(
            makers.sites,
            [
                MakingSite { site: 1, count: 2, pids: vec![70, 71] },
                MakingSite { site: 2, count: 1, pids: vec![70] }
            ]
        );
        assert_eq!((makers.older, makers.unknown), (1, 3));
    }

    #[test]
    fn a_segment_without_an_address_by_its_number() {
        let maker = Maker::Site { site: 5, pid: 9 };
        let trace = Trace(HashMap::from([(7, (maker, Kind::Shm, "SYSV00000000"))]));
        let snapshot = snapshot(&[(0, Kind::Shm, "SYSV00000000"), (0, Kind::Regular, "a")]);
        let makers = makers(&snapshot, 0..2, &trace);
        assert_eq!((makers.sites.len(), makers.unknown), (1, 1));
    }
}
