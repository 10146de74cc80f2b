//! Per-CPU counters: what happened, and every way in which something can be missed.

/// Index of a counter in [`Counters`].
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Handles allocated that passed the filters and found room in HANDLES.
    Allocated = 0,
    /// Handles released that were in HANDLES.
    Released = 1,
    /// Of those released, the ones that no `open` ever completed (ENOENT and friends).
    NeverOpened = 2,
    /// Releases of handles that HANDLES does not know: older than tracing, filtered out, or missed.
    ReleasedUnknown = 3,
    /// Records that found no room in the ring buffer.
    LostEvents = 4,
    /// Allocations that found no room in HANDLES; of handles that are pre-existing, all their holders that the
    /// walk came by.
    LostHandles = 5,
    /// Stacks that could not be read.
    LostStacks = 6,
    /// Allocations at an address that HANDLES still held, traced or not: the release of the former handle was missed.
    Phantoms = 7,
    /// Allocations made by the tracer itself, which it does not trace.
    Own = 8,
    /// Allocations that failed (ENFILE, ENOMEM, denied by a security module).
    Failed = 9,
    /// Releases that the min-age filter dropped.
    ShortLived = 10,
    /// Of those, the ones that no `open` ever completed.
    ShortLivedNeverOpened = 11,
    /// Of the records that found no room, those that no look at HANDLES makes up for: forks, execs, exits, and what was open
    /// then.
    LostEnds = 12,
    /// Processes that should be followed and are not: there is no room for more.
    Unfollowed = 13,
    /// Tables of descriptors that are longer than the walk at an exit goes.
    CutWalks = 14,
    /// Descriptors that were acquired and found no room in ACQUIRED, or whose numbers are too high for it.
    LostDescriptors = 15,
    /// Stacks that were found again without a walk, where that is compared with a walk (`Config::compare_stacks`).
    FoundStacks = 16,
    /// Of those, the ones that a walk gave otherwise.
    OtherStacks = 17,
}

/// How many counters there are.
pub const COUNTERS: usize = 18;

/// One CPU's counters, indexed by [`Counter`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters(pub [u64; COUNTERS]);

impl Counters {
    /// The value of one counter.
    #[must_use]
    pub const fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Adds another CPU's counters to these.
    pub fn add(&mut self, other: &Self) {
        for (sum, value) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(value);
        }
    }
}

/// What was dropped as short-lived of one call ([`crate::hash::call_key`]): value of the SHORT_LIVED map, on each CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShortLivedCount {
    /// Handles that came and went unreported.
    pub handles: u64,
    /// Of those, the ones that no `open` ever completed.
    pub never_opened: u64,
}

impl ShortLivedCount {
    /// Adds another CPU's count to this one.
    pub const fn add(&mut self, other: Self) {
        self.handles = self.handles.wrapping_add(other.handles);
        self.never_opened = self.never_opened.wrapping_add(other.never_opened);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_by_counter() {
        let mut sum = Counters::default();
        let mut one = Counters::default();
        one.0[Counter::ShortLived as usize] = 2;
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.get(Counter::ShortLived), 4);
        assert_eq!(sum.get(Counter::Allocated), 0);
    }
}
