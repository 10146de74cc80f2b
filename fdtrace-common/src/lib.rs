//! The wire between fdtrace's BPF programs and its collector.
//!
//! Everything here is `#[repr(C)]`, has no padding that is not named, and a layout that is asserted when this crate
//! compiles, because the same bytes are written by code built for BPF and read by code built for the host.
#![no_std]

pub mod config;
pub mod counters;
pub mod description;
pub mod descriptor;
pub mod fields;
pub mod handle_slots;
pub mod hash;
pub mod holder_walk;
pub mod hotspot;
pub mod iterators;
pub mod queries;
pub mod scripts;
pub mod unwind;
pub mod v8;
pub mod wire;
