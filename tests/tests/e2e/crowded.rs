//! A machine at its limit of handles: allocations that fail.

use crate::observe::Observation;
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    expected::Load,
    harness::{Workload, say, turn},
};
use std::{env, fs};

const FILE_MAX: &str = "/proc/sys/fs/file-max";

/// The machine's limit of handles, put back when dropped.
struct Limit(String);

impl Limit {
    fn lower() -> Result<Self> {
        let before = fs::read_to_string(FILE_MAX)?;
        fs::write(FILE_MAX, "0").with_context(|| format!("cannot lower {FILE_MAX}"))?;
        Ok(Self(before))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Err(error) = fs::write(FILE_MAX, self.0.trim()) {
            eprintln!("{FILE_MAX} was {}, and cannot be put back: {error}", self.0.trim());
        }
    }
}

#[test]
fn allocations_that_fail_are_counted() -> Result<()> {
    let _turn = turn();
    if env::var_os("FDTRACE_DISTURB").is_none() {
        say(
            "not run: for a moment no other user's program could open anything; FDTRACE_DISTURB=1 permits it",
        );
        return Ok(());
    }
    // Root is exempt from the limit.
    let workload = Workload::start_unprivileged(["crowded=50"])?;
    let mut observation = Observation::start(workload, Load::One, &[])?;
    let limit = Limit::lower()?;
    let truth = observation.workload.go();
    drop(limit);
    let truth = truth?;
    ensure!(!truth.errors.is_empty(), "no open met the limit: {truth:?}");
    observation.settle(&truth)?.report("ENFILE")?;
    observation.last_words(&truth)?.0.report("ENFILE, last words")
}
