//! What single handles are, and what they are called: the kernel is asked.

use std::{collections::HashSet, io, sync::Arc};

use fdtrace_common::{description::Description, iterators::Descriptor};

use crate::{
    kernel::{Descriptions, DescriptorFinder, Symbols},
    kinds,
    model::Kind,
    stream::{Described, Fact, FdLookup},
};

/// Asks the kernel what handles are.
pub struct Names {
    descriptions: Descriptions,
    descriptors: DescriptorFinder,
    symbols: Arc<Symbols>,
}

impl Names {
    /// Names that the kernel side of a running trace knows.
    #[must_use]
    pub const fn new(
        descriptions: Descriptions,
        descriptors: DescriptorFinder,
        symbols: Arc<Symbols>,
    ) -> Self {
        Self { descriptions, descriptors, symbols }
    }

    /// What each handle is that nobody looked at before; with its name, if that is wanted.
    pub(super) fn describe_new(&self, named: bool) -> io::Result<Vec<Fact>> {
        let found = self.descriptions.of_new()?;
        Ok(found.iter().map(|found| Fact::Described(self.described(found, named))).collect())
    }

    /// Names and descriptors of handles, by address and generation.
    pub(super) fn learn(&mut self, wanted: &[(u64, u64)]) -> io::Result<Vec<Fact>> {
        let mut facts = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(DescriptorFinder::MAX_WANTED) {
            facts.extend(self.learn_some(wanted)?.into_iter().map(Fact::Described));
        }
        Ok(facts)
    }

    /// What handles are now, by address and generation.
    pub(super) fn read_again(&self, wanted: &[(u64, u64)]) -> io::Result<Vec<Description>> {
        let handles: Vec<u64> = wanted.iter().map(|(handle, _)| *handle).collect();
        let wanted: HashSet<&(u64, u64)> = wanted.iter().collect();
        let mut found = self.descriptions.of(&handles)?;
        found.retain(|found| wanted.contains(&(found.handle, found.generation)));
        Ok(found)
    }

    fn learn_some(&mut self, wanted: &[(u64, u64)]) -> io::Result<Vec<Described>> {
        let handles: Vec<u64> = wanted.iter().map(|(handle, _)| *handle).collect();
        let descriptions = self.read_again(wanted)?;
        let mut learnt: Vec<Described> =
            descriptions.iter().map(|found| self.described(found, true)).collect();
        learnt.sort_by_key(|described| described.handle);
        learnt.iter_mut().for_each(|described| described.descriptor = FdLookup::Nothing);
        for found in &self.descriptors.find(&handles)? {
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
