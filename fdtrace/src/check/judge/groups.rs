//! Handles that one program made in one way.

use std::{collections::HashMap, sync::Arc};

use super::{ages::Ages, series::Series};
use crate::{
    check::rule::MANY_MAPPED,
    kinds::Kind,
    stream::{Call, Described, ImageKey, Moment, Open, Sought},
};

/// Groups that are remembered when a process has no descriptors left.
pub(crate) const TOP: usize = 4096;

/// Handles that one program made by one call chain and one system call.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) image: ImageKey,
    pub(crate) call: Call,
    /// The call site, when it was found out.
    pub(crate) site: Option<u64>,
    pub(crate) allocated: u64,
    /// How many were released while the program ran.
    pub(crate) released: u64,
    /// How many calls made them.
    pub(crate) calls: u64,
    /// Of how many of those everything was released while the program ran.
    pub(crate) closed: u64,
    /// How many calls had something alive, while the program ran.
    pub(crate) series: Series,
    /// How old those became that were closed while it ran.
    pub(crate) ages: Ages,
    /// Handles that were open when a program ended, and are gone.
    pub(crate) left: Vec<LeftOpen>,
    /// Handles without a descriptor that are mapped, by their inode.
    pub(crate) mapped: HashMap<u64, u64>,
    /// Somebody names it still.
    pub(crate) pinned: bool,
    ended: bool,
}

/// A handle that was open when a program ended.
#[derive(Clone, Debug)]
pub(crate) struct LeftOpen {
    /// Which call made it: handles of one have the same number.
    pub(crate) call: u64,
    /// Which call of its group it is of.
    pub(crate) number: u64,
    pub(crate) generation: u64,
    /// It is alive still.
    pub(crate) alive: bool,
    pub(crate) held: Box<Held>,
}

/// Who had a handle open, and what it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Descriptors that were open when their program ended.
    pub(crate) at: Vec<OpenAt>,
    pub(crate) kind: Kind,
    pub(crate) name: Option<Arc<str>>,
    /// Who has a descriptor for it, as far as somebody has looked.
    pub(crate) descriptor: Sought,
}

/// A descriptor that was open when its program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenAt {
    pub(crate) image: ImageKey,
    pub(crate) fd: u32,
    pub(crate) moment: Moment,
    pub(crate) socket_state: u8,
    pub(crate) deleted: bool,
}

/// A process that could not have more.
#[derive(Clone, Debug)]
pub(crate) struct Shortages {
    pub(crate) image: ImageKey,
    pub(crate) errno: i32,
    pub(crate) times: u64,
    /// The first time, ns.
    pub(crate) time: u64,
    pub(crate) limit: u64,
    /// Its groups with live handles then, and how many calls.
    pub(crate) top: Vec<(usize, u64)>,
}

impl Held {
    pub(crate) fn open(&mut self, image: ImageKey, open: &Open) {
        let Open { fd, moment, socket_state, deleted, .. } = *open;
        self.at.push(OpenAt { image, fd, moment, socket_state, deleted });
    }

    pub(crate) fn describe(&mut self, described: &Described) {
        self.kind = described.kind;
        // Whoever found it in a descriptor knows its path; others know the name of its directory entry.
        if described.name.is_some() && (self.name.is_none() || described.descriptor != Sought::NotYet) {
            self.name.clone_from(&described.name);
        }
        if described.descriptor != Sought::NotYet {
            self.descriptor = described.descriptor;
        }
    }
}

impl Group {
    pub(crate) fn new(image: ImageKey, call: Call) -> Self {
        Self {
            image,
            call,
            site: None,
            allocated: 0,
            released: 0,
            calls: 0,
            closed: 0,
            series: Series::default(),
            ages: Ages::default(),
            left: Vec::new(),
            mapped: HashMap::new(),
            pinned: false,
            ended: false,
        }
    }

    /// One more handle, and whether it is the first of its call; says which call of the group it is.
    pub(crate) fn allocate(&mut self, time: u64, first: bool) -> u64 {
        self.allocated += 1;
        if first {
            self.calls += 1;
            if !self.ended {
                self.series.rise(time);
            }
        }
        self.calls
    }

    /// A handle is gone, of the call with this number; and whether it was the last one.
    pub(crate) fn release(&mut self, time: u64, number: u64, last: bool, inode: u64) {
        if self.ended {
            return;
        }
        self.released += 1;
        if last {
            self.closed += 1;
            self.series.fall(time);
            self.ages.add(self.calls.saturating_sub(number));
        }
        if inode != 0 {
            self.unmap(inode);
        }
    }

    pub(crate) fn map(&mut self, inode: u64) {
        *self.mapped.entry(inode).or_default() += 1;
    }

    pub(crate) fn unmap(&mut self, inode: u64) {
        if let Some(count) = self.mapped.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.mapped.remove(&inode);
            }
        }
    }

    /// The program has ended: what is released from now on was there at its end.
    pub(crate) const fn end(&mut self) {
        self.ended = true;
    }

    /// Whether something is to be said of a group whose program has ended, and of which nothing lives. Every library that a
    /// program has loaded is mapped when it ends: in a crowd, only many mappings of one file are worth a word.
    pub(crate) fn leaves_something(&self, crowded: bool) -> bool {
        let mapped = if crowded { self.most_mapped() > MANY_MAPPED } else { !self.mapped.is_empty() };
        self.pinned || !self.left.is_empty() || mapped
    }

    /// Handles of one file that are mapped at once and have no descriptor: the most of any file.
    pub(crate) fn most_mapped(&self) -> u64 {
        self.mapped.values().copied().max().unwrap_or(0)
    }
}
