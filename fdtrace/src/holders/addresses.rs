//! A map from kernel addresses to places in a list.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use fdtrace_common::hash;

/// Kernel addresses are not chosen by others, so one multiplication is hash enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = hash::finish(hash::mix(self.0, word));
    }
}

/// Where each address is in a list.
#[derive(Clone, Debug, Default)]
pub struct AddressMap(HashMap<u64, u32, BuildHasherDefault<AddressHasher>>);

impl AddressMap {
    /// The place of an address.
    #[must_use]
    pub fn get(&self, address: u64) -> Option<u32> {
        self.0.get(&address).copied()
    }

    /// Notes a place, unless the address has one: says whether it was news.
    pub fn insert(&mut self, address: u64, place: u32) -> bool {
        use std::collections::hash_map::Entry;
        match self.0.entry(address) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(place);
                true
            }
        }
    }
}
