//! Where a user's stack leads: by frame pointers, or by what the programs' unwind tables say.

pub(crate) mod frame_pointers;
pub(crate) mod mappings;
mod memory;
mod pc_cache;
pub(crate) mod stack_cache;
pub(crate) mod stack_dump;
pub(crate) mod tables;
mod trace;
