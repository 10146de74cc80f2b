//! What is known of call sites, and what happened at them that no live group tells.

use std::{collections::HashMap, sync::Arc};

use super::{counts::Counts, lifetimes::Deaths};
use crate::stream::{Call, Cause, ImageKey, ShortLived, Site};

/// Groups that ended before their site was found out; the sums of more than this are kept, but not their site.
const MAX_PENDING: usize = 1 << 16;

/// A file can say any number of lives that were only counted; no more of a site are believed, so that sums over sites have
/// room. A million in a second are as many in half a year.
const MAX_SHORT_LIVED: u64 = 1 << 44;

/// One call site.
#[derive(Clone, Debug, Default)]
pub struct SiteSums {
    /// Where it is; `None` when that was not said.
    pub site: Option<Arc<Site>>,
    /// Handles of groups that are gone, and of lives that were only counted.
    pub closed: Counts,
    /// How old those became.
    pub deaths: Deaths,
    /// These are no handles, but descriptors for handles that were there before.
    pub acquired: bool,
}

/// All call sites.
#[derive(Default)]
pub struct Sites {
    sites: HashMap<u64, SiteSums>,
    pending: HashMap<(ImageKey, Call), (Counts, Deaths)>,
    /// What belongs to no site.
    unplaced: Counts,
    /// Bytes of all stacks as they are shown, where no frame is shared.
    shown: usize,
}

impl Sites {
    /// A site by its id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&SiteSums> {
        self.sites.get(&id)
    }

    /// All sites, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &SiteSums)> {
        self.sites.iter().map(|(id, sums)| (*id, sums))
    }

    /// Sums over all handles that belong to no group any more.
    #[must_use]
    pub fn closed(&self) -> Counts {
        let mut sum = self.unplaced;
        let pending = self.pending.iter().filter(|((_, call), _)| !call.acquired);
        let placed = self.sites.values().filter(|site| !site.acquired);
        pending
            .map(|(_, (counts, _))| counts)
            .chain(placed.map(|site| &site.closed))
            .for_each(|more| sum.add(more));
        sum
    }

    /// Bytes of memory that it has, and that a document of it takes.
    pub(super) fn weight(&self) -> usize {
        self.sites.capacity() * size_of::<(u64, SiteSums)>()
            + self.pending.capacity() * size_of::<((ImageKey, Call), (Counts, Deaths))>()
            + self.shown
    }

    pub(super) fn define(&mut self, site: Arc<Site>) {
        self.shown += site.weight();
        let sums = self.sites.entry(site.id).or_default();
        sums.acquired = site.origin.is_acquisition();
        self.shown -= sums.site.replace(site).map_or(0, |before| before.weight());
    }

    pub(super) fn close(
        &mut self,
        site: Option<u64>,
        group: (ImageKey, Call),
        counts: &Counts,
        deaths: &Deaths,
    ) {
        if counts.allocated == 0 {
            return;
        }
        match site {
            Some(site) => self.add(site, group.1.acquired, counts, deaths),
            None if self.pending.len() < MAX_PENDING => {
                let sums = self.pending.entry(group).or_default();
                sums.0.add(counts);
                sums.1.merge(deaths);
            }
            None if group.1.acquired => {}
            None => self.unplaced.add(counts),
        }
    }

    fn add(&mut self, site: u64, acquired: bool, counts: &Counts, deaths: &Deaths) {
        let sums = self.sites.entry(site).or_default();
        sums.acquired = acquired;
        sums.closed.add(counts);
        sums.deaths.merge(deaths);
    }

    /// Says to which site the sums of a group belong that is gone.
    pub(super) fn place_closed(&mut self, group: (ImageKey, Call), site: u64) {
        if let Some((counts, deaths)) = self.pending.remove(&group) {
            self.add(site, group.1.acquired, &counts, &deaths);
        }
    }

    pub(super) fn add_short_lived(&mut self, short_lived: &ShortLived) {
        let sums = match short_lived.site {
            Some(id) => {
                let sums = self.sites.entry(id).or_default();
                sums.deaths.add_short(short_lived.handles);
                &mut sums.closed
            }
            None => &mut self.unplaced,
        };
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more).min(MAX_SHORT_LIVED);
        add(&mut sums.allocated, short_lived.handles);
        add(&mut sums.released_by[Cause::Close as usize], short_lived.handles);
        add(&mut sums.never_opened, short_lived.never_opened);
    }
}
