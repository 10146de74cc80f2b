//! Call chains that a person can read, and what can be learnt from them.

mod kernel;
mod origin;
mod symbols;
mod user;

pub use kernel::kernel_chain;
pub use origin::origin;
pub use symbols::{CodeNames, FileId, Frames, Module, Reach};
pub use user::UserStacks;
