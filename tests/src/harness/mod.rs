//! Runs fdtrace and the workload beside each other, and compares what they say.

mod apart;
mod binaries;
mod blocked;
pub mod bpf_ids;
mod churn;
mod document;
mod driver;
mod evaluate;
mod explain;
mod hung;
mod leaker;
mod overlay;
mod process;
mod reader;
mod recorder;
mod scratch;
mod skipped;
mod small_disk;
mod tracer;

pub use apart::{in_own_processes, unless_refused, with_own_mounts};
pub use binaries::{fdtrace, workload};
pub use blocked::BlockedReads;
pub use churn::Churn;
pub use document::{Document, words};
pub use driver::{Workload, possible, possible_steps};
pub use evaluate::{Verdict, evaluate};
pub use explain::{Explained, Explanation, explain, explain_command, explain_text, references};
pub use hung::Hung;
pub use leaker::Leaker;
pub use overlay::Overlay;
pub(crate) use process::collect;
pub use process::{Finished, Killed, finish, finish_with, gone_process, lines};
pub use reader::AtInput;
pub use recorder::{Recorder, Report, record, report};
pub use scratch::Scratch;
pub use skipped::{again_while, is_unsure, unless_skipped, until_sure};
pub use small_disk::SmallDisk;
pub use tracer::{Ended, TIMEOUT, Tracer, backend, unwind};

use std::{
    io::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A user without any rights.
pub const NOBODY: u32 = 65_534;

/// One tracer at a time: two would see each other's handles, and a small machine would measure the neighbour's load.
///
/// A test that failed must not make the others fail, so a poisoned lock is still a lock.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints a line that the test runner does not hide, not even for a test that passes.
pub fn say(line: &str) {
    // With one test thread the runner leaves its own line unfinished, hence the line break in front. Nobody can be told
    // when standard output is gone.
    let _ = writeln!(std::io::stdout(), "\n{line}");
}

/// The release of the running kernel.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Nobody else uses this machine, so that what is counted of all of it can be compared.
#[must_use]
pub fn alone() -> bool {
    std::env::var_os("FDTRACE_DISTURB").is_some()
}

/// Divides the counts of the large tests, for emulated machines.
#[must_use]
pub fn scaled(count: u64) -> u64 {
    let scale = std::env::var("FDTRACE_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1);
    (count / u64::max(scale, 1)).max(1)
}
