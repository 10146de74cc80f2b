//! A system that does not stand still.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Explained, PATIENCE, Workload, explain_command, say, turn};

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
    ensure!(longest < PATIENCE / 2, "one look took {longest:?}");
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
