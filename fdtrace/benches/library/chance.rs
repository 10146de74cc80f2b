//! Random numbers, good enough to defeat caches and cheap enough not to matter; and a clock.

/// A xorshift.
pub(crate) struct Chance {
    random: u64,
    pub(crate) time: u64,
}

impl Chance {
    pub(crate) const fn new() -> Self {
        Self { random: 0x9e37_79b9_7f4a_7c15, time: 1 << 40 }
    }

    pub(crate) const fn word(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        (self.word() >> 11) % limit
    }

    pub(crate) fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }

    /// Time goes on by about so many nanoseconds: near them for a quick path, now and then far more.
    pub(crate) const fn after_about(&mut self, ns: u64) -> u64 {
        let spread = ns / 4;
        let wave = self.below(spread) + self.below(spread) + self.below(spread);
        let rare = if self.below(200) == 0 { self.below(20 * ns) } else { 0 };
        self.time += ns - spread + wave + rare;
        self.time
    }

    /// Time goes on by what is between events that know nothing of each other.
    pub(crate) const fn after_up_to(&mut self, ns: u64) -> u64 {
        let doublings = self.below(4);
        self.time += self.below(ns << doublings) / 4;
        self.time
    }
}
