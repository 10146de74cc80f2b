//! Handles that are pre-existing.

use crate::backends::has_hook;
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Document, Scratch, TIMEOUT, Tracer, Workload, report, turn};

/// By descriptor, and by nothing but a mapping.
const BY_DESCRIPTOR: u64 = 30 + 2 * 10 + 1 + 3;
const BY_MAPPING: u64 = 25;
const STEPS: [&str; 5] = ["kept=30", "socketpairs=10", "dups=5", "tcp=3", "mapped=25"];

fn trace(pid: u32) -> Result<Tracer> {
    Tracer::start(["-p", &pid.to_string(), "--follow"])
}

/// What the workload has for itself: standard streams, which others hold as well, its program, its libraries. Exactly
/// that is there before its steps make handles and after they are let go, so a first trace can count it.
struct Older {
    workload: Workload,
    own: u64,
    found: u64,
}

impl Older {
    fn new() -> Result<Self> {
        let mut workload = Workload::start(STEPS)?;
        let tracer = trace(workload.pid())?;
        let (own, backend) = (tracer.first.handles.pre_existing, tracer.first.trace.backend.clone());
        drop(tracer);
        workload.go()?;
        let by_mapping = if has_hook(&backend, "older, by mapping")? { BY_MAPPING } else { 0 };
        let by_descriptor = if has_hook(&backend, "older, by fd")? { BY_DESCRIPTOR } else { 0 };
        Ok(Self { workload, own, found: by_descriptor + by_mapping })
    }

    fn is_found(&self, document: &Document) -> Result<()> {
        let handles = &document.handles;
        ensure!(handles.pre_existing == self.own + self.found, "{handles:?}, own {}", self.own);
        ensure!(handles.live == 0 && document.sites.is_empty(), "at a site: {:?}", document.sites);
        ensure!(document.trace.events.allocated == 0, "{:?}", document.trace.events);
        Ok(())
    }

    fn is_gone(&self, document: &Document) -> bool {
        let handles = &document.handles;
        (handles.pre_existing, handles.pre_existing_released) == (self.own, self.found)
    }
}

#[test]
fn they_are_counted_apart_and_so_are_their_releases() -> Result<()> {
    let _turn = turn();
    let mut older = Older::new()?;
    // At least its standard streams.
    ensure!(older.own >= 3, "{} handles before the steps", older.own);
    let tracer = trace(older.workload.pid())?;
    older.is_found(&tracer.first)?;
    older.workload.close()?;
    let document = tracer.wait_for(TIMEOUT / 4, |document| older.is_gone(document))?;
    ensure!(older.is_gone(&document), "{:?}, {} to be gone", document.handles, older.found);
    ensure!(document.trace.events.released == 0, "counted among the new: {:?}", document.trace.events);
    // New ones are no older ones.
    let truth = older.workload.go()?;
    let new = tracer.wait_for(TIMEOUT / 4, |document| document.handles.live == truth.live)?;
    ensure!(new.handles.live == truth.live && older.is_gone(&new), "{:?}", new.handles);
    Ok(())
}

#[test]
fn they_are_counted_in_min_age_mode() -> Result<()> {
    let _turn = turn();
    let mut older = Older::new()?;
    let pid = older.workload.pid().to_string();
    let tracer = Tracer::start(["-p", &pid, "--follow", "--min-age", "1s"])?;
    older.is_found(&tracer.first)?;
    older.workload.close()?;
    let document = tracer.wait_for(TIMEOUT / 4, |document| older.is_gone(document))?;
    ensure!(older.is_gone(&document), "{:?}, {} to be gone", document.handles, older.found);
    Ok(())
}

#[test]
fn a_record_has_them_too() -> Result<()> {
    let _turn = turn();
    let mut older = Older::new()?;
    let (scratch, pid) = (Scratch::new()?, older.workload.pid().to_string());
    let file = scratch.path().join("trace");
    let recorder = fdtrace_tests::harness::Recorder::start(&file, ["-p", &pid, "--follow"])?;
    let counted = |document: &Document| document.handles.pre_existing == older.own + older.found;
    let report_before = recorder.wait_for(TIMEOUT / 4, counted)?;
    older.is_found(&report_before.document)?;
    older.workload.close()?;
    let finished = recorder.interrupt()?;
    ensure!(finished.status.code() == Some(0), "{}: {}", finished.status, finished.stderr);
    let after = report(&file)?;
    ensure!(older.is_gone(&after.document), "{:?}, {} to be gone", after.document.handles, older.found);
    let by = after.json["handles"]["pre_existing_by"].as_array().context("not said whose")?.clone();
    ensure!(by.len() == 1 && by[0]["comm"] == "workload", "whose are they? {by:?}");
    Ok(())
}
