//! Which handles are pre-existing.

use std::{
    collections::HashSet,
    io,
    sync::mpsc::{Receiver, TryRecvError, channel},
    time::{Duration, Instant},
};

use fdtrace_common::{
    iterators::{self, NO_DESCRIPTOR},
    wire::PREEXISTING,
};

use crate::{
    kernel::{self, Capabilities},
    stream::{Event, Existing, Fact},
};

/// A preexisting that takes longer than this is left to itself: memory of another process can be locked for long.
const DEADLINE: Duration = Duration::from_secs(5);

/// A preexisting that runs in a thread of its own, beside the stream.
pub(super) struct Preexisting {
    result: Option<Receiver<io::Result<Vec<iterators::Existing>>>>,
    /// What was found may have been released before it is reported.
    released: HashSet<u64>,
    begun: Instant,
}

impl Preexisting {
    pub(super) fn start(preexisting: kernel::PreexistingScan, kept: Capabilities) -> Self {
        let (found, result) = channel();
        let thread = std::thread::Builder::new().name("fdtrace-preexisting".to_owned());
        // Without a thread there is no preexisting, and the sum of the others says so. A receiver that is gone waits for
        // nothing.
        let started = thread.spawn(move || {
            let _ = kept.keep_only();
            drop(found.send(preexisting.run()));
        });
        Self { result: started.ok().map(|_| result), released: HashSet::new(), begun: Instant::now() }
    }

    /// Whether it has neither ended nor taken too long.
    pub(super) fn is_pending(&self) -> bool {
        self.result.is_some()
    }

    pub(super) fn note_releases(&mut self, events: &[Event]) {
        if self.result.is_none() {
            return;
        }
        self.released.extend(events.iter().filter_map(|event| match event {
            Event::Release(release) if release.generation == PREEXISTING => Some(release.handle),
            _ => None,
        }));
    }

    /// What was found and lives; nothing while it runs. Every release that came through must have been noted.
    pub(super) fn take(&mut self) -> Vec<Event> {
        let Some(result) = &self.result else { return Vec::new() };
        let found = match result.try_recv() {
            Ok(found) => found.unwrap_or_default(),
            Err(TryRecvError::Empty) if self.begun.elapsed() < DEADLINE => return Vec::new(),
            Err(_) => Vec::new(),
        };
        self.result = None;
        let released = std::mem::take(&mut self.released);
        let alive = found.into_iter().filter(|existing| !released.contains(&existing.handle));
        alive.map(|existing| Event::Fact(Box::new(Fact::Existing(existing_fact(existing))))).collect()
    }
}

fn existing_fact(found: iterators::Existing) -> Existing {
    let fd = Some(found.fd).filter(|fd| *fd != NO_DESCRIPTOR);
    Existing { handle: found.handle, tgid: found.tgid, fd }
}
