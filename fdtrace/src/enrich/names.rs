//! What single handles are, and what they are called: the kernel's iterators are asked.

use std::{collections::HashSet, io, sync::Arc};

use fdtrace_common::iterators::{Description, Descriptor};

use crate::{
    kernel::{FileIterators, Symbols},
    kinds,
    model::Kind,
    stream::{Described, Fact, FdLookup},
};

/// Asks the kernel what handles are.
pub(super) struct Names {
    iterators: FileIterators,
    symbols: Arc<Symbols>,
    /// The kernel describes a handle once, whoever asks: what came along when others were asked for.
    came_along: Vec<Description>,
}

impl Names {
    pub(super) fn new(iterators: FileIterators, symbols: Arc<Symbols>) -> Self {
        Self { iterators, symbols, came_along: Vec::new() }
    }

    /// What each handle is that nobody looked at before; with its name, if that is wanted.
    pub(super) fn describe_new(&mut self, named: bool) -> io::Result<Vec<Fact>> {
        let mut found = std::mem::take(&mut self.came_along);
        self.iterators.describe_new(|new| found.push(*new))?;
        Ok(found.iter().map(|found| Fact::Described(self.described(found, named))).collect())
    }

    /// Names and descriptors of handles, by address and generation.
    pub(super) fn learn(&mut self, wanted: &[(u64, u64)]) -> io::Result<Vec<Fact>> {
        let mut facts = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(FileIterators::MAX_WANTED) {
            facts.extend(self.learn_some(wanted)?.into_iter().map(Fact::Described));
        }
        Ok(facts)
    }

    /// What handles are now, by address and generation.
    pub(super) fn read_again(&mut self, wanted: &[(u64, u64)]) -> io::Result<Vec<Description>> {
        let mut found = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(FileIterators::MAX_WANTED) {
            let addresses: Vec<u64> = wanted.iter().map(|(handle, _)| *handle).collect();
            let known: HashSet<&(u64, u64)> = wanted.iter().collect();
            let is_wanted = |found: &Description| known.contains(&(found.handle, found.generation));
            let (wanted, others): (Vec<_>, Vec<_>) =
                self.iterators.describe(&addresses)?.into_iter().partition(is_wanted);
            found.extend(wanted);
            self.came_along.extend(others);
        }
        Ok(found)
    }

    fn learn_some(&mut self, wanted: &[(u64, u64)]) -> io::Result<Vec<Described>> {
        let addresses: Vec<u64> = wanted.iter().map(|(handle, _)| *handle).collect();
        let (descriptions, descriptors) = self.iterators.describe_with_descriptors(&addresses)?;
        let is_wanted = |found: &Description| wanted.contains(&(found.handle, found.generation));
        let (descriptions, others): (Vec<_>, Vec<_>) = descriptions.into_iter().partition(is_wanted);
        self.came_along.extend(others);
        let mut learnt: Vec<Described> =
            descriptions.iter().map(|found| self.described(found, true)).collect();
        learnt.sort_by_key(|described| described.handle);
        learnt.iter_mut().for_each(|described| described.descriptor = FdLookup::Nothing);
        for found in &descriptors {
            if let Ok(index) = learnt.binary_search_by_key(&found.handle, |described| described.handle) {
                add_descriptor(&mut learnt[index], found);
            }
        }
        Ok(learnt)
    }

    fn described(&self, found: &Description, named: bool) -> Described {
        let kind = kinds::classify(found, self.symbols.function(found.release));
        Described {
            handle: found.handle,
            generation: found.generation,
            kind,
            name: named.then(|| kinds::describe(found, kind).into()),
            descriptor: FdLookup::NotYet,
        }
    }
}

fn add_descriptor(described: &mut Described, found: &Descriptor) {
    if described.descriptor.found().is_some() {
        return;
    }
    described.descriptor = FdLookup::Found(found.tgid, found.fd);
    // The kernel's structures say more of a socket than its path does.
    if described.kind != Kind::Socket
        && let Some(path) = path(found)
    {
        described.name = Some(path.into());
    }
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
