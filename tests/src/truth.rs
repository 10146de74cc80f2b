//! What really happened, in the words of fdtrace's JSON.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::AddAssign};

/// Counts by a word: an origin, a kind or a cause.
pub type Counts = BTreeMap<String, u64>;

/// Everything that a workload knows about the handles that it made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Handles created, never-opened ones included.
    pub allocated: u64,
    /// Handles that are gone.
    pub released: u64,
    /// Of those, the ones that no `open` completed.
    pub never_opened: u64,
    /// `allocated - released`.
    pub live: u64,
    /// Live handles by origin.
    pub origins: Counts,
    /// Live handles by kind.
    pub kinds: Counts,
    /// Released handles by cause.
    pub released_by: Counts,
    /// Allocations that failed, by error name.
    pub errors: Counts,
}

/// Leaves out words that count nothing, so that two maps compare by what is in them.
#[must_use]
pub fn without_zeros(mut counts: Counts) -> Counts {
    counts.retain(|_, count| *count != 0);
    counts
}

/// Adds to the count of one word.
pub fn add(counts: &mut Counts, word: &str, count: u64) {
    if count != 0 {
        counts.entry(word.to_owned()).or_default().add_assign(count);
    }
}
