//! What is known of single handles beyond their number.

use std::{collections::HashMap, hash::BuildHasherDefault, sync::Arc};

use super::{fold::GroupId, hasher::CallHasher};
use crate::stream::FdLookup;

/// What is known of one handle.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Its path, its peer, or what it is.
    pub name: Option<Arc<str>>,
    /// A process with a descriptor for it, and the descriptor.
    pub descriptor: FdLookup,
    /// Who mapped it first.
    pub mapping: Option<Mapping>,
}

/// Who mapped a handle first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// By what call; the group counts no handle for it.
    pub group: GroupId,
    /// Which process.
    pub tgid: u32,
    /// Where in its memory; 0 when the kernel had not decided yet.
    pub address: u64,
    /// How many bytes.
    pub length: u64,
    /// How often it was mapped, this time included.
    pub times: u32,
}

/// What is known of handles, by address.
#[derive(Default)]
pub struct Details {
    by_address: HashMap<u64, Detail, BuildHasherDefault<CallHasher>>,
    /// Bytes of all names.
    text: usize,
}

impl Details {
    /// What is known of the handle at an address.
    #[must_use]
    pub fn get(&self, address: u64) -> Option<&Detail> {
        self.by_address.get(&address)
    }

    pub(super) fn describe(&mut self, address: u64, name: Option<Arc<str>>, descriptor: FdLookup) {
        if name.is_none() && descriptor == FdLookup::NotYet {
            return;
        }
        let detail = self.by_address.entry(address).or_default();
        self.text += name.as_deref().map_or(0, str::len);
        self.text -= detail.name.as_deref().map_or(0, str::len);
        (detail.name, detail.descriptor) = (name, descriptor);
    }

    /// Counts one more mapping of a handle that was mapped before; false when it was not.
    pub(super) fn mapped_again(&mut self, address: u64) -> bool {
        let mapping = self.by_address.get_mut(&address).and_then(|detail| detail.mapping.as_mut());
        mapping.map(|mapping| mapping.times = mapping.times.saturating_add(1)).is_some()
    }

    pub(super) fn map(&mut self, address: u64, mapping: Mapping) {
        self.by_address.entry(address).or_default().mapping = Some(mapping);
    }

    /// Forgets a handle, and says who had mapped it.
    pub(super) fn forget(&mut self, address: u64) -> Option<Mapping> {
        // Most handles live and die unknown.
        if self.by_address.is_empty() {
            return None;
        }
        let gone = self.by_address.remove(&address)?;
        self.text -= gone.name.as_deref().map_or(0, str::len);
        gone.mapping
    }

    /// Bytes of memory that it has.
    pub(super) fn weight(&self) -> usize {
        self.by_address.capacity() * size_of::<(u64, Detail)>() + self.text
    }
}
