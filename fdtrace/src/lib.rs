//! Finds leaked open files on running Linux kernels.
//!
//! The data flows in one direction. [`kernel`] attaches and reads; [`stream`] decodes; [`collect`] keeps [`handles`] true
//! to the kernel's own table; [`live`] turns snapshots into documents, with the help of [`stacks`], [`kinds`] and
//! [`process`]; [`report`] writes them; [`cli`] is what a person types. Nothing below `cli` prints.
pub mod cli;
pub mod collect;
pub mod handles;
pub mod kernel;
pub mod kinds;
pub mod live;
pub mod process;
pub mod report;
pub mod stacks;
pub mod stream;
