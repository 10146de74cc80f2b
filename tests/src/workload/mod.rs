//! The workload: steps that make and drop handles, and a ledger that knows exactly how many.
//!
//! Between its "ready" and its truth the program makes no handle that is not in the ledger. The C library and the
//! runtime open files of their own at first use of this and that (memory arenas, locale, `/proc`), and the kernel opens
//! a path twice while its directory entries are not cached; so every step runs once, small, before "ready".

mod children;
mod ledger;
mod place;
mod plan;
mod shm;
mod steps;

pub use ledger::Ledger;
pub use place::Place;
pub use plan::{Plan, Step};
pub use steps::names;
