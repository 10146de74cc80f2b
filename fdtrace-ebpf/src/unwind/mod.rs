//! Where a user's call chain leads: by frame pointers, or by what the programs' unwind tables say.

pub(crate) mod frame_pointers;
mod mappings;
mod memory;
mod near;
pub(crate) mod tables;
pub(crate) mod window;
