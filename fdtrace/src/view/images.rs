//! Verdicts on what single images make at single sites, also after their end.

use std::collections::{HashMap, VecDeque};

use super::lifetimes::Ages;
use crate::{model::Trend, stream::ImageKey};

/// Looks before which no verdict is given.
const SAMPLES_TO_EVALUATE: u64 = 3;

/// So many verdicts on images that are gone are kept, the latest ones: some megabytes, however many processes there are.
const MAX: usize = 1 << 16;

/// A site, and an image that made handles there.
pub(super) type Key = (u64, ImageKey);

/// What was seen of images.
#[derive(Default)]
pub(super) struct Images {
    /// How often something lived, and how old it was the last time while the image ran.
    running: HashMap<Key, (u64, Ages)>,
    past: HashMap<Key, Trend>,
    order: VecDeque<Key>,
}

impl Images {
    /// One more look.
    pub(super) fn sample(&mut self, now: HashMap<Key, Ages>) {
        let gone: Vec<Key> = self.running.keys().filter(|key| !now.contains_key(key)).copied().collect();
        for key in gone {
            self.keep(key);
        }
        for (key, ages) in now {
            // What is released because a process ends says nothing of how long it would have been kept.
            if ages.ended {
                self.keep(key);
            } else if ages.births.total() > 0 || self.running.contains_key(&key) {
                let samples = self.running.get(&key).map_or(0, |(samples, _)| *samples);
                self.running.insert(key, (samples + 1, ages));
            }
        }
    }

    /// The last verdict.
    pub(super) fn verdict(&self, key: Key) -> Trend {
        let running = self.running.get(&key).map(|(samples, ages)| verdict(*samples, ages));
        running.or_else(|| self.past.get(&key).copied()).unwrap_or(Trend::Unknown)
    }

    fn keep(&mut self, key: Key) {
        let Some((samples, ages)) = self.running.remove(&key) else { return };
        // A verdict that says nothing is not worth it.
        let verdict = verdict(samples, &ages);
        if verdict == Trend::Unknown {
            return;
        }
        if self.past.insert(key, verdict).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MAX
            && let Some(first) = self.order.pop_front()
        {
            self.past.remove(&first);
        }
    }
}

fn verdict(samples: u64, ages: &Ages) -> Trend {
    match ages.evaluate().verdict {
        Trend::Single => Trend::Single,
        _ if samples < SAMPLES_TO_EVALUATE => Trend::Unknown,
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn key(since: u64) -> Key {
        (7, ImageKey { tgid: 5, since })
    }

    /// A leak of ten handles a second.
    fn leak(seconds: u64) -> Ages {
        let mut ages = Ages::at(seconds * SECOND);
        ages.allocated = seconds * 10;
        (0..ages.allocated).for_each(|n| ages.births.add(n * SECOND / 10));
        ages
    }

    #[test]
    fn the_verdict_on_an_image_outlives_it() {
        let mut images = Images::default();
        (1..8).for_each(|second| images.sample([(key(1), leak(second))].into()));
        assert_eq!(images.verdict(key(1)), Trend::Growing);
        let ended = Ages { ended: true, ..Ages::at(8 * SECOND) };
        images.sample([(key(1), ended)].into());
        assert_eq!(images.verdict(key(1)), Trend::Growing);
        images.sample(HashMap::new());
        assert_eq!(images.verdict(key(1)), Trend::Growing);
        assert_eq!(images.verdict(key(2)), Trend::Unknown);
    }

    #[test]
    fn of_what_ended_the_latest_is_kept() {
        let mut images = Images::default();
        let single = || Ages { allocated: 1, ..Ages::at(SECOND) };
        for since in 0..=MAX as u64 {
            images.running.insert(key(since), (1, single()));
            images.sample(HashMap::new());
        }
        assert_eq!((images.past.len(), images.order.len()), (MAX, MAX));
        assert_eq!((images.verdict(key(0)), images.verdict(key(1))), (Trend::Unknown, Trend::Single));
    }
}
