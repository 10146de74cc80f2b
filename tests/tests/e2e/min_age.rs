//! Min-age filter: what lives for a moment is counted, what lives longer is reported.

use crate::{
    observe::Observation,
    recording::{Recorded, evaluated},
};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    expected::Load,
    harness::{Document, TIMEOUT, Workload, say, scaled, turn},
    truth::Truth,
};
use rustix::process::Signal;

/// So old that nothing gets there in a test.
const NEVER: &str = "1h";

fn at_sites(document: &Document) -> u64 {
    document.sites.iter().map(|site| site.live).sum()
}

/// Allocated, released and alive at all sites that open files: a compiler may make two calls of one in a loop.
fn open_sums(document: &Document) -> (u64, u64, u64) {
    let opens = document.sites.iter().filter(|site| site.origin == "open");
    opens.fold((0, 0, 0), |(allocated, released, live), site| {
        (allocated + site.allocated, released + site.released, live + site.live)
    })
}

/// All that lives is reported, and nothing is left that might be.
fn told(document: &Document, truth: &Truth) -> bool {
    at_sites(document) == truth.live && document.handles.live == truth.live && document.handles.young == 0
}

/// Totals are exact though nearly no handle was reported: what was dropped as short-lived is counted, wherever it was.
#[test]
fn what_lives_for_a_moment_is_counted() -> Result<()> {
    let _turn = turn();
    let pairs = format!("pairs={}", scaled(20_000));
    let workload = Workload::start([&pairs, "kept=100", "failed=500", "memfd=5"])?;
    let mut observation = Observation::start(workload, Load::One, &["--min-age", "1s"])?;
    let truth = observation.workload.go()?;
    let document = observation.tracer.wait_for(TIMEOUT / 4, |document| told(document, &truth))?;
    ensure!(
        told(&document, &truth),
        "{:?}, {} at sites, truth {truth:?}",
        document.handles,
        at_sites(&document)
    );
    observation.settle(&truth)?.report("min-age")?;
    ensure!(document.handles.pre_existing_released == 0, "{:?}", document.handles);
    let truth = observation.workload.close()?;
    observation.settle(&truth)?.report("min-age, closed")?;
    let (verdict, last) = observation.last_words(&truth)?;
    ensure!(last.sites.is_empty(), "sites without anything alive: {:?}", last.sites);
    verdict.report("min-age, at the end")
}

/// A call site that leaks one handle in ten shows the other nine as well: they were dropped as short-lived where its handle was made.
#[test]
fn a_leaking_site_has_the_sums_of_what_it_let_go() -> Result<()> {
    let _turn = turn();
    let workload = Workload::start(["leaky=1000"])?;
    let mut observation = Observation::start(workload, Load::One, &["--min-age", "1s"])?;
    let truth = observation.workload.go()?;
    let sums = |document: &Document| open_sums(document) == (1000, 900, 100);
    let document = observation.tracer.wait_for(TIMEOUT / 4, sums)?;
    ensure!(sums(&document), "{:?}", document.sites);
    ensure!(told(&document, &truth), "{:?}", document.handles);
    Ok(())
}

/// It keeps on leaking, look for look.
#[test]
fn a_site_that_leaks_is_called_growing() -> Result<()> {
    let _turn = turn();
    let workload = Workload::start(["--repeat", "--pause-ms", "50", "leaky=100"])?;
    let mut observation = Observation::start(workload, Load::One, &["--min-age", "1s"])?;
    observation.workload.repeat()?;
    let growing = |document: &Document| document.sites.iter().any(|site| site.verdict == "growing");
    let document = observation.tracer.wait_for(TIMEOUT / 2, growing)?;
    let truth = observation.workload.stop()?;
    ensure!(growing(&document), "{:?}", document.sites);
    let site = document.sites.first().context("no site")?;
    ensure!(site.allocated > site.live && site.released > 0, "{site:?}");
    let document = observation.tracer.wait_for(TIMEOUT / 4, |document| told(document, &truth))?;
    ensure!(told(&document, &truth), "{:?}, truth {truth:?}", document.handles);
    Ok(())
}

