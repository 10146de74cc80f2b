//! What the kernel skips, nobody sees: a tracing program does not run where it was interrupted itself. fdtrace counts that, and
//! says that it is not sure. Only then is something done once more.

use super::{Finished, say};
use anyhow::Result;

/// How often something is done at most.
const TRIES: usize = 4;
/// What a check says of it.
const WORDS: &str = "missed by the kernel";

/// Does something until it is no longer because of the kernel that it went wrong.
///
/// # Errors
/// Those of what is done.
pub fn again_while<T>(skipped: impl Fn(&T) -> bool, mut run: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        let found = run()?;
        if !skipped(&found) {
            return Ok(found);
        }
        say("the kernel skipped something: once more");
    }
    run()
}

/// Runs a check until it is sure, as it tells whoever reads that it is not.
///
/// # Errors
/// Those of the run.
pub fn until_sure(run: impl FnMut() -> Result<Option<Finished>>) -> Result<Option<Finished>> {
    let unsure = |found: &Option<Finished>| {
        found.as_ref().is_some_and(|found| is_unsure(found.status.code(), &found.stderr))
    };
    again_while(unsure, run)
}

/// Whether a check could not evaluate because the kernel skipped something.
#[must_use]
pub fn is_unsure(status: Option<i32>, stderr: &str) -> bool {
    status == Some(24) && stderr.contains(WORDS)
}

/// Runs a test that says how much was skipped, and what it found; again where it failed and something was.
///
/// # Errors
/// Those of the test.
pub fn unless_skipped(test: impl FnMut() -> Result<(u64, Result<()>)>) -> Result<()> {
    let failed = |(skipped, found): &(u64, Result<()>)| match found {
        Err(error) if *skipped > 0 => {
            say(&format!("{error:#}"));
            true
        }
        _ => false,
    };
    again_while(failed, test)?.1
}
