//! The hash that names a stack.
//!
//! The kernel side computes it over the raw frames, the user side checks it when it decodes a stack, so both must use
//! this one function. It has to be cheap in BPF (no 128-bit multiplication, no table) and wide enough that two stacks
//! never meet by accident: 64 bits, every frame passed through a multiplication and a rotation.

/// Odd constant with well-mixed bits (2^64 divided by the golden ratio).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of no frames at all.
pub const SEED: u64 = 0x5851_f42d_4c95_7f2d;

/// Folds one more word into a running hash.
#[inline(always)]
#[must_use]
pub const fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(MULTIPLIER).rotate_left(29)
}

/// Ends a hash, so that its low bits depend on every word; 0 is kept free to mean "no stack".
#[inline(always)]
#[must_use]
pub const fn finish(hash: u64) -> u64 {
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(MULTIPLIER);
    (mixed ^ (mixed >> 29)) | 1
}

/// The name of a stack: innermost frame first.
#[must_use]
pub fn stack(frames: &[u64]) -> u64 {
    finish(frames.iter().fold(SEED, |hash, frame| mix(hash, *frame)))
}

/// The name of a stack of places, innermost first: a module and an offset each; and how it ended.
#[must_use]
pub fn places(words: &[u64], end: u8) -> u64 {
    finish(mix(words.iter().fold(SEED, |hash, word| mix(hash, *word)), end as u64))
}

/// The name of a stack that works on what another one has submitted: from the one that it would have without it.
#[inline(always)]
#[must_use]
pub const fn submitted(stack: u64, submitter: u64) -> u64 {
    finish(mix(stack, submitter))
}

/// The name of a call: from where, by which system call, and what was asked of it. What is counted for each call, and
/// not for each handle, is found by this name.
#[inline(always)]
#[must_use]
pub const fn call_key(user_stack: u64, syscall: i16, detail: u32) -> u64 {
    finish(mix(mix(user_stack, syscall.cast_unsigned() as u64), detail as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_length_matter() {
        assert_ne!(stack(&[1, 2]), stack(&[2, 1]));
        assert_ne!(stack(&[1]), stack(&[1, 0]));
        assert_ne!(stack(&[]), 0);
    }

    #[test]
    fn every_part_of_a_call_matters() {
        let key = call_key(1, 2, 3);
        assert_ne!(key, call_key(2, 2, 3));
        assert_ne!(key, call_key(1, -1, 3));
        assert_ne!(key, call_key(1, 2, 4));
    }

    #[test]
    fn neighbouring_addresses_do_not_collide() {
        let mut seen = [0u64; 4096];
        for (index, slot) in seen.iter_mut().enumerate() {
            *slot = stack(&[0x7f00_0000_0000 + index as u64, 0x40_0000]);
        }
        seen.sort_unstable();
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
