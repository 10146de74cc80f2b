//! However the tracer ends, it ends cleanly and leaves nothing in the kernel.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{TIMEOUT, Tracer, bpf_ids, fdtrace, say, turn};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio, id},
    thread,
    time::{Duration, Instant},
};

#[test]
fn sigint_gives_a_last_document() -> Result<()> {
    let _turn = turn();
    // An interval that does not end by itself while this test runs.
    let tracer = Tracer::start(["-p", &id().to_string(), "--interval", "600s"])?;
    let ended = tracer.interrupt()?;
    ensure!(ended.status.code() == Some(0), "{}: {}", ended.status, ended.stderr);
    ended.last.context("no document after SIGINT")?;
    Ok(())
}

#[test]
fn sigterm_and_count_end_it_too() -> Result<()> {
    let _turn = turn();
    let tracer = Tracer::start(["-p", &id().to_string(), "--interval", "600s"])?;
    tracer.signal(Signal::TERM)?;
    tracer.next().context("no document after SIGTERM")?;

    let command = ["live", "--json", "--interval", "300ms", "--count", "2", "-p", &id().to_string()];
    let finished = fdtrace_tests::harness::finish(Command::new(fdtrace()?).args(command), TIMEOUT)?;
    ensure!(finished.status.code() == Some(0), "{}: {}", finished.status, finished.stderr);
    ensure!((2..=3).contains(&finished.stdout.lines().count()), "{}", finished.stdout);
    Ok(())
}

#[test]
fn a_broken_pipe_ends_quietly() -> Result<()> {
    let _turn = turn();
    let mut command = Command::new(fdtrace()?);
    command.args(["live", "--json", "--interval", "300ms", "-p", &id().to_string()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut first = String::new();
    BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut first)?;
    // The reader is gone now.
    let deadline = Instant::now() + TIMEOUT;
    while child.try_wait()?.is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    let ended = child.try_wait()?;
    // Fails only when it has ended.
    let _ = child.kill();
    child.wait()?;
    let mut stderr = String::new();
    child.stderr.take().context("no standard error")?.read_to_string(&mut stderr)?;
    let status = ended.context("it runs on without a reader")?;
    ensure!(status.code() == Some(0), "{status}: {stderr}");
    ensure!(stderr.is_empty(), "not quiet: {stderr}");
    Ok(())
}

#[test]
fn kill_leaves_nothing_in_the_kernel() -> Result<()> {
    let _turn = turn();
    let tracer = Tracer::start(["-p", &id().to_string()])?;
    let held = bpf_ids::held_by(tracer.pid())?;
    ensure!(held.iter().any(|(kind, _)| *kind == "prog_id"), "no program at all? {held:?}");
    let listed = bpf_ids::all()?;
    ensure!(held.is_subset(&listed), "the kernel does not list {:?}", held.difference(&listed));
    let pid = Pid::from_raw(tracer.pid().cast_signed()).context("a process id")?;
    kill_process(pid, Signal::KILL)?;
    tracer.kill();
    // The kernel frees them after grace periods.
    let deadline = Instant::now() + TIMEOUT / 4;
    let mut left = held.clone();
    while !left.is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(100));
        left = held.intersection(&bpf_ids::all()?).copied().collect();
    }
    say(&format!("{} programs, maps and links, {} left after SIGKILL", held.len(), left.len()));
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
