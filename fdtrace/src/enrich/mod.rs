//! Finds out, beside the stream, what its events cannot say: call sites, programs, names. What it finds becomes part of
//! the stream, so that a view needs neither the kernel nor the processes.

mod names;
mod own;
mod peers;
mod places;
mod tables;

use std::{collections::HashSet, io, sync::Arc};

pub use names::Names;
pub use own::Meter;
pub use tables::{Tables, TablesSample};

use crate::{
    handles::FreshGroup,
    kernel::Symbols,
    process,
    stacks::{Modules, Readers},
    stream::{Fact, ImageKey},
};

/// Finds out what handles, groups and images are.
pub struct Enricher {
    places: places::Places,
    names: Names,
}

/// What processes are that are there already; not the tracer, which begins what it runs.
#[must_use]
pub fn introduce(pids: &[u32]) -> Vec<Fact> {
    let others = pids.iter().filter(|pid| **pid != std::process::id());
    let identities = others.map(|pid| (ImageKey { tgid: *pid, since: 0 }, process::identity(*pid)));
    let known = identities.filter(|(_, identity)| !identity.comm.is_empty());
    known.map(|(key, identity)| Fact::Identity(key, Arc::new(identity))).collect()
}

impl Enricher {
    /// an enricher of a trace that has just begun; the places of its stacks lie in `modules`, whose files one of `readers` reads.
    #[must_use]
    pub fn new(symbols: Arc<Symbols>, modules: Arc<Modules>, readers: &Readers, names: Names) -> Self {
        Self { places: places::Places::new(symbols, modules, readers), names }
    }

    /// What new groups and their images are.
    pub fn find_out(&mut self, fresh: &[FreshGroup]) -> Vec<Fact> {
        let mut facts = Vec::with_capacity(fresh.len() * 2);
        let mut asked = HashSet::new();
        for group in fresh.iter().filter(|group| !group.identified && !group.ended) {
            if asked.insert(group.image) {
                let identity = process::identity(group.image.tgid);
                // A process that has just gone leaves what its events said.
                if !identity.comm.is_empty() {
                    facts.push(Fact::Identity(group.image, Arc::new(identity)));
                }
            }
        }
        self.places.find(fresh, &mut facts);
        facts
    }

    /// Gives up what takes memory, if nothing was found out for a while.
    pub fn rest(&mut self) {
        self.places.rest();
    }

    /// What each handle is that nobody looked at before; with its name, if that is wanted.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn describe_new(&mut self, named: bool) -> io::Result<Vec<Fact>> {
        self.names.describe_new(named)
    }

    /// Names and descriptors of handles, by address and generation.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn learn_names(&mut self, handles: &[(u64, u64)]) -> io::Result<Vec<Fact>> {
        self.names.learn(handles)
    }

    /// Which of these sockets, by address and generation, have a peer that has not hung up.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn connected(&mut self, sockets: &[(u64, u64)]) -> io::Result<Vec<(u64, u64)>> {
        let found = self.names.read_again(sockets)?;
        Ok(peers::connected(&found))
    }
}
