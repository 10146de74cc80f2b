//! Handles that one program made in one way.

use std::{collections::HashMap, sync::Arc};

use super::{ages::Ages, series::Series};
use crate::{
    check::rule::MANY_MAPPED,
    model::Kind,
    stream::{Call, Described, FdLookup, ImageKey, Moment, Open},
};

/// Groups that are remembered when a process has no descriptors left.
pub(crate) const TOP: usize = 4096;

/// Handles that one program made by one stack and one system call.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) image: ImageKey,
    pub(crate) call: Call,
    /// The call site, when it was found out.
    pub(crate) site: Option<u64>,
    pub(crate) allocated: u64,
    /// Of those, the ones that nobody ever had: the call that made them failed.
    pub(crate) failed: u64,
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
    /// The same, counted in all calls of their own thread.
    pub(crate) thread_ages: Ages,
    /// The same in ns.
    pub(crate) lives: Ages,
    /// Handles that were open when a program ended, and are gone.
    pub(crate) left: Vec<LeftOpen>,
    /// Handles that were closed since the last call, by the group that has the closing stack.
    pub(crate) parted: HashMap<usize, ClosedCount>,
    /// Handles without a descriptor that are mapped, by their inode.
    pub(crate) mapped: HashMap<u64, u64>,
    /// Sockets that are alive and have a peer, when somebody looked last.
    pub(crate) connected: u64,
    /// Somebody names it still.
    pub(crate) pinned: bool,
    ended: bool,
}

/// What was closed by one stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClosedCount {
    pub(crate) calls: u64,
    pub(crate) handles: u64,
}

impl ClosedCount {
    pub(crate) const fn add(&mut self, more: Self) {
        self.calls += more.calls;
        self.handles += more.handles;
    }
}

/// A handle that was open when a program ended.
#[derive(Clone, Debug)]
pub(crate) struct LeftOpen {
    /// Which call made it: handles of one have the same number.
    pub(crate) call: u64,
    /// The thread that made it, and which of that one's calls it is of.
    pub(crate) of_thread: (u32, u64),
    pub(crate) generation: u64,
    /// It is alive still.
    pub(crate) alive: bool,
    /// The handle that it points to, of a descriptor that was acquired; 0 of a handle.
    pub(crate) of: u64,
    pub(crate) held: Box<Held>,
}

impl LeftOpen {
    /// The descriptors that it had when a table went away; not those of a thread's own table, if it lives on in another.
    pub(crate) fn at_exit(&self) -> impl DoubleEndedIterator<Item = &OpenAt> {
        let counts =
            |open: &&OpenAt| open.moment == Moment::Exit && !(self.alive && open.of_thread.is_some());
        self.held.at.iter().filter(counts)
    }
}

/// Who had a handle open, and what it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Descriptors that were open when their program ended.
    pub(crate) at: Vec<OpenAt>,
    pub(crate) kind: Kind,
    pub(crate) name: Option<Arc<str>>,
    /// Who has a descriptor for it, as far as somebody has looked.
    pub(crate) descriptor: FdLookup,
}

/// A descriptor that was open when its program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenAt {
    pub(crate) image: ImageKey,
    pub(crate) fd: u32,
    pub(crate) moment: Moment,
    pub(crate) socket_state: u8,
    pub(crate) deleted: bool,
    /// How long a socket has been in CLOSE_WAIT, in ms.
    pub(crate) waiting: u32,
    /// The thread whose own table it was in; `None` when the process ended.
    pub(crate) of_thread: Option<u32>,
}

/// How a handle came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The program let go of it.
    Closed {
        /// How many calls its thread had made since.
        thread_age: u64,
        /// How long it lived, in ns.
        life: u64,
    },
    /// The table of descriptors that had it was gone.
    Left,
    /// Nobody ever had it: the call that made it failed.
    Failed,
}

/// A process that could not have more.
#[derive(Clone, Debug)]
pub(crate) struct AllocErrors {
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
        let Open { fd, moment, socket_state, deleted, waiting, of_thread, .. } = *open;
        self.at.push(OpenAt { image, fd, moment, socket_state, deleted, waiting, of_thread });
    }

    pub(crate) fn describe(&mut self, described: &Described) {
        self.kind = described.kind;
        // Whoever found it in a descriptor knows its path; others know the name of its directory entry.
        if described.name.is_some() && (self.name.is_none() || described.descriptor != FdLookup::NotYet) {
            self.name.clone_from(&described.name);
        }
        if described.descriptor != FdLookup::NotYet {
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
            failed: 0,
            released: 0,
            calls: 0,
            closed: 0,
            series: Series::default(),
            ages: Ages::default(),
            thread_ages: Ages::default(),
            lives: Ages::default(),
            left: Vec::new(),
            parted: HashMap::new(),
            mapped: HashMap::new(),
            connected: 0,
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
                // What goes on is not at its end.
                self.parted.clear();
            }
        }
        self.calls
    }

    /// A handle is gone, of the call with this number; and whether it was the last one.
    pub(crate) fn release(&mut self, time: u64, number: u64, last: bool, end: End) {
        if self.ended {
            return;
        }
        if last {
            self.series.fall(time);
        }
        match end {
            End::Closed { thread_age, life } => {
                self.released += 1;
                if last {
                    self.closed += 1;
                    self.ages.add(self.calls.saturating_sub(number));
                    self.thread_ages.add(thread_age);
                    self.lives.add(life);
                }
            }
            End::Left => {}
            End::Failed => self.failed += 1,
        }
    }

    /// It is known by which stack a handle was closed, and whether that was the last one of its call.
    pub(crate) fn part(&mut self, by: usize, last: bool) {
        self.parted.entry(by).or_default().add(ClosedCount { calls: u64::from(last), handles: 1 });
    }

    /// Handles that somebody had.
    pub(crate) const fn made(&self) -> u64 {
        self.allocated.saturating_sub(self.failed)
    }

    /// Handles that are alive while the program runs.
    pub(crate) fn live_handles(&self) -> u64 {
        self.made().saturating_sub(self.released).saturating_sub(self.left.len() as u64)
    }

    /// Its end has come already: what happens now is no deed of the program's.
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
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

    /// Calls of which it is known by which stack everything was closed.
    pub(crate) fn closed_calls(&self) -> u64 {
        self.parted.values().map(|parted| parted.calls).sum()
    }

    /// Handles of one file that are mapped at once and have no descriptor: the most of any file.
    pub(crate) fn most_mapped(&self) -> u64 {
        self.mapped.values().copied().max().unwrap_or(0)
    }
}
