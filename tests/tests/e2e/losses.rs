//! What is too small loses, says so, and is right again where that is possible.

use crate::{observe::Observation, recording::Recorded};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    expected::Load,
    harness::{Document, TIMEOUT, Workload, report, say, turn},
    truth::Truth,
};
use rustix::process::Signal;
use std::fs;

/// A tracer that gets no CPU time while much happens: the kernel's table stays right, and so does the view after it.
#[test]
fn ring_too_small_is_shown_and_healed() -> Result<()> {
    let _turn = turn();
    let steps = ["--threads", "8", "pairs=20000", "kept=1000", "exit-children=200"];
    let mut observation = Observation::start(Workload::start(steps)?, Load::Storm, &["--ring-size", "4K"])?;
    observation.tracer.signal(Signal::STOP)?;
    let truth = observation.workload.go();
    observation.tracer.signal(Signal::CONT)?;
    let truth = truth?;
    let resynced = |document: &Document| {
        let lost = document.trace.lost;
        // Each handle that the ring lost is at a site again; missed probes are another matter.
        lost.events > 0 && lost.healed > 0 && near(&truth, document)
    };
    let document = observation.tracer.wait_for(TIMEOUT / 4, resynced)?;
    let lost = document.trace.lost;
    say(&format!(
        "4K ring: live {} of {}, {lost:?}, complete {}",
        document.handles.live, truth.live, document.trace.complete
    ));
    ensure!(lost.events > 0, "nothing was lost in a ring of 4K: {lost:?}");
    ensure!(resynced(&document), "live {} of {}, {lost:?}", document.handles.live, truth.live);
    let truth = observation.workload.close()?;
    let document = observation.tracer.wait_for(TIMEOUT / 4, |document| near(&truth, document))?;
    ensure!(near(&truth, &document), "live {} after all were closed", document.handles.live);
    Ok(())
}

/// A trace file has the gap, and what was found out behind it.
#[test]
fn a_gap_in_a_record_is_shown_and_healed() -> Result<()> {
    let _turn = turn();
    let steps = ["--threads", "8", "pairs=20000", "kept=1000", "exit-children=200"];
    let Recorded { recorder, mut workload, scratch } = Recorded::start(steps, &["--ring-size", "4K"])?;
    recorder.signal(Signal::STOP)?;
    let truth = workload.go();
    recorder.signal(Signal::CONT)?;
    let truth = truth?;
    let resynced = |document: &Document| {
        let lost = document.trace.lost;
        lost.events > 0 && lost.healed > 0 && near(&truth, document)
    };
    recorder.wait_for(TIMEOUT / 2, resynced)?;
    let finished = recorder.interrupt()?;
    ensure!(finished.status.success(), "{}: {}", finished.status, finished.stderr);
    let report = report(&scratch.path().join("trace"))?;
    let lost = report.document.trace.lost;
    ensure!(lost.events > 0 && lost.healed > 0, "nothing was lost, or healed: {lost:?}");
    let live = report.document.handles.live;
    ensure!(resynced(&report.document), "live {live} of {}, {lost:?}", truth.live);
    say(&format!("4K ring, record: live {live} of {}, {lost:?}", truth.live));
    Ok(())
}

/// The live set is right, in total and over the sites, but for skipped program runs.
fn near(truth: &Truth, document: &Document) -> bool {
    let at_sites: u64 = document.sites.iter().map(|site| site.live).sum();
    let skipped = document.trace.lost.skipped;
    truth.live.abs_diff(at_sites) <= skipped && truth.live.abs_diff(document.handles.live) <= skipped
}

/// A table that is full makes every later figure a lower bound.
#[test]
fn handle_table_too_small_is_not_complete() -> Result<()> {
    let _turn = turn();
    // The table never gets smaller than what is alive on the machine, with a quarter more.
    let count = 1_000 + file_nr()? * 5 / 4;
    let mut observation = Observation::start(
        Workload::start([format!("shm-attach={count}").as_str()])?,
        Load::One,
        &["--max-handles", "64"],
    )?;
    let truth = observation.workload.go()?;
    // Those that found no room, and those that did, are all.
    let counted = |document: &Document| document.handles.live + document.trace.lost.handles >= truth.live;
    let document = observation.tracer.wait_for(TIMEOUT / 4, counted)?;
    let lost = document.trace.lost;
    say(&format!(
        "64 handles: live {} of {}, {lost:?}, complete {}",
        document.handles.live, truth.live, document.trace.complete
    ));
    ensure!(lost.handles > 0, "{} handles found room for 64: {lost:?}", truth.live);
    ensure!(!document.trace.complete, "complete, with {lost:?}");
    ensure!(counted(&document), "lost without being counted: {lost:?}");
    // And it stays incomplete when all is over, but nothing that found room is left behind.
    let truth = observation.workload.close()?;
    let released = observation.tracer.wait_for(TIMEOUT / 4, |document| document.handles.live == 0)?;
    ensure!(
        released.handles.live == 0,
        "{} handles were released unseen: {:?}",
        released.handles.live,
        released.trace.lost
    );
    let last = observation.tracer.interrupt()?.last.context("no document after SIGINT")?;
    ensure!(!last.trace.complete, "complete after a full table, {} released", truth.released);
    Ok(())
}

fn file_nr() -> Result<u64> {
    let text = fs::read_to_string("/proc/sys/fs/file-nr")?;
    text.split_whitespace().next().context("file-nr")?.parse().context("file-nr")
}
