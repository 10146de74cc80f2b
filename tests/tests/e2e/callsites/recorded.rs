//! `fdtrace record`, of programs that are started when it records already, and leak at once.

use super::{Running, SETTLED, all_named, programs};
use anyhow::Result;
use fdtrace_tests::{
    callsites::Score,
    harness::{Document, Recorder, Scratch, report, turn, unless_skipped},
};
use std::process;

#[test]
fn a_report_names_every_leak() -> Result<()> {
    let _turn = turn();
    unless_skipped(|| {
        let scratch = Scratch::new()?;
        let this = process::id().to_string();
        let recorder =
            Recorder::start(&scratch.path().join("trace"), ["--unwind", "auto", "-p", &this, "--follow"])?;
        let mut running = Running::start(programs()?)?;
        running.leak(|taught| recorder.wait_for(SETTLED, taught).map(drop))?;
        let named = |document: &Document| running.scores(document).iter().all(Score::is_perfect);
        recorder.wait_for(SETTLED, named)?;
        let file = recorder.file().to_owned();
        recorder.interrupt()?;
        let document = report(&file)?.document;
        Ok((document.trace.lost.skipped, all_named(&running.scores(&document))))
    })
}
