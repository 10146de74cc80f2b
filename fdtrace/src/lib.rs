//! Finds leaked open files on running Linux kernels.
//!
//! The data flows in one direction. [`kernel`] attaches and reads; [`stream`] decodes; [`collect`] drains the ring and
//! keeps [`handles`] true to the kernel's own table; [`enrich`] finds out what events cannot say, with the help of
//! [`stacks`], [`kinds`] and [`process`], and puts it into the stream; [`view`] turns what is known into the documents of
//! [`model`]; [`report`] writes them. [`record`] keeps a stream as a [`trace`] file, and [`replay`] reads it back into the same
//! views. [`check`] evaluates a stream: did a command leak? `session` starts tracers and runs commands, [`cli`] is what a
//! person types. Nothing below `cli` prints, and no room uses one above it (`floors`).
#![deny(clippy::print_stderr, clippy::print_stdout)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make the files that they are about"))]

mod analysis;
pub mod check;
pub mod cli;
pub mod collect;
pub mod enrich;
pub mod explain;
mod files;
#[cfg(test)]
mod floors;
pub mod handles;
pub mod holders;
pub mod kernel;
pub mod kinds;
pub mod model;
pub mod process;
pub mod record;
pub mod replay;
pub mod report;
#[doc(hidden)]
pub mod runtimes;
mod sandbox;
mod session;
pub mod stacks;
pub mod stream;
mod text;
pub mod trace;
pub mod view;
