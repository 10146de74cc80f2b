//! The workload: steps that make and drop handles, and a ledger that knows exactly how many.
//!
//! Between its "ready" and its truth the program makes no handle that is not in the ledger. The C library and the
//! runtime open files of their own at first use of this and that (memory arenas, locale, `/proc`), and the kernel opens
//! a path twice while its directory entries are not cached; so every step runs once, small, before "ready".

mod children;
mod holding;
mod io_uring;
mod ledger;
mod mapped;
mod namespaces;
mod network;
mod place;
mod plan;
mod processes;
mod shm;
mod speaker;
mod steps;
mod threads;
mod wandering;

pub(crate) use io_uring::{made as ring, register_files, unregister_files};
pub use ledger::Ledger;
pub use namespaces::{Side, enter_namespaces};
pub use network::bring_up_loopback;
pub use place::Place;
pub use plan::{Plan, Step};
pub use speaker::speak;
pub use steps::names;
pub(crate) use steps::unix_pair;

use std::{error::Error, fmt};

/// This machine or kernel refuses a step altogether, which is no fault of the step.
#[derive(Debug)]
pub struct NotPossible(pub String);

impl fmt::Display for NotPossible {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "not possible here: {}", self.0)
    }
}

impl Error for NotPossible {}

/// The exit status of a workload that is not possible here.
pub const NOT_POSSIBLE: u8 = 3;
