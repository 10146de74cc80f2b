//! `fdtrace live`, attached to programs that run already.

use super::{Running, SETTLED, all_named, programs};
use anyhow::Result;
use fdtrace_tests::{
    callsites::Score,
    harness::{Document, Tracer, turn, unless_skipped},
};

#[test]
fn names_every_leak() -> Result<()> {
    let _turn = turn();
    unless_skipped(|| {
        let mut running = Running::start(programs()?)?;
        running.wait_until_ready()?;
        let pids = running.pids();
        let tracer =
            Tracer::start(["--unwind", "auto"].into_iter().chain(pids.iter().flat_map(|pid| ["-p", pid])))?;
        running.leak(|taught| tracer.wait_for(SETTLED, taught).map(drop))?;
        let named = |document: &Document| running.scores(document).iter().all(Score::is_perfect);
        let document = tracer.wait_for(SETTLED, named)?;
        Ok((document.trace.lost.skipped, all_named(&running.scores(&document))))
    })
}
