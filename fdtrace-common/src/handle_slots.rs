//! The kernel side's table of live handles where BPF has atomic exchanges (5.12): buckets of slots, and the order in which a
//! slot's words are written.
//!
//! A slot is a key, the handle's address, and the words of its [`Entry`], the generation first; 0 marks a key or a generation that
//! is none. Whoever made a handle is the only one to put it in, and whoever releases it the only one to take it out, so slots
//! are claimed by compare-and-exchange and nothing waits. User space reads all slots at any time ([`read`]):
//!
//! - in: the key is claimed, the words are stored, the generation is exchanged last. Until then it is 0, and readers pass by.
//! - out: the generation is stored as 0, then the key is exchanged for 0. What the next owner stores comes behind.
//! - a reader that finds key and generation unchanged behind the words has read words of that generation.
//!
//! Exchanges are full barriers in both directions (LKMM; Documentation/bpf/standardization/instruction-set.rst), plain stores
//! are none. The tests try all orders of loads and stores that this leaves to a machine.

use core::mem::size_of;

use crate::wire::Entry;

/// Slots of a bucket.
pub const SLOTS: u32 = 8;

/// The keys of a bucket's slots: one cache line.
pub type Keys = [u64; SLOTS as usize];

/// Words of an entry.
pub const WORDS: usize = size_of::<Entry>() / 8;

const _: () = assert!(size_of::<Entry>() == 8 * WORDS && core::mem::offset_of!(Entry, generation) == 0);

/// Odd constant with well-mixed bits (2^64 divided by the golden ratio).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bucket of a handle, of so many; any number will do. Files lie at multiples of eight, many in one page.
#[inline(always)]
#[must_use]
pub const fn bucket(handle: u64, buckets: u32) -> u32 {
    let mixed = (handle >> 3).wrapping_mul(MULTIPLIER) >> 32;
    ((mixed * buckets as u64) >> 32) as u32
}

/// A slot, as those see it who write.
pub trait Slot {
    /// Exchanges the key for a handle if it is 0; says whether it was. A full barrier.
    fn claim(&self, handle: u64) -> bool;
    /// Exchanges the key for 0. A full barrier.
    fn free(&self);
    /// Exchanges the generation. A full barrier.
    fn exchange_generation(&self, generation: u64);
    /// Stores a word; no barrier.
    fn store(&self, word: usize, value: u64);
}

/// Puts an entry in, once its handle's key is claimed.
#[inline(always)]
pub fn publish<const N: usize>(slot: &impl Slot, words: &[u64; N]) {
    let mut word = 1;
    while word < N {
        slot.store(word, words[word]);
        word += 1;
    }
    slot.exchange_generation(words[0]);
}

/// Puts an entry in the place of another one of the same handle.
#[inline(always)]
pub fn replace<const N: usize>(slot: &impl Slot, words: &[u64; N]) {
    slot.exchange_generation(0);
    publish(slot, words);
}

/// Takes an entry out.
#[inline(always)]
pub fn clear(slot: &impl Slot) {
    slot.store(0, 0);
    slot.free();
}

/// A slot, as those see it who read while others write. All loads acquire.
pub trait Shared {
    /// The key.
    fn key(&self) -> u64;
    /// A word of the entry.
    fn word(&self, word: usize) -> u64;
}

