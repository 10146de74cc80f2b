//! Call chains that a person can read, and what can be learnt from them.

mod kernel;
mod modules;
mod origin;
mod symbols;
mod unwind;
mod user;

pub use kernel::kernel_chain;
pub use modules::Modules;
pub use origin::{deciding_function, origin};
pub use symbols::{CodeNames, FileId, Frames, Module, Reach};
pub use unwind::{Completed, Completer};
pub use user::UserStacks;
