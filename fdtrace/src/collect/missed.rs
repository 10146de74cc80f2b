//! Releases whose program the kernel skipped: what they may have left behind, and whether somebody has looked.
//!
//! Nothing tells which release was skipped. So the kernel's table is searched for handles that have no reference left. A
//! release that runs right now leaves such a handle too, for a moment: what is found is a suspect until it is gone or
//! has been there for a second.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use crate::kernel::Phantom;

/// A suspect that is this old is a phantom.
const PHANTOM_AGE: Duration = Duration::from_secs(1);

/// Skipped releases, as far as they were looked for.
#[derive(Default)]
pub(super) struct Skips {
    /// How many there were, when the kernel was last asked.
    seen: u64,
    /// So many of them have left nothing, or what they left was found.
    checked: u64,
    suspects: Option<Suspects>,
}

struct Suspects {
    since: Instant,
    /// Skipped releases that had been counted before the search.
    covers: u64,
    found: Vec<Phantom>,
}

impl Skips {
    /// Learns how many the kernel has skipped so far.
    pub(super) fn note(&mut self, skipped: u64) {
        self.seen = self.seen.max(skipped);
    }

    /// Of so many skipped releases, those that nobody has looked for to the end.
    pub(super) const fn unchecked(&self, skipped: u64) -> u64 {
        skipped.saturating_sub(self.checked)
    }

    /// Whether all that were known at a count have been looked for.
    pub(super) const fn is_checked(&self, skipped: u64) -> bool {
        self.checked >= skipped
    }

    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// Searches, if there is something to search for; gives what is proven. A search that fails (`None`) has not been.
    pub(super) fn search(
        &mut self,
        now: Instant,
        find: impl FnOnce() -> Option<Vec<Phantom>>,
    ) -> Vec<Phantom> {
        if self.is_checked(self.seen) {
            return Vec::new();
        }
        let Some(found) = find() else { return Vec::new() };
        let Some(mut suspects) = self.suspects.take() else {
            self.suspect(now, found);
            return Vec::new();
        };
        let there: HashSet<(u64, u64)> = found.iter().map(identity).collect();
        suspects.found.retain(|suspect| there.contains(&identity(suspect)));
        if suspects.found.is_empty() || now.duration_since(suspects.since) >= PHANTOM_AGE {
            self.checked = suspects.covers;
            let proven: HashSet<(u64, u64)> = suspects.found.iter().map(identity).collect();
            self.suspect(now, found.into_iter().filter(|one| !proven.contains(&identity(one))).collect());
            return suspects.found;
        }
        self.suspects = Some(suspects);
        Vec::new()
    }

    fn suspect(&mut self, since: Instant, found: Vec<Phantom>) {
        if self.is_checked(self.seen) {
            return;
        }
        if found.is_empty() {
            self.checked = self.seen;
        } else {
            self.suspects = Some(Suspects { since, covers: self.seen, found });
        }
    }
}

const fn identity(phantom: &Phantom) -> (u64, u64) {
    (phantom.handle, phantom.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Duration = Duration::from_millis(100);

    fn phantoms(handles: &[u64]) -> Option<Vec<Phantom>> {
        Some(handles.iter().map(|handle| Phantom { handle: *handle, generation: 7 }).collect())
    }

    fn handles(found: &[Phantom]) -> Vec<u64> {
        found.iter().map(|phantom| phantom.handle).collect()
    }

    #[test]
    fn nothing_is_searched_for_when_nothing_was_skipped() {
        let mut skips = Skips::default();
        skips.note(0);
        assert!(skips.search(Instant::now(), || panic!("a search")).is_empty());
        assert_eq!(skips.unchecked(0), 0);
    }

    #[test]
    fn a_skipped_release_is_unchecked_until_somebody_has_looked() {
        let mut skips = Skips::default();
        skips.note(3);
        assert_eq!(skips.unchecked(3), 3);
        assert!(skips.search(Instant::now(), || None).is_empty());
        assert_eq!(skips.unchecked(3), 3, "a search that failed has cleared nothing");
        assert!(skips.search(Instant::now(), || phantoms(&[])).is_empty());
        assert_eq!((skips.unchecked(3), skips.unchecked(4)), (0, 1));
    }

    #[test]
    fn a_phantom_is_what_is_still_there_after_a_second() {
        let (mut skips, start) = (Skips::default(), Instant::now());
        skips.note(1);
        assert!(skips.search(start, || phantoms(&[8, 16])).is_empty());
        assert!(skips.search(start + 5 * TENTH, || phantoms(&[8, 24])).is_empty());
        assert_eq!(skips.unchecked(1), 1, "one is still a suspect");
        assert_eq!(
            handles(&skips.search(start + 10 * TENTH, || phantoms(&[8, 16]))),
            [8],
            "16 was gone once"
        );
        assert_eq!(skips.unchecked(1), 0);
    }

    #[test]
    fn suspects_that_vanish_clear_what_was_skipped() {
        let (mut skips, start) = (Skips::default(), Instant::now());
        skips.note(1);
        skips.search(start, || phantoms(&[8]));
        assert!(skips.search(start + TENTH, || phantoms(&[16])).is_empty());
        assert_eq!(skips.unchecked(1), 0);
    }

    /// On a machine that skips all the time, each sample has new ones; the old suspects must not wait for ever.
    #[test]
    fn what_is_skipped_meanwhile_neither_delays_nor_is_forgotten() {
        let (mut skips, start) = (Skips::default(), Instant::now());
        let mut proven = Vec::new();
        for tenth in 0..=10 {
            skips.note(1 + u64::from(tenth));
            let found = if tenth < 10 { phantoms(&[8, 16]) } else { phantoms(&[8, 16, 24]) };
            proven.extend(handles(&skips.search(start + tenth * TENTH, || found)));
        }
        assert_eq!(proven, [8, 16]);
        assert_eq!(skips.unchecked(11), 10, "one of these may have left the last suspect");
        assert!(skips.search(start + 11 * TENTH, || phantoms(&[])).is_empty());
        assert_eq!(skips.unchecked(11), 0);
    }
}
