//! Names of single handles: asked of the kernel once for each, remembered as long as they are shown.

use std::{collections::HashMap, io};

use fdtrace_common::look::{Description, Descriptor};

use crate::{
    collect::KindNote,
    kernel::{Looker, Symbols},
    kinds::{self, Kind},
};

/// What is known of one handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// A process and its descriptor.
    pub(super) descriptor: Option<(u32, u32)>,
}

/// Asks the kernel for names.
pub(super) struct Names {
    looker: Looker,
    known: HashMap<(u64, u64), Known>,
    /// The kernel describes a handle once, whoever asks: what came along when names were asked for.
    came_along: Vec<KindNote>,
}

impl Names {
    pub(super) fn new(looker: Looker) -> Self {
        Self { looker, known: HashMap::new(), came_along: Vec::new() }
    }

    /// What each handle is that nobody looked at before.
    pub(super) fn new_kinds(&mut self, symbols: &Symbols) -> io::Result<Vec<KindNote>> {
        let mut notes = std::mem::take(&mut self.came_along);
        self.looker.describe_new(|found| notes.push(note(found, symbols)))?;
        Ok(notes)
    }

    /// Learns the names of handles that are about to be shown, and forgets all others.
    pub(super) fn learn(&mut self, shown: &[(u64, u64)], symbols: &Symbols) -> io::Result<()> {
        let mut kept = HashMap::with_capacity(shown.len());
        let mut unknown = Vec::new();
        for identity in shown {
            match self.known.remove(identity) {
                Some(known) => drop(kept.insert(*identity, known)),
                None => unknown.push(*identity),
            }
        }
        self.known = kept;
        if unknown.is_empty() {
            return Ok(());
        }
        let addresses: Vec<u64> = unknown.iter().map(|(handle, _)| *handle).collect();
        let (descriptions, descriptors) = self.looker.look_at(&addresses)?;
        self.came_along.extend(descriptions.iter().map(|found| note(found, symbols)));
        for found in &descriptions {
            if unknown.contains(&(found.handle, found.generation)) {
                let kind = kind(found, symbols);
                let known = Known { name: kinds::describe(found, kind), kind, descriptor: None };
                self.known.insert((found.handle, found.generation), known);
            }
        }
        for found in &descriptors {
            self.add_descriptor(found);
        }
        Ok(())
    }

    pub(super) fn get(&self, identity: (u64, u64)) -> Option<&Known> {
        self.known.get(&identity)
    }

    fn add_descriptor(&mut self, found: &Descriptor) {
        let Some((_, known)) = self.known.iter_mut().find(|((handle, _), _)| *handle == found.handle) else {
            return;
        };
        if known.descriptor.is_some() {
            return;
        }
        known.descriptor = Some((found.tgid, found.fd));
        if known.kind == Kind::Socket {
            // The kernel's structures say more of a socket than its path does.
            return;
        }
        if let Some(path) = path(found) {
            known.name = path;
        }
    }
}

fn note(found: &Description, symbols: &Symbols) -> KindNote {
    let kind = kind(found, symbols) as u8;
    KindNote { handle: found.handle, generation: found.generation, kind }
}

fn kind(found: &Description, symbols: &Symbols) -> Kind {
    kinds::classify(found, symbols.function(found.release))
}

/// The path that the kernel printed, or what the process's own table says.
fn path(found: &Descriptor) -> Option<String> {
    if let Ok(length) = usize::try_from(found.path_len)
        && (2..=found.path.len()).contains(&length)
    {
        return Some(String::from_utf8_lossy(&found.path[..length - 1]).into_owned());
    }
    let link = std::fs::read_link(format!("/proc/{}/fd/{}", found.tgid, found.fd)).ok()?;
    Some(link.to_string_lossy().into_owned())
}
