//! Verdicts on images that are gone, for whoever asks at the end.

use std::collections::{HashMap, VecDeque};

use crate::{report::Verdict, stream::ImageKey};

/// So many verdicts are kept, the latest ones; 40 bytes each, so that a year of short processes fits into memory.
const MOST: usize = 1 << 16;

/// A site, and an image that made handles there.
pub(super) type Key = (u64, ImageKey);

/// The last verdicts on images that are gone.
#[derive(Default)]
pub(super) struct Past {
    verdicts: HashMap<Key, Verdict>,
    order: VecDeque<Key>,
}

impl Past {
    pub(super) fn get(&self, key: Key) -> Option<Verdict> {
        self.verdicts.get(&key).copied()
    }

    /// Keeps a verdict; one that says nothing is not worth it.
    pub(super) fn keep(&mut self, key: Key, verdict: Verdict) {
        if verdict == Verdict::Unknown {
            return;
        }
        if self.verdicts.insert(key, verdict).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MOST
            && let Some(first) = self.order.pop_front()
        {
            self.verdicts.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let mut past = Past::default();
        let key = |since| (7, ImageKey { tgid: 5, since });
        (0..=MOST as u64).for_each(|since| past.keep(key(since), Verdict::Steady));
        past.keep(key(9), Verdict::Growing);
        past.keep(key(u64::MAX), Verdict::Unknown);
        assert_eq!((past.verdicts.len(), past.order.len()), (MOST, MOST));
        assert_eq!((past.get(key(0)), past.get(key(u64::MAX))), (None, None));
        assert_eq!((past.get(key(1)), past.get(key(9))), (Some(Verdict::Steady), Some(Verdict::Growing)));
    }
}