/// Reads a slot: handle and entry, or nothing where there is none or it changes right now.
pub fn read<const N: usize>(slot: &impl Shared) -> Option<(u64, [u64; N])> {
    let handle = slot.key();
    let generation = slot.word(0);
    if handle == 0 || generation == 0 {
        return None;
    }
    let mut words = [generation; N];
    for (index, word) in words.iter_mut().enumerate().skip(1) {
        *word = slot.word(index);
    }
    (slot.word(0) == generation && slot.key() == handle).then_some((handle, words))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use loom::{
        sync::{
            Arc,
            atomic::{
                AtomicU64,
                Ordering::{Acquire, Relaxed, SeqCst},
                fence,
            },
        },
        thread,
    };

    use super::*;

    /// A slot with two words: a torn entry is one whose words are of two generations.
    struct Modelled {
        key: AtomicU64,
        words: [AtomicU64; 2],
    }

    impl Modelled {
        fn empty() -> Arc<Self> {
            let zero = || AtomicU64::new(0);
            Arc::new(Self { key: zero(), words: [zero(), zero()] })
        }

        fn put(&self, handle: u64, generation: u64) -> bool {
            let claimed = self.claim(handle);
            if claimed {
                publish(self, &[generation, generation]);
            }
            claimed
        }

        /// What the entry of a handle is made of tells which handle it is.
        fn assert_sound(&self) {
            if let Some((handle, words)) = read::<2>(self) {
                assert_eq!(words[0], words[1], "words of two generations");
                assert_eq!(handle, words[0] / 10, "a handle with another one's entry");
            }
        }
    }

    impl Slot for Modelled {
        fn claim(&self, handle: u64) -> bool {
            fence(SeqCst);
            let claimed = self.key.compare_exchange(0, handle, SeqCst, SeqCst).is_ok();
            fence(SeqCst);
            claimed
        }

        fn free(&self) {
            fence(SeqCst);
            self.key.swap(0, SeqCst);
            fence(SeqCst);
        }

        fn exchange_generation(&self, generation: u64) {
            fence(SeqCst);
            self.words[0].swap(generation, SeqCst);
            fence(SeqCst);
        }

        fn store(&self, word: usize, value: u64) {
            self.words[word].store(value, Relaxed);
        }
    }

    impl Shared for Modelled {
        fn key(&self) -> u64 {
            self.key.load(Acquire)
        }

        fn word(&self, word: usize) -> u64 {
            self.words[word].load(Acquire)
        }
    }

    #[test]
    fn a_reader_never_sees_words_of_two_lives() {
        loom::model(|| {
            let slot = Modelled::empty();
            let writer = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || {
                    assert!(slot.put(1, 10));
                    clear(&*slot);
                    assert!(slot.put(2, 20));
                })
            };
            slot.assert_sound();
            writer.join().unwrap();
            assert_eq!(read(&*slot), Some((2, [20, 20])));
        });
    }

    #[test]
    fn a_reader_never_sees_half_of_what_is_replaced() {
        loom::model(|| {
            let slot = Modelled::empty();
            assert!(slot.put(1, 10));
            let writer = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || replace(&*slot, &[11, 11]))
            };
            slot.assert_sound();
            writer.join().unwrap();
            assert_eq!(read(&*slot), Some((1, [11, 11])));
        });
    }

    #[test]
    fn of_two_that_claim_a_slot_one_has_it() {
        loom::model(|| {
            let slot = Modelled::empty();
            let claimants = [(1, 10), (2, 20)].map(|(handle, generation)| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || {
                    let had = slot.put(handle, generation);
                    if had {
                        // What it has put in is there, and stays its own, until it takes it out itself.
                        assert_eq!(read(&*slot), Some((handle, [generation, generation])));
                        clear(&*slot);
                    }
                    had
                })
            });
            let had = claimants.map(|claimant| claimant.join().unwrap());
            assert!(had.contains(&true));
            assert_eq!(read::<2>(&*slot), None);
        });
    }

    /// File structures of one page, and of many pages.
    #[test]
    fn handles_are_spread_over_all_buckets() {
        const BUCKETS: u32 = 1000;
        for stride in [184, 192, 232, 256, 320, 4096, 16384] {
            let mut there = [0_u32; BUCKETS as usize];
            for index in 0..4 * u64::from(BUCKETS) {
                there[bucket(0xffff_8880_0123_4000 + index * stride, BUCKETS) as usize] += 1;
            }
            let over: u32 = there.iter().map(|count| count.saturating_sub(SLOTS)).sum();
            assert!(over < 200, "of 4,000 at a stride of {stride}, {over} find their bucket full");
        }
    }
}
