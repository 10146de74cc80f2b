//! Finds leaked open files on running Linux kernels.
//!
//! The way of the data is one direction: [`kernel`] attaches and reads, everything above works on plain data.
pub mod handles;
pub mod kernel;
pub mod stream;
