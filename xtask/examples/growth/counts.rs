//! The rule that the number of live handles alone would give: what the verdict by lifetimes is compared with.

use fdtrace::report::Verdict;

const MEMORY: usize = 24;

/// Numbers of live handles, evenly spread over the time; the last one besides.
#[derive(Default)]
pub(crate) struct Counts {
    looks: Vec<u64>,
    latest: u64,
    stride: u64,
    seen: u64,
}

impl Counts {
    pub(crate) fn push(&mut self, live: u64) {
        self.latest = live;
        self.stride = self.stride.max(1);
        if self.seen.is_multiple_of(self.stride) {
            if self.looks.len() == MEMORY {
                self.looks = self.looks.iter().step_by(2).copied().collect();
                self.stride *= 2;
            }
            self.looks.push(live);
        }
        self.seen += 1;
    }

    /// Growing is what rises at least twice, falls at most once for every four rises, and ends above its first half.
    pub(crate) fn verdict(&self) -> Verdict {
        let mut live = self.looks.clone();
        if !(self.seen - 1).is_multiple_of(self.stride) {
            live.push(self.latest);
        }
        let rises = live.windows(2).filter(|pair| pair[1] > pair[0]).count();
        let falls = live.windows(2).filter(|pair| pair[1] < pair[0]).count();
        let first_half = live[..live.len().div_ceil(2)].iter().max().copied().unwrap_or(0);
        if live.len() < 3 {
            Verdict::Unknown
        } else if rises >= 2 && falls * 4 <= rises && self.latest > first_half {
            Verdict::Growing
        } else if falls == 0 && rises <= 1 {
            Verdict::Burst
        } else if self.latest <= first_half {
            Verdict::Steady
        } else {
            Verdict::Unknown
        }
    }
}
