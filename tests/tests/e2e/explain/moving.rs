//! A system that does not stand still.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{
    Churn, Explained, TIMEOUT, Workload, alone, explain, explain_command, possible, say, turn,
};
use std::ops::RangeInclusive;

/// Looks again and again while a workload repeats its steps: it always ends, without complaint.
fn looks_while(arguments: &[&str]) -> Result<()> {
    let started = Workload::start_if_possible("moving", arguments.iter().copied())?;
    let mut workload = started.context("it is not expected to be refused")?;
    workload.repeat()?;
    let mut longest = std::time::Duration::ZERO;
    for _ in 0..5 {
        let explained = Explained::by(&mut explain_command(["--json"])?)?;
        let document = explained.document()?;
        ensure!(explained.finished.stderr.is_empty(), "{}", explained.finished.stderr);
        let found = document.process(workload.pid());
        ensure!(found.is_some(), "the workload is not in the document");
        let residual = &document.residual;
        ensure!(residual.min.is_some(), "no residual");
        say(&format!("{arguments:?}: {:?}, {:?}, {residual:?}", explained.time, document.file_nr));
        longest = longest.max(explained.time);
    }
    workload.stop()?;
    ensure!(longest < TIMEOUT / 2, "one sample took {longest:?}");
    Ok(())
}

/// Processes come and go during the walk.
#[test]
fn a_fork_storm() -> Result<()> {
    let _turn = turn();
    looks_while(&["--repeat", "forks=20", "exit-children=20", "exec-children=20", "kept=1"])
}

/// A hundred thousand opens and closes in a second.
#[test]
fn a_storm_of_opens() -> Result<()> {
    let _turn = turn();
    looks_while(&["--repeat", "--threads", "8", "pairs=20000"])
}

/// Queues and mappings that change while they are walked.
#[test]
fn holders_that_come_and_go() -> Result<()> {
    let _turn = turn();
    looks_while(&["--repeat", "passing=20", "kept=1"])
}

/// What was left over, in one sample.
fn left_over() -> Result<RangeInclusive<i64>> {
    let residual = explain([])?.residual.clone();
    let (min, max) = residual.min.zip(residual.max).context("no residual")?;
    Ok(min..=max)
}

fn meet(one: &RangeInclusive<i64>, other: &RangeInclusive<i64>) -> bool {
    one.start() <= other.end() && other.start() <= one.end()
}

/// What both ranges have, and what lies between them.
fn hull(one: &RangeInclusive<i64>, other: &RangeInclusive<i64>) -> RangeInclusive<i64> {
    *one.start().min(other.start())..=*one.end().max(other.end())
}

/// Looks before a range is tried, and looks while handles come and go.
const LOOKS: usize = 25;

/// What is left over of a machine does not depend on what comes and goes meanwhile: the range that is said then has what is
/// said before and after. Others use the machine too, so that is a range as well.
///
/// `passed_on` handles may be in nobody's hands meanwhile.
fn bounds<C>(what: &str, passed_on: i64, begin: impl FnOnce() -> Result<C>) -> Result<()> {
    let _turn = turn();
    let before = left_over()?;
    let Some(churn) = possible(what, begin())? else { return Ok(()) };
    let ranges = (0..LOOKS).map(|_| left_over()).collect::<Result<Vec<_>>>()?;
    drop(churn);
    let truth = hull(&before, &left_over()?);
    let truth = *truth.start()..=truth.end() + passed_on;
    let widths: Vec<i64> = ranges.iter().map(|range| range.end() - range.start()).collect();
    say(&format!("{what}: {truth:?}, widths {widths:?}"));
    let wrong: Vec<_> = ranges.iter().filter(|range| !meet(range, &truth)).collect();
    // Others may have what nobody sees for a moment.
    let most = if alone() { 0 } else { LOOKS / 5 };
    ensure!(wrong.len() <= most, "{} of {LOOKS} ranges miss {truth:?}: {wrong:?}", wrong.len());
    Ok(())
}

#[test]
fn the_range_beside_one_opener() -> Result<()> {
    bounds("one opener", 0, || Churn::of_openers(1))
}

#[test]
fn the_range_beside_two_openers() -> Result<()> {
    bounds("two openers", 0, || Churn::of_openers(2))
}

#[test]
fn the_range_beside_rings() -> Result<()> {
    bounds("rings", Churn::RING_FILES, Churn::of_rings)
}

#[test]
fn the_range_beside_a_fork_storm() -> Result<()> {
    bounds("forks", 0, || {
        let steps = ["--repeat", "forks=20", "exit-children=20", "exec-children=20", "kept=1"];
        let mut workload = Workload::start(steps)?;
        workload.repeat()?;
        Ok(workload)
    })
}
