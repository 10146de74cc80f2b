//! Call chains that a person can read, and what can be learnt from them.

mod kernel;
mod origin;
mod user;

pub use kernel::kernel_chain;
pub use origin::origin;
pub use user::UserStacks;
