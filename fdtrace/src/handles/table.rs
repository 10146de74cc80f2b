//! Live handles by address.
//!
//! Open addressing with linear probing and backward-shift deletion: 24 bytes for a slot, one cache line for most
//! look-ups, no tombstones that a million short lives would leave behind.

/// What is kept of a live handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    /// When it was allocated, `CLOCK_MONOTONIC` in ns.
    pub generation: u64,
    /// The group of handles that were allocated in the same way.
    pub group: u32,
    /// Thread that allocated it.
    pub tid: u32,
    /// What it is, by the caller's numbering; 0 for not known yet.
    pub kind: u8,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// 0 marks an empty slot: no `struct file` lies there.
    address: u64,
    generation: u64,
    group: u32,
    /// Thread id in the low 24 bits (the kernel's limit is 22), kind in the high 8.
    tid_kind: u32,
}

const TID_BITS: u32 = 24;

impl Slot {
    const fn handle(&self) -> Handle {
        Handle {
            generation: self.generation,
            group: self.group,
            tid: self.tid_kind & ((1 << TID_BITS) - 1),
            kind: self.tid_kind.to_le_bytes()[3],
        }
    }
}

/// Live handles by address.
#[derive(Default)]
pub struct Table {
    /// A power of two of slots, or none.
    slots: Vec<Slot>,
    live: usize,
}

const SMALLEST: usize = 1024;

impl Table {
    /// How many handles there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Bytes of memory that it has.
    pub(super) const fn weight(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// The handle at an address.
    #[must_use]
    pub fn get(&self, address: u64) -> Option<Handle> {
        self.find(address).map(|index| self.slots[index].handle())
    }

    /// Brings the slot of an address into the cache, so that a batch of look-ups waits for memory once. And the one after
    /// the next: slots straddle cache lines, and both ends of a handle's life look at its neighbours.
    #[must_use]
    pub fn touch(&self, address: u64) -> u64 {
        if self.slots.is_empty() {
            return 0;
        }
        let home = self.home(address);
        self.slots[home].address ^ self.slots[(home + 2) & self.mask()].address
    }

    /// Puts a handle at an address that has none.
    pub fn insert(&mut self, address: u64, handle: Handle) {
        debug_assert!(address != 0 && self.get(address).is_none());
        if (self.live + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let slot = Slot {
            address,
            generation: handle.generation,
            group: handle.group,
            tid_kind: (handle.tid & ((1 << TID_BITS) - 1)) | (u32::from(handle.kind) << TID_BITS),
        };
        self.place(slot);
        self.live += 1;
    }

    /// Takes the handle at an address out.
    pub fn remove(&mut self, address: u64) -> Option<Handle> {
        let index = self.find(address)?;
        let removed = self.slots[index].handle();
        self.close_gap(index);
        self.live -= 1;
        Some(removed)
    }

    /// Says what a handle is; false when there is no such handle.
    pub fn set_kind(&mut self, address: u64, generation: u64, kind: u8) -> bool {
        let Some(index) = self.find(address) else { return false };
        let slot = &mut self.slots[index];
        if slot.generation != generation {
            return false;
        }
        slot.tid_kind = (slot.tid_kind & ((1 << TID_BITS) - 1)) | (u32::from(kind) << TID_BITS);
        true
    }

    /// All handles with their addresses, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Handle)> + '_ {
        self.slots.iter().filter(|slot| slot.address != 0).map(|slot| (slot.address, slot.handle()))
    }

    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    /// Where an address wants to be. File structures lie at multiples of 8 and close together, so all bits are mixed.
    fn home(&self, address: u64) -> usize {
        let mixed = (address >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 24) as usize & self.mask()
    }

    fn find(&self, address: u64) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut index = self.home(address);
        loop {
            match self.slots[index].address {
                0 => return None,
                found if found == address => return Some(index),
                _ => index = (index + 1) & self.mask(),
            }
        }
    }

    fn place(&mut self, slot: Slot) {
        let mut index = self.home(slot.address);
        while self.slots[index].address != 0 {
            index = (index + 1) & self.mask();
        }
        self.slots[index] = slot;
    }

    /// Moves later slots of the same run into the hole, unless that would put them before their home.
    fn close_gap(&mut self, mut hole: usize) {
        let mask = self.mask();
        let mut next = (hole + 1) & mask;
        while self.slots[next].address != 0 {
            let home = self.home(self.slots[next].address);
            let distance_to_home = next.wrapping_sub(home) & mask;
            let distance_to_hole = next.wrapping_sub(hole) & mask;
            if distance_to_home >= distance_to_hole {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[hole] = Slot::default();
    }

    fn grow(&mut self) {
        let larger = vec![Slot::default(); (self.slots.len() * 2).max(SMALLEST)];
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot.address != 0 {
                self.place(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn handle(generation: u64) -> Handle {
        Handle { generation, group: 3, tid: 4_194_303, kind: 0 }
    }

    #[test]
    fn keeps_what_it_is_given() {
        let mut table = Table::default();
        assert_eq!(table.get(8), None);
        assert_eq!(table.remove(8), None);
        table.insert(8, handle(5));
        assert!(!table.set_kind(8, 4, 9), "another generation's kind is not taken");
        assert_eq!(table.get(8), Some(handle(5)));
        assert!(table.set_kind(8, 5, 9));
        assert_eq!(table.remove(8), Some(Handle { kind: 9, ..handle(5) }));
        assert!(table.is_empty());
    }

    #[test]
    fn agrees_with_the_standard_map_over_a_long_random_life() {
        let mut table = Table::default();
        let mut model = HashMap::new();
        let mut random = 0x1234_5678_9abc_def1_u64;
        for step in 0..200_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let address = 0xffff_8880_0000_0000 + (random % 5000) * 232;
            if let Some(expected) = model.remove(&address) {
                assert_eq!(table.remove(address), Some(handle(expected)));
            } else {
                table.insert(address, handle(step));
                model.insert(address, step);
            }
            assert_eq!(table.len(), model.len());
        }
        let mut left: Vec<_> = table.iter().map(|(address, found)| (address, found.generation)).collect();
        let mut expected: Vec<_> = model.into_iter().collect();
        left.sort_unstable();
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
