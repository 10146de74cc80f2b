//! What the kernel skips, nobody sees: a tracing program does not run where it was interrupted itself. fdtrace counts that, and
//! says that it is not sure. Only then is something done once more.

use super::{Finished, say};
use anyhow::Result;

/// How often something is done at most.
const TRIES: usize = 4;
/// What a check says of it.
const WORDS: &str = "skipped by the kernel";

/// Runs a check until it is sure, as it tells whoever reads that it is not.
///
/// # Errors
/// Those of the run.
pub fn until_sure(mut run: impl FnMut() -> Result<Option<Finished>>) -> Result<Option<Finished>> {
    for _ in 1..TRIES {
        match run()? {
            Some(unsure) if is_unsure(unsure.status.code(), &unsure.stderr) => {
                say("the kernel skipped something: once more");
            }
            other => return Ok(other),
        }
    }
    run()
}

/// Whether a check could not judge because the kernel skipped something.
#[must_use]
pub fn is_unsure(status: Option<i32>, stderr: &str) -> bool {
    status == Some(24) && stderr.contains(WORDS)
}

/// Runs a test that says how much was skipped, and what it found; again where it failed and something was.
///
/// # Errors
/// Those of the test.
pub fn unless_skipped(mut test: impl FnMut() -> Result<(u64, Result<()>)>) -> Result<()> {
    for _ in 1..TRIES {
        match test()? {
            (1.., Err(error)) => say(&format!("the kernel skipped something, so once more: {error:#}")),
            (_, found) => return found,
        }
    }
    test()?.1
}
