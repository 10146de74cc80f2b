//! The counting tests: large numbers, from one thread and from eight, on the default settings.

use crate::observe::Observation;
use anyhow::{Result, ensure};
use fdtrace_tests::{
    expected::Load,
    harness::{Workload, scaled, turn},
};

fn steps() -> Vec<String> {
    let counts =
        [("pairs", 100_000), ("kept", 1_000), ("failed", 1_000), ("shm-attach", 500), ("mapped", 500)];
    counts.map(|(step, count)| format!("{step}={}", scaled(count))).to_vec()
}

fn workload(threads: &str) -> Result<Workload> {
    let steps = steps();
    Workload::start(["--threads", threads].into_iter().chain(steps.iter().map(String::as_str)))
}

fn count(name: &str, mut observation: Observation) -> Result<()> {
    let truth = observation.workload.go()?;
    observation.settle(&truth)?.report(name)?;
    let truth = observation.workload.close()?;
    observation.settle(&truth)?.report(&format!("{name}, let go"))?;
    let (verdict, last) = observation.last_words(&truth)?;
    verdict.report(&format!("{name}, last words"))?;
    let lost = last.trace.lost;
    ensure!(lost.events == 0 && lost.handles == 0, "the default sizes are too small: {lost:?}");
    Ok(())
}

#[test]
fn counts_from_one_thread() -> Result<()> {
    let _turn = turn();
    count("counting, 1 thread", Observation::start(workload("1")?, Load::One, &[])?)
}

#[test]
fn counts_from_eight_threads() -> Result<()> {
    let _turn = turn();
    count("counting, 8 threads", Observation::start(workload("8")?, Load::Storm, &[])?)
}

/// As the above with every backend that the file of expected results calls available.
#[test]
fn counts_in_a_storm_on_each_backend() -> Result<()> {
    let _turn = turn();
    for backend in crate::backends::available()? {
        count("storm, 8 threads", Observation::start_with(backend, workload("8")?, Load::Storm)?)?;
    }
    Ok(())
}
