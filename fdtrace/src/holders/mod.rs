//! Who holds which handle, now: one walk over every holder in the kernel.
//!
//! [`take`] runs the kernel's iterators in a child process ([`child`]), because memory of other processes can be locked
//! for long; [`decode`] reads what they write; [`backing`], [`queues`], [`rings`], [`segments`] and [`trees`] follow pointers to the
//! holders that no iterator shows, through [`Memory`]; [`procfs_fallback`] reads `/proc` where there are no iterators.
//!
//! A handle is its address for the length of the walk: what comes and goes meanwhile may be counted or not.

mod addresses;
mod backing;
mod child;
mod decode;
mod directories;
mod ends;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod handle;
mod held;
mod linked;
mod memory;
mod namespaces;
mod pidfds;
mod procfs_fallback;
mod queues;
mod rings;
mod samples;
mod segments;
mod take;
mod trees;
mod unseen;
mod users;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    ops::Range,
    time::Duration,
};

use fdtrace_common::holder_walk::{Task, VM_EXEC};

use crate::kernel::Exactness;

pub use addresses::{AddressHasher, AddressMap};
pub use handle::{Handle, Names, mark};
pub use held::By;
pub use memory::Memory;
use memory::is_address;
pub use segments::Segment;
pub use take::{references, take};
pub use unseen::{PF_KTHREAD, Unreadable};
pub use users::{Counter, UserCount};

/// All holders and all handles.
#[derive(Debug, Default)]
pub struct HolderSnapshot {
    /// What each handle is; others name it by its place here.
    pub handles: Vec<Handle>,
    /// The place of each address.
    pub places: AddressMap,
    /// The names of handles.
    pub names: Names,
    /// Every thread.
    pub tasks: Vec<Task>,
    /// Tables of descriptors that have any, each once however many tasks share it.
    pub tables: Vec<Owner>,
    /// All descriptors, those of one table together.
    pub descriptors: Vec<Descriptor>,
    /// Address spaces that map files, each once.
    pub spaces: Vec<Owner>,
    /// All mappings of files, those of one address space together.
    pub mappings: Vec<Mapping>,
    /// Segments of SysV shared memory.
    pub segments: Vec<Segment>,
    /// Handles that are queued in unix sockets.
    pub in_flight: Vec<InFlight>,
    /// Handles that rings have registered.
    pub registered: Vec<Registered>,
    /// Rings that a task has registered, so that it needs no descriptor: task's place, handle.
    pub ring_descriptors: Vec<(u32, u32)>,
    /// Connections to unix sockets that nobody has accepted yet: the `struct sock` of the waiting end, the listener's place.
    pub waiting: Vec<(u64, u32)>,
    /// What the kernel counts for users.
    pub users: Vec<UserCount>,
    /// Sides of pseudo terminals.
    pub terminals: Vec<Terminal>,
    /// Handles that only another one leads to.
    pub linked: Vec<Linked>,
    /// Files that file-nr does not count, and the files above them: places of both.
    pub behind: Vec<(u32, u32)>,
    /// Paths of directories, by mount and entry, where no process has a path to ask for.
    pub directories: HashMap<(u64, u64), Vec<u8>>,
    /// What could not be looked at, a sentence each.
    pub partial: Vec<String>,
    /// The walks that were not done to their end, in their order.
    pub unfinished: Vec<&'static str>,
    /// Processes that could not be looked into.
    pub unreadable: Vec<Unreadable>,
    /// How many handles the kernel says there are; `None` where it says nothing.
    pub counted: Option<Counted>,
    /// Requests in flight in rings, at most, and the rings that have any.
    pub requests: (u64, u64),
    /// Handles in flight that only one of two samples saw.
    pub moving: u64,
    /// What two walks saw; `None` where nothing moved, or one was enough.
    pub sightings: Option<Sightings>,
    /// Handles cannot be distinguished: `/proc` stood in for the iterators, and every descriptor counts as a handle.
    pub by_proc: bool,
    /// How long it took.
    pub took: Duration,
}

/// The number of handles as the kernel counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// At the end.
    pub last: u64,
    /// The least that was read during the walk.
    pub min: u64,
    /// The most.
    pub max: u64,
    /// How far both can be trusted.
    pub exactness: Exactness,
    /// `fs.file-max`
    pub limit: u64,
}

/// Handles that file-nr counts, in two walks one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sightings {
    /// Both saw them.
    pub both: u64,
    /// One or both.
    pub either: u64,
}

/// A table of descriptors or an address space, and its part of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Address of the `files_struct` or `mm_struct`.
    pub address: u64,
    /// The process that it was found with.
    pub tgid: u32,
    /// The thread, where `/proc` shows it: the main one may have ended, or has another table.
    pub thread: u32,
    /// Where its part is.
    pub part: Range<u32>,
}

impl Owner {
    /// Its part of the list.
    #[must_use]
    pub fn of<'a, T>(&self, list: &'a [T]) -> &'a [T] {
        &list[self.part.start as usize..self.part.end as usize]
    }
}

/// An entry of a table of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The handle's place.
    pub handle: u32,
    /// Its number.
    pub fd: u32,
    /// Whether exec closes it; `None` where that is unknown.
    pub close_on_exec: Option<bool>,
}

/// A mapping of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The handle's place.
    pub handle: u32,
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
}

/// A handle in the receive queue of a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InFlight {
    /// The handle's place.
    pub handle: u32,
    /// The handle of the receiving socket; of the listener for a connection that waits to be accepted.
    pub receiver: u32,
}

/// A handle that a ring has registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registered {
    /// The handle's place.
    pub handle: u32,
    /// The ring's handle.
    pub ring: u32,
}

/// A side of a pseudo terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// The handle's place.
    pub handle: u32,
    /// The address of this side's `tty_struct`.
    pub own: u64,
    /// That of the other side.
    pub other: u64,
    /// It is the side that programs run at.
    pub is_slave: bool,
}

/// A handle that another one leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Its place.
    pub handle: u32,
    /// The place of the other one.
    pub through: u32,
    /// What lies between them.
    pub link: Link,
}

/// What leads from one handle to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// A BPF map or link, which keeps perf events.
    Bpf,
    /// An IPC namespace, which keeps its segments.
    Namespace,
    /// A connection of unix sockets: who holds the other end is out of sight.
    Peer,
}

impl HolderSnapshot {
    /// The place of the handle at an address.
    #[must_use]
    pub fn place(&self, address: u64) -> Option<u32> {
        self.places.get(address)
    }

    /// Finds out what handles are that are not known yet.
    ///
    /// # Errors
    /// When the kernel's memory cannot be read.
    fn learn(&mut self, memory: &mut impl Memory, handles: impl Iterator<Item = u64>) -> io::Result<()> {
        let unknown: BTreeSet<u64> =
            handles.filter(|handle| is_address(*handle) && self.place(*handle).is_none()).collect();
        for file in memory.describe(&unknown.into_iter().collect::<Vec<_>>())? {
            self.add(&file);
        }
        Ok(())
    }

    /// Takes in a mapping.
    fn map(&mut self, mapping: Mapping, flags: u64) {
        if flags & VM_EXEC != 0 {
            self.handles[mapping.handle as usize].marks |= mark::CODE;
        }
        self.mappings.push(mapping);
    }

    /// What to call a handle: a socket by its addresses, anything else by the name of its directory entry.
    #[must_use]
    pub fn name(&self, place: u32) -> String {
        self.handles[place as usize].name(&self.names)
    }
}
