//! Questions about a part.

use anyhow::{Context as _, Result, ensure};
use fdtrace::model::explain::ProcessLine as ExplainedProcess;
use fdtrace_tests::harness::{Workload, alone, explain, turn};

fn workload(steps: &[&str]) -> Result<Workload> {
    let started = Workload::start_if_possible("focus", steps.iter().copied())?;
    started.context("it is not expected to be refused")
}

fn files(process: Option<&ExplainedProcess>) -> u64 {
    process.iter().flat_map(|process| &process.files).map(|file| file.count).sum()
}

/// Disk space that nobody can find by a name.
#[test]
fn deleted_files_and_their_bytes() -> Result<()> {
    let _turn = turn();
    let mut workload = workload(&["deleted=30", "kept=10"])?;
    let before = explain(["--deleted"])?;
    let truth = workload.go()?;
    let after = explain(["--deleted"])?;
    let process = after.process(workload.pid()).context("not there")?;
    ensure!(process.files.iter().all(|file| file.deleted), "asked for the deleted: {:?}", process.files);
    let had = files(before.process(workload.pid()));
    ensure!(files(Some(process)) == had + truth.deleted.handles, "{:?}, {:?}", truth.deleted, process.files);
    let bytes: u64 = process.files.iter().map(|file| file.bytes).sum();
    ensure!(bytes == truth.deleted.bytes, "{:?}, {bytes} bytes: {:?}", truth.deleted, process.files);
    if alone() {
        let (handles, bytes) = (
            after.deleted.handles - before.deleted.handles,
            after.deleted.bytes.checked_sub(before.deleted.bytes),
        );
        ensure!(
            (handles, bytes) == (truth.deleted.handles, Some(truth.deleted.bytes)),
            "{:?}",
            after.deleted
        );
    }
    Ok(())
}

/// The peer has closed, we have not, and what it said waits: 17 bytes, and one that stands for the end in the kernel's own
/// count.
#[test]
fn connections_that_wait_to_be_closed() -> Result<()> {
    let _turn = turn();
    let mut workload = workload(&["close-wait=15", "tcp-connections=5"])?;
    workload.go()?;
    let document = explain(["--sockets", "close_wait"])?;
    let process = document.process(workload.pid()).context("not there")?;
    ensure!(files(Some(process)) == 15, "{:?}", process.files);
    for file in &process.files {
        ensure!(file.kind.starts_with("socket"), "{file:?}");
        let state = file.state.as_deref().unwrap_or_default();
        ensure!(state.eq_ignore_ascii_case("close_wait"), "{file:?}");
        let receive = file.queue.context("no queue")?.receive;
        ensure!((17..=18).contains(&(receive / file.count)), "{file:?}");
        ensure!(file.name.contains("127.0.0.1"), "no address: {file:?}");
    }
    Ok(())
}

/// What a program was given and does not know of.
#[test]
fn descriptors_that_came_over_exec() -> Result<()> {
    let _turn = turn();
    let mut workload = workload(&["inherited=12", "kept=10"])?;
    let truth = workload.go()?;
    let document = explain(["--inherited"])?;
    let child = truth.pids().into_iter().find(|pid| *pid != workload.pid()).context("no child")?;
    ensure!(files(document.process(child)) == 12, "{:?}", document.process(child));
    let own = document.process(workload.pid()).map(|process| &process.files);
    let kept = own.into_iter().flatten().find(|file| file.name.ends_with("/file"));
    ensure!(kept.is_none(), "these close on exec, and nothing was: {kept:?}");
    Ok(())
}

#[test]
fn one_process() -> Result<()> {
    let _turn = turn();
    let mut workload = workload(&["kept=40", "pipes=5"])?;
    workload.go()?;
    let document = explain(["--pid", &workload.pid().to_string()])?;
    let pids: Vec<_> = document.processes.iter().map(|process| process.pid).collect();
    ensure!(pids == [workload.pid()], "{pids:?}");
    Ok(())
}

#[test]
fn one_kind_and_one_holder() -> Result<()> {
    let _turn = turn();
    let mut workload = workload(&["kept=40", "pipes=5", "eventfd=7", "scm-rights=9"])?;
    let pid = workload.pid();
    let count = |arguments: &[&str]| -> Result<u64> {
        let document = explain(arguments.iter().copied())?;
        Ok(files(document.process(pid)))
    };
    let questions: [(&[&str], u64); 4] = [
        (&["--kind", "fifo"], 10),
        (&["--kind", "anon"], 7),
        (&["--holder", "scm_rights"], 9),
        (&["--hidden", "--holder", "scm_rights"], 9),
    ];
    let before: Vec<_> = questions.iter().map(|(question, _)| count(question)).collect::<Result<_>>()?;
    workload.go()?;
    for ((question, new), before) in questions.into_iter().zip(before) {
        let after = count(question)?;
        ensure!(after == before + new, "{question:?}: {before}, and {new} more; {after}");
    }
    Ok(())
}
