//! Programs that take stacks.

/// Which program takes a stack: each has a scratch of its own, for one may run while the other is interrupted. The kernel
/// never runs a program twice at once on a CPU.
#[repr(u32)]
#[derive(Clone, Copy)]
pub(crate) enum Taker {
    Allocation = 0,
    Mapping = 1,
    Acquired = 2,
    Refused = 3,
    Closing = 4,
    Submission = 5,
}

/// How many there are.
pub(crate) const TAKERS: u32 = 6;
