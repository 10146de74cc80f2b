//! What makes handles alike.

use std::hash::{BuildHasher as _, RandomState};

use super::paths::anonymous;
use crate::{
    holders::{Handle, HolderSnapshot},
    model::Kind,
};

/// The most groups of few handles that are kept while handles are read: a process may have a million different files.
pub(super) const MAX_GROUPS: usize = 20_000;
/// A group of so many handles is always kept: there cannot be many of those.
const MANY: u32 = 100;
/// Places to count in.
const COUNTS: usize = 1 << 17;

/// What handles of one group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) kind: Kind,
    what: u64,
    name: u64,
    pub(super) deleted: bool,
    pub(super) code: bool,
}

/// Makes keys; names are compared by hash.
#[derive(Default)]
pub(super) struct Keys {
    hasher: RandomState,
    /// How many handles have a key of this hash, if there are more handles than groups; too many where hashes meet.
    counts: Vec<u32>,
}

impl Keys {
    /// Keys of which those of many handles are known beforehand: there is room for them whatever came first.
    pub(super) fn of_all(snapshot: &HolderSnapshot) -> Self {
        let mut keys = Self::default();
        if snapshot.handles.len() > MAX_GROUPS {
            keys.counts = vec![0; COUNTS];
            for handle in &snapshot.handles {
                let place = keys.place(&keys.of(snapshot, handle));
                keys.counts[place] += 1;
            }
        }
        keys
    }

    fn place(&self, key: &Key) -> usize {
        usize::try_from(self.hasher.hash_one(key) % COUNTS as u64).unwrap_or(0)
    }

    /// Whether there is room for another group.
    pub(super) fn has_room(&self, groups: usize, key: &Key) -> bool {
        groups < MAX_GROUPS || self.counts.get(self.place(key)).is_some_and(|count| *count >= MANY)
    }

    pub(super) fn of(&self, snapshot: &HolderSnapshot, handle: &Handle) -> Key {
        let hash = |bytes: &[u8]| self.hasher.hash_one(bytes);
        let raw = handle.raw_name(&snapshot.names);
        let (what, name) = match handle.kind {
            _ if anonymous(handle.kind, raw).is_some() => (0, hash(raw)),
            // A segment's number is its id, which is another segment's in another namespace.
            Kind::Shm if handle.inode != 0 => (handle.inode, 0),
            Kind::Socket | Kind::Fifo | Kind::Shm => (handle.ino, u64::from(handle.dev)),
            Kind::Anon | Kind::Memfd | Kind::Unknown => (0, hash(raw)),
            // A directory may be the beginning of several mounts, or in them.
            Kind::Directory => (handle.parent ^ handle.mount.rotate_left(32), hash(raw)),
            _ => (handle.parent, hash(raw)),
        };
        Key { kind: handle.kind, what, name, deleted: handle.is_deleted(), code: handle.is_code() }
    }
}
