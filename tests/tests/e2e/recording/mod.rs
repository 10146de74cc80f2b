//! Trace files: what goes in comes out again, whatever happens on the way.

mod command;
mod damage;
mod formats;
mod limits;
mod output;
mod replay;

use anyhow::{Result, ensure};
use fdtrace_tests::{
    expected::{Entry, Load},
    harness::{
        Document, Finished, Recorder, Report, Scratch, TIMEOUT, Workload, evaluate, kernel_release, report,
    },
    truth::Truth,
};
use std::{ffi::OsStr, path::PathBuf};

/// Something of everything.
const STEPS: [&str; 9] = [
    "pairs=500",
    "kept=50",
    "failed=20",
    "socketpairs=10",
    "pipes=10",
    "mapped=20",
    "shm-attach=10",
    "memfd=5",
    "exit-children=10",
];

/// A workload and its recorder.
pub(crate) struct Recorded {
    pub(crate) recorder: Recorder,
    pub(crate) workload: Workload,
    pub(crate) scratch: Scratch,
}

impl Recorded {
    /// Begins to record a workload and its children, and nothing else.
    pub(crate) fn start<'a>(steps: impl IntoIterator<Item = &'a str>, options: &[&str]) -> Result<Self> {
        let (scratch, workload) = (Scratch::new()?, Workload::start(steps)?);
        let pid = workload.pid().to_string();
        let arguments = ["-p", &pid, "--follow"].into_iter().chain(options.iter().copied()).map(OsStr::new);
        let recorder = Recorder::start(&scratch.path().join("trace"), arguments)?;
        Ok(Self { recorder, workload, scratch })
    }
}

/// A whole trace of a workload that held its handles when the trace ended.
struct Sample {
    file: PathBuf,
    report: Report,
    pid: u32,
    truth: Truth,
    scratch: Scratch,
}

impl Sample {
    fn new() -> Result<Self> {
        let Recorded { recorder, mut workload, scratch } = Recorded::start(STEPS, &[])?;
        let truth = workload.go()?;
        let live = |document: &Document| document.handles.live == truth.live;
        recorder.wait_for(TIMEOUT / 4, live)?;
        let file = recorder.file().to_owned();
        ends_well(&recorder.interrupt()?)?;
        let report = report(&file)?;
        Ok(Self { report, file, pid: workload.pid(), truth, scratch })
    }
}

/// It ended as it should, and said how large the file is.
fn ends_well(finished: &Finished) -> Result<()> {
    let Finished { status, stderr, .. } = finished;
    ensure!(status.code() == Some(0), "{status}: {stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    let size = last.split_whitespace().any(|word| ["bytes", "kB", "MB"].contains(&word));
    ensure!(size && last.contains(" in "), "no size on standard error: {stderr:?}");
    Ok(())
}

/// It failed with a sentence that has a word in it.
pub(crate) fn fails(finished: &Finished, word: &str) -> Result<()> {
    let Finished { status, stderr, .. } = finished;
    ensure!(status.code() == Some(1), "{status}: {stderr}");
    ensure!(stderr.contains(word), "{word:?} is not in: {stderr}");
    never_panics(finished)
}

fn never_panics(finished: &Finished) -> Result<()> {
    let Finished { status, stderr, .. } = finished;
    ensure!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    ensure!(matches!(status.code(), Some(0 | 1)), "{status}: {stderr}");
    Ok(())
}

/// Compares a report with the truth, by the file of expected results.
pub(crate) fn evaluated(name: &str, truth: &Truth, document: &Document, load: Load) -> Result<()> {
    let expected = Entry::load(&kernel_release(), &document.trace.backend)?;
    evaluate(truth, document, expected.for_load(load)?).report(name)
}
