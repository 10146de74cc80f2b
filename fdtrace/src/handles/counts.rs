//! How many came and went.

use fdtrace_common::wire::CAUSES;

#[cfg(doc)]
use crate::stream::Cause;

/// How many handles came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handles made.
    pub allocated: u64,
    /// Handles gone, by [`Cause`].
    pub released_by: [u64; CAUSES],
    /// Of those gone, the ones that no open ever completed.
    pub never_opened: u64,
}

impl Counts {
    /// Handles gone.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.released_by.iter().fold(0, |sum, more| sum.saturating_add(*more))
    }

    /// Handles alive.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.allocated.saturating_sub(self.released())
    }

    /// Adds others to these.
    pub fn add(&mut self, other: &Self) {
        self.allocated = self.allocated.saturating_add(other.allocated);
        self.never_opened = self.never_opened.saturating_add(other.never_opened);
        for (sum, more) in self.released_by.iter_mut().zip(other.released_by) {
            *sum = sum.saturating_add(more);
        }
    }
}
