//! What is known of single handles beyond their number.

use std::{collections::HashMap, hash::BuildHasherDefault, sync::Arc};

use super::{fold::GroupId, hasher::CallHasher};
use crate::stream::Sought;

/// What is known of one handle.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Its path, its peer, or what it is.
    pub name: Option<Arc<str>>,
    /// A process with a descriptor for it, and the descriptor.
    pub descriptor: Sought,
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
pub struct Details(HashMap<u64, Detail, BuildHasherDefault<CallHasher>>);

impl Details {
    /// What is known of the handle at an address.
    #[must_use]
    pub fn get(&self, address: u64) -> Option<&Detail> {
        self.0.get(&address)
    }

    pub(super) fn describe(&mut self, address: u64, name: Option<Arc<str>>, descriptor: Sought) {
        if name.is_none() && descriptor == Sought::NotYet {
            return;
        }
        let detail = self.0.entry(address).or_default();
        (detail.name, detail.descriptor) = (name, descriptor);
    }

    /// Counts one more mapping of a handle that was mapped before; false when it was not.
    pub(super) fn mapped_again(&mut self, address: u64) -> bool {
        let mapping = self.0.get_mut(&address).and_then(|detail| detail.mapping.as_mut());
        mapping.map(|mapping| mapping.times = mapping.times.saturating_add(1)).is_some()
    }

    pub(super) fn map(&mut self, address: u64, mapping: Mapping) {
        self.0.entry(address).or_default().mapping = Some(mapping);
    }

    /// Forgets a handle, and says who had mapped it.
    pub(super) fn forget(&mut self, address: u64) -> Option<Mapping> {
        // Most handles live and die unknown.
        if self.0.is_empty() { None } else { self.0.remove(&address)?.mapping }
    }
}
