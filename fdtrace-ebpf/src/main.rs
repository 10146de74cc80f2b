//! fdtrace's BPF programs.
//!
//! One object for every kernel: the loader finds the fields of [`kernel`]'s structures in BTF, writes what it decides into
//! [`config`]'s read-only global, and loads only the programs of the backend that it chose. Built by `cargo xtask ebpf`.
//!
//! Each hook has a thin program per backend in [`hooks`]; what they do is shared. [`lifetime`] is what happens when a handle
//! is made and when it is released, [`handles`] the table of those in between; [`short_lived`] says which of them user space
//! hears of, [`stacks`] names stacks, [`unwind`] follows native frames and [`scripts`] those of interpreters behind them, [`events`] fills the ring, [`fd_exit_scan`] tells what is open when a program ends,
//! [`acquired`] who installs descriptors for handles that were there before, [`work_queues`] for whom a thread of a pool works. [`iterators`] run only when user space
//! reads them, and [`queries`] when it asks.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros pass the context by value")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "fields of one context are read together")]
#![expect(clippy::cast_possible_truncation, reason = "helpers pack two numbers of 32 bits into a register")]
#![expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "registers have no sign")]

mod acquired;
mod atomic;
mod closers;
mod config;
mod counters;
mod description;
mod events;
mod fd_exit_scan;
mod filter;
mod handles;
mod hooks;
mod iterator;
mod iterators;
#[expect(dead_code, reason = "the walk over holders reads other fields")]
mod kernel;
mod lifetime;
mod log;
mod mappings;
mod queries;
mod scripts;
mod short_lived;
mod stacks;
mod takers;
mod task;
mod unwind;
mod work_queues;

/// GPL-only helpers (stacks, probe reads, iterators) ask for a compatible licence.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A reachable panic must not verify: the verifier refuses a loop that never ends.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The host builds this crate only to check and lint it.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
