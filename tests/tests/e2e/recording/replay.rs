//! A trace gives the same views as the live look at the same events.

use super::{Recorded, STEPS, ends_well, evaluated};
use anyhow::{Context as _, Result, ensure};
use fdtrace::model::Site;
use fdtrace_tests::{
    expected::Load,
    harness::{Document, Ended, Report, Scratch, TIMEOUT, Tracer, Workload, report, turn},
};
use serde_json::Value;
use std::path::Path;

/// The two must be equal word for word: numbers, names, stacks, ages and their order.
fn same(live: &str, report: &Report) -> Result<()> {
    let live: Value = serde_json::from_str(live)?;
    let empty = Vec::new();
    let sites = |document: &Value| document["sites"].as_array().unwrap_or(&empty).clone();
    let (of_live, of_report) = (sites(&live), sites(&report.json));
    for (one, other) in of_live.iter().zip(&of_report) {
        for key in one.as_object().context("a site is an object")?.keys() {
            let (one, other) = (&one[key], &other[key]);
            ensure!(one == other, "a site's {key:?} is {one} live, and {other} in the report");
        }
    }
    ensure!(of_live == of_report, "{} sites live, {} in the report", of_live.len(), of_report.len());
    let (one, other) = (&live["handles"], &report.json["handles"]);
    ensure!(one == other, "handles are {one} live, and {other} in the report");
    Ok(())
}

struct Both {
    scratch: Scratch,
    workload: Workload,
    tracer: Tracer,
}

impl Both {
    fn start(options: &[&str]) -> Result<Self> {
        let (scratch, workload) = (Scratch::new()?, Workload::start(STEPS)?);
        let (pid, file) = (workload.pid().to_string(), scratch.path().join("trace"));
        let file = file.to_str().context("a path")?;
        let arguments = ["-p", &pid, "--follow", "--mappings", "--trace", file];
        let tracer = Tracer::start(arguments.iter().chain(options).copied())?;
        Ok(Self { scratch, workload, tracer })
    }
}

fn compare(tracer: Tracer, file: &Path) -> Result<Document> {
    let Ended { last, line, status, stderr } = tracer.interrupt()?;
    ensure!(status.code() == Some(0), "{status}: {stderr}");
    let last = last.context("no document after SIGINT")?;
    let report = report(file)?;
    ensure!(report.stderr.is_empty(), "the trace is not whole: {}", report.stderr);
    same(&line, &report)?;
    Ok(last)
}

#[test]
fn live_and_report_are_equal() -> Result<()> {
    let _turn = turn();
    let Both { scratch, mut workload, tracer } = Both::start(&["--min-age", "0s"])?;
    let truth = workload.go()?;
    let there = |document: &Document| document.handles.live == truth.live;
    tracer.wait_for(TIMEOUT / 4, there)?;
    // One more, in which all that is shown has its name.
    tracer.next()?;
    let last = compare(tracer, &scratch.path().join("trace"))?;
    ensure!(there(&last), "live {} of {}", last.handles.live, truth.live);
    Ok(())
}

/// The last sample is the first that sees anything.
#[test]
fn live_and_report_are_equal_after_one_sample() -> Result<()> {
    let _turn = turn();
    let Both { scratch, mut workload, tracer } = Both::start(&["--min-age", "0s", "--interval", "600s"])?;
    let truth = workload.go()?;
    let last = compare(tracer, &scratch.path().join("trace"))?;
    ensure!(last.handles.live == truth.live, "live {} of {}", last.handles.live, truth.live);
    Ok(())
}

#[test]
fn live_and_report_are_equal_in_min_age_mode() -> Result<()> {
    let _turn = turn();
    let Both { scratch, mut workload, tracer } = Both::start(&["--min-age", "1s"])?;
    let truth = workload.go()?;
    let there = |document: &Document| document.handles.live == truth.live;
    tracer.wait_for(TIMEOUT / 4, there)?;
    tracer.next()?;
    let last = compare(tracer, &scratch.path().join("trace"))?;
    ensure!(there(&last), "live {} of {}", last.handles.live, truth.live);
    Ok(())
}

