//! BPF's atomic exchanges, which the compiler does not offer for this target. Kernels before 5.12 refuse them: whoever uses them
//! asks the configuration first, so that a verifier there never comes to them.

/// Writes `new` if `old` is there; gives what was there. A full barrier.
///
/// # Safety
/// The pointer is to an aligned word of a map's value.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    let found;
    // SAFETY: one instruction, on the word that the caller vouches for.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inlateout("r0") old => found,
            options(nostack),
        );
    }
    found
}

/// Writes `new`; gives what was there. A full barrier.
///
/// # Safety
/// As for [`compare_exchange`].
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) unsafe fn exchange(word: *mut u64, new: u64) -> u64 {
    let found;
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "{value} = xchg_64({word} + 0, {value})",
            word = in(reg) word,
            value = inlateout(reg) new => found,
            options(nostack),
        );
    }
    found
}

/// The host only checks and lints.
#[cfg(not(target_arch = "bpf"))]
pub(crate) unsafe fn compare_exchange(_: *mut u64, old: u64, _: u64) -> u64 {
    old
}

/// As above.
#[cfg(not(target_arch = "bpf"))]
pub(crate) unsafe fn exchange(_: *mut u64, new: u64) -> u64 {
    new
}
