//! Stacks that a person can read, and what can be learnt from them.

pub(crate) mod describe;
pub(crate) mod interpreters;
mod kernel;
mod lasting;
pub(crate) mod libraries;
mod modules;
pub(crate) mod name;
mod origin;
mod own;
mod reader;
mod script_frames;
mod scripts;
mod symbols;
mod unwind;
mod user;

pub(crate) use describe::{place, place_of, place_of_frame, place_of_site, short_stack};
pub use kernel::kernel_stack;
pub(crate) use lasting::{FrameRef, Lasting, lasting};
pub use modules::Modules;
pub(crate) use name::name_id;
pub use origin::{deciding_function, origin};
pub(crate) use own::{entered, interpreter, is_runtime, own};
pub use reader::Readers;
pub(crate) use script_frames::{is_for_another, is_script, telling};
pub use scripts::Recogniser;
pub(crate) use scripts::{FoundRuntime, QueueFile, merge, runtimes};
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
