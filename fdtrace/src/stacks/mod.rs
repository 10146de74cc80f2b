//! Call chains that a person can read, and what can be learnt from them.

mod kernel;
mod origin;
mod user;

pub use kernel::{KernelFrame, kernel_chain};
pub use origin::Origin;
pub use user::{UserChain, UserFrame, UserStacks};