/// A trace file beside it takes nothing from what is seen live.
#[test]
fn live_names_descriptors_while_it_records() -> Result<()> {
    let _turn = turn();
    let Both { scratch, mut workload, tracer } = Both::start(&["--min-age", "0s"])?;
    workload.go()?;
    let named = |document: &Document| {
        let mut examples = document.sites.iter().flat_map(|site| &site.examples);
        examples.any(|example| {
            let path = example.name.ends_with("/file");
            path && example.pid == workload.pid() && example.fd.is_some()
        })
    };
    let document = tracer.wait_for(TIMEOUT / 12, named)?;
    let examples = document.sites.iter().flat_map(|site| &site.examples).collect::<Vec<_>>();
    ensure!(named(&document), "no descriptor in {examples:?}");
    let last = compare(tracer, &scratch.path().join("trace"))?;
    ensure!(named(&last), "the last document has no descriptor");
    Ok(())
}

#[test]
fn a_record_counts_exactly() -> Result<()> {
    let _turn = turn();
    let Recorded { recorder, mut workload, scratch } = Recorded::start(STEPS, &[])?;
    let truth = workload.go()?;
    let live = |document: &Document| document.handles.live == truth.live;
    recorder.wait_for(TIMEOUT / 4, live)?;
    let file = recorder.file().to_owned();
    ends_well(&recorder.interrupt()?)?;
    let held = report(&file)?;
    ensure!(held.stderr.is_empty(), "the trace is not whole: {}", held.stderr);
    ensure!(held.document.trace.complete, "not complete: {}", held.json["trace"]);
    evaluated("record", &truth, &held.document, Load::One)?;
    drop(scratch);
    Ok(())
}

#[test]
fn a_record_counts_what_is_let_go() -> Result<()> {
    let _turn = turn();
    let Recorded { recorder, mut workload, scratch } = Recorded::start(STEPS, &[])?;
    workload.go()?;
    let truth = workload.close()?;
    let gone = |document: &Document| document.trace.events.released == truth.released;
    recorder.wait_for(TIMEOUT / 4, gone)?;
    let file = recorder.file().to_owned();
    ends_well(&recorder.interrupt()?)?;
    evaluated("record, let go", &truth, &report(&file)?.document, Load::One)?;
    drop(scratch);
    Ok(())
}

/// What was there before the end came is there after it, whoever else made a noise meanwhile.
#[test]
fn kill_in_a_storm_leaves_a_trace_that_can_be_read() -> Result<()> {
    let _turn = turn();
    let (scratch, mut leak) = (Scratch::new()?, Workload::start(["kept=200"])?);
    let mut storm = Workload::start(["--repeat", "--threads", "2", "pairs=1000", "failed=100"])?;
    let pids = [leak.pid().to_string(), storm.pid().to_string()];
    let recorder = fdtrace_tests::harness::Recorder::start(
        &scratch.path().join("trace"),
        ["-p", &pids[0], "-p", &pids[1], "--follow"],
    )?;
    storm.repeat()?;
    leak.go()?;
    let kept = |document: &Document| held_by(document, leak.pid()) == 200;
    // Where they were made is found out a moment later. The first stacks may be cut, and then there is more than one site.
    let unplaced = |document: &Document| {
        let is_unplaced = |site: &&Site| site.origin != "open" || site.user_stack.is_empty();
        document.sites.iter().filter(is_unplaced).map(|site| live_of(site, leak.pid())).sum::<u64>()
    };
    recorder.wait_for(TIMEOUT / 2, |document| kept(document) && unplaced(document) == 0)?;
    let file = recorder.file().to_owned();
    recorder.kill();
    storm.stop()?;
    let report = report(&file)?;
    ensure!(report.stderr.contains("is cut off at byte"), "not told: {:?}", report.stderr);
    ensure!(kept(&report.document), "{} of 200 are left", held_by(&report.document, leak.pid()));
    ensure!(unplaced(&report.document) == 0, "without a site: {:?}", report.document.sites);
    ensure!(report.document.trace.events.never_opened > 0, "there was no storm: {}", report.json["trace"]);
    Ok(())
}

/// Live handles that a process of this number and the workload's name allocated.
pub(super) fn held_by(document: &Document, pid: u32) -> u64 {
    document.sites.iter().map(|site| live_of(site, pid)).sum()
}

fn live_of(site: &Site, pid: u32) -> u64 {
    let rows = site.processes.iter().filter(|row| row.pid == pid && row.comm == "workload");
    rows.map(|row| row.live).sum()
}
