//! What really happened, in the words of fdtrace's JSON.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
};

/// Counts by a word: an origin, a kind or a cause.
pub type Counts = BTreeMap<String, u64>;

/// Everything that a workload knows about the handles that it made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Truth {
    /// Handles created, never-opened ones included.
    pub allocated: u64,
    /// Handles that are gone.
    pub released: u64,
    /// Of those, the ones that no `open` completed.
    pub never_opened: u64,
    /// `allocated - released`.
    pub live: u64,
    /// Live handles by origin.
    pub origins: Counts,
    /// Live handles by kind.
    pub kinds: Counts,
    /// Released handles by cause.
    pub released_by: Counts,
    /// Allocations that failed, by error name.
    pub errors: Counts,
    /// Live handles by what keeps them, each under the first word that applies.
    pub holders: Counts,
    /// The same, with who holds them.
    pub held: Vec<Held>,
    /// Live handles of files without a name.
    pub deleted: Deleted,
    /// System V segments.
    pub segments: Vec<Segment>,
}

/// Live handles that the same processes hold in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The first word that applies.
    pub holder: String,
    /// What they are.
    pub kind: String,
    /// How many.
    pub handles: u64,
    /// How often each of the processes refers to them, by every word that applies: a handle can have many descriptors.
    pub references: Counts,
    /// Who holds all of them, as numbered in the PID namespace of the workload. Nobody holds a segment.
    pub pids: Vec<u32>,
}

/// Files without a name that are still open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Their handles.
    pub handles: u64,
    /// What would be free if they were closed.
    pub bytes: u64,
}

/// A System V segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its number.
    pub shmid: i32,
    /// How often it is attached, by all processes.
    pub attaches: u64,
}

impl Truth {
    /// Live handles to which no descriptor points.
    #[must_use]
    pub fn hidden(&self) -> u64 {
        self.held.iter().filter(|held| held.holder != "descriptor").map(|held| held.handles).sum()
    }

    /// What a process holds.
    pub fn held_by(&self, pid: u32) -> impl Iterator<Item = &Held> {
        self.held.iter().filter(move |held| held.pids.contains(&pid))
    }

    /// Everyone who holds something.
    #[must_use]
    pub fn pids(&self) -> BTreeSet<u32> {
        self.held.iter().flat_map(|held| held.pids.iter().copied()).collect()
    }

    /// A process's entries in its table of descriptors.
    #[must_use]
    pub fn descriptors_of(&self, pid: u32) -> u64 {
        self.held_by(pid).filter_map(|held| held.references.get("descriptor")).sum()
    }

    /// How a process holds its handles, each under the first word that applies.
    #[must_use]
    pub fn holders_of(&self, pid: u32) -> Counts {
        let mut counts = Counts::new();
        self.held_by(pid).for_each(|held| add(&mut counts, &held.holder, held.handles));
        counts
    }
}

/// Leaves out words that count nothing, so that two maps compare by what is in them.
#[must_use]
pub fn without_zeros(mut counts: Counts) -> Counts {
    counts.retain(|_, count| *count != 0);
    counts
}

/// Adds to the count of one word.
pub fn add(counts: &mut Counts, word: &str, count: u64) {
    if count != 0 {
        counts.entry(word.to_owned()).or_default().add_assign(count);
    }
}
