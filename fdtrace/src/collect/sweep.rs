//! Min-age filter: what has become old enough, and what was dropped as short-lived before.

use std::collections::HashMap;

use fdtrace_common::{counters::ShortLivedCount, hash, wire::NO_SYSCALL};

use super::monotonic_ns;
use crate::{
    kernel::Sweeper,
    stream::{Call, Event, Fact, ShortLived},
};

/// An entry of the kernel's table bears the time at which its allocation began; it may have come into the table so much
/// later, and behind a sweep.
const OVERLAP_NS: u64 = 200_000_000;

/// So many calls are remembered by their site; then the memory is emptied and filled again.
const MAX_CALLS: usize = 1 << 16;

/// What the collector keeps in the min-age filter.
pub(super) struct Sweep {
    pub(super) sweeper: Sweeper,
    min_age_ns: u64,
    swept: u64,
    sites: HashMap<u64, u64>,
    /// What has been reported of each call.
    reported: HashMap<u64, ShortLivedCount>,
    /// The sum of all that was reported.
    pub(super) sum: ShortLivedCount,
}

impl Sweep {
    pub(super) fn new(sweeper: Sweeper, min_age_ns: u64) -> Self {
        Self {
            sweeper,
            min_age_ns,
            swept: 0,
            sites: HashMap::new(),
            reported: HashMap::new(),
            sum: ShortLivedCount::default(),
        }
    }

    /// Handles that were allocated after this are not spoken of.
    pub(super) fn young_after(&self) -> u64 {
        monotonic_ns().saturating_sub(self.min_age_ns)
    }

    /// What has become old enough since the last call.
    pub(super) fn sweep(&mut self) -> std::io::Result<Vec<(u64, fdtrace_common::wire::Entry)>> {
        let until = self.young_after();
        let found = self.sweeper.sweep_between(self.swept.saturating_sub(OVERLAP_NS), until)?;
        self.swept = until;
        Ok(found)
    }

    /// Learns to which sites calls belong.
    pub(super) fn note_sites(&mut self, facts: &[Fact]) {
        if self.sites.len() > MAX_CALLS {
            self.sites.clear();
        }
        for fact in facts {
            if let Fact::Belongs { call, site, .. } = fact {
                self.sites.insert(key(call), *site);
            }
        }
    }

    /// What was dropped as short-lived at known sites since it was last told. The kernel's table of calls forgets what was not used
    /// for long, and counts it from nothing again.
    pub(super) fn tell(&mut self, short_lived: &[(u64, ShortLivedCount)]) -> Vec<Event> {
        let mut events: HashMap<u64, ShortLived> = HashMap::new();
        for (key, now) in short_lived {
            let Some(site) = self.sites.get(key) else { continue };
            let before = self.reported.insert(*key, *now).unwrap_or_default();
            let before = if before.handles > now.handles { ShortLivedCount::default() } else { before };
            let event =
                events.entry(*site).or_insert(ShortLived { site: Some(*site), ..ShortLived::default() });
            event.handles += now.handles - before.handles;
            event.never_opened += now.never_opened.saturating_sub(before.never_opened);
        }
        let known: HashMap<u64, ShortLivedCount> = short_lived.iter().copied().collect();
        self.reported.retain(|key, _| known.contains_key(key));
        let mut events: Vec<ShortLived> = events.into_values().filter(|event| event.handles > 0).collect();
        events.sort_by_key(|event| event.site);
        for event in &events {
            self.sum.handles += event.handles;
            self.sum.never_opened += event.never_opened;
        }
        events.into_iter().map(Event::ShortLived).collect()
    }
}

fn key(call: &Call) -> u64 {
    let syscall = call.syscall.map_or(NO_SYSCALL, u16::cast_signed);
    hash::call_key(call.user_stack, syscall, call.detail)
}