/// Handles that never got old enough: they are young, at no site; and then they go with their process, which is reported.
#[test]
fn a_process_exits_with_young_handles_open() -> Result<()> {
    let _turn = turn();
    let workload = Workload::start(["kept=50", "pairs=100"])?;
    let observation = Observation::start(workload, Load::One, &["--min-age", NEVER])?;
    let Observation { mut workload, tracer, .. } = observation;
    let truth = workload.go()?;
    let young = |document: &Document| document.handles.young == 50 && document.trace.events.allocated == 100;
    let document = tracer.wait_for(TIMEOUT / 4, young)?;
    ensure!(young(&document) && document.sites.is_empty(), "{:?}, {:?}", document.handles, document.sites);
    workload.end()?;
    let gone = |document: &Document| {
        let events = &document.trace.events;
        (events.allocated, events.released, document.handles.young) == (truth.allocated, truth.allocated, 0)
    };
    let document = tracer.wait_for(TIMEOUT / 4, gone)?;
    ensure!(gone(&document), "{:?}, {:?}", document.handles, document.trace.events);
    let causes = document.released_by();
    let count = |cause: &str| causes.get(cause).copied().unwrap_or_default();
    // Where the kernel frees late, nobody can tell why.
    let known = (count("exit"), count("close")) == (50, 100) || count("unknown") == 150;
    ensure!(known, "released by {causes:?}");
    Ok(())
}

/// As in stream mode: whatever is lost, the live set is right again.
#[test]
fn a_ring_too_small_is_healed() -> Result<()> {
    let _turn = turn();
    // What goes with its process is reported, and twice as long as in stream mode.
    let steps = ["--threads", "8", "pairs=20000", "kept=1000", "exit-children=300"];
    let options = ["--ring-size", "4K", "--min-age", "500ms"];
    let mut observation = Observation::start(Workload::start(steps)?, Load::Storm, &options)?;
    observation.tracer.signal(Signal::STOP)?;
    let truth = observation.workload.go();
    observation.tracer.signal(Signal::CONT)?;
    let truth = truth?;
    let right = |document: &Document| {
        let skipped = document.trace.lost.skipped;
        let live = document.handles.live;
        live.abs_diff(truth.live) <= skipped && at_sites(document).abs_diff(truth.live) <= skipped
    };
    let resynced = |document: &Document| document.trace.lost.events > 0 && right(document);
    let document = observation.tracer.wait_for(TIMEOUT / 4, resynced)?;
    let lost = document.trace.lost;
    say(&format!("4K ring, min-age: live {} of {}, {lost:?}", document.handles.live, truth.live));
    ensure!(lost.events > 0, "nothing was lost in a ring of 4K: {lost:?}");
    ensure!(right(&document), "live {} of {}, {lost:?}", document.handles.live, truth.live);
    let allocated = document.trace.events.allocated;
    ensure!(
        allocated.abs_diff(truth.allocated) <= lost.skipped + 8,
        "{allocated} of {} handles",
        truth.allocated
    );
    let truth = observation.workload.close()?;
    let empty = |document: &Document| document.handles.live <= document.trace.lost.skipped;
    let document = observation.tracer.wait_for(TIMEOUT / 4, empty)?;
    ensure!(empty(&document), "live {} after all were closed, truth {truth:?}", document.handles.live);
    Ok(())
}

/// Handles that die young leave no events in the file, and are counted all the same.
#[test]
fn a_recording_with_a_minimum_age() -> Result<()> {
    let _turn = turn();
    let steps = ["leaky=2000", "pipes=15"];
    let Recorded { recorder, mut workload, scratch } = Recorded::start(steps, &["--min-age", "500ms"])?;
    let truth = workload.go()?;
    let settled =
        |document: &Document| told(document, &truth) && document.trace.events.allocated >= truth.allocated;
    recorder.wait_for(TIMEOUT / 4, settled)?;
    let finished = recorder.interrupt()?;
    ensure!(finished.status.code() == Some(0), "{}: {}", finished.status, finished.stderr);
    let report = fdtrace_tests::harness::report(&scratch.path().join("trace"))?;
    evaluated("record with min-age", &truth, &report.document, Load::One)?;
    ensure!(open_sums(&report.document) == (2000, 1800, 200), "{:?}", report.document.sites);
    Ok(())
}
