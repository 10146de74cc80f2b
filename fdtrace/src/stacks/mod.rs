//! Stacks that a person can read, and what can be learnt from them.

mod kernel;
mod modules;
mod origin;
mod reader;
mod scripts;
mod symbols;
mod unwind;
mod user;

pub use kernel::kernel_stack;
pub use modules::Modules;
pub use origin::{deciding_function, origin};
pub use reader::Readers;
pub(crate) use scripts::{FoundRuntime, runtimes};
pub use symbols::{CodeNames, FileId, Frames, Module, Reach};
pub use unwind::{Completed, Completer};
pub use user::UserStacks;

/// For fuzzers: what a reader makes of any bytes, without a process of its own.
#[cfg(fuzzing)]
pub mod fuzz {
    use std::fs::File;

    /// Names, tables and what else there is of a program.
    pub fn program(bytes: &[u8], offsets: &[u64]) -> usize {
        super::reader::read_all(bytes, offsets)
    }

    /// Names by a perf map.
    pub fn perf_map(map: &File, addresses: &[u64]) -> usize {
        super::reader::read_perf_map(map, addresses)
    }
}
