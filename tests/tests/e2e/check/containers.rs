//! In PID namespaces, where a process has another number than the kernel's.

use super::{CLEAN, LEAK, check, check_script, ends, workload_in};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{
    Finished, Scratch, TIMEOUT, fdtrace, finish, finish_with, in_own_processes, possible, turn,
    unless_refused, until_sure,
};
use std::process::Command;

/// The first process of a container, as an entry point is.
fn first(command: &mut Command, input: std::process::Stdio) -> Result<Option<Finished>> {
    possible("namespaces", unless_refused(finish_with(in_own_processes(command), input, TIMEOUT)))
}

#[test]
fn verdicts_are_the_same() -> Result<()> {
    let _turn = turn();
    for (step, line, status, word) in [
        (CLEAN, "exit 0", 0, "no leak"),
        (LEAK, "exit 0", 23, "LEAK"),
        (CLEAN, "exit 7", 7, "no leak"),
        (CLEAN, "raise 15", 143, "no leak"),
    ] {
        let scratch = Scratch::new()?;
        let (mut command, input) = workload_in(&scratch, &[], step, line)?;
        let Some(finished) = first(&mut command, input.into())? else { return Ok(()) };
        ends(&finished, status, word).with_context(|| format!("{step} {line}"))?;
    }
    Ok(())
}

/// The first process is everybody's parent in the end.
#[test]
fn orphans_are_taken_in() -> Result<()> {
    let _turn = turn();
    // An emulated machine may need seconds to take them in.
    let script = "for i in 1 2 3; do (sleep 0.2 &); done; sleep 1; \
                  zombies() { grep -l '(zombie)' /proc/[0-9]*/status; }; \
                  for i in 1 2 3 4 5 6 7 8 9 10; do zombies >/dev/null || exit 6; sleep 1; done; zombies; exit 6";
    let run = || match check_script(&[], script)? {
        Some(mut command) => first(&mut command, std::process::Stdio::null()),
        None => Ok(None),
    };
    let Some(finished) = until_sure(run)? else { return Ok(()) };
    ends(&finished, 6, "no leak")?;
    ensure!(finished.stdout.is_empty(), "zombies: {}", finished.stdout);
    Ok(())
}

/// What the command starts in namespaces of its own is the command's as well.
#[test]
fn commands_that_make_namespaces() -> Result<()> {
    let _turn = turn();
    for apart in [false, true] {
        let scratch = Scratch::new()?;
        let (mut command, input) = workload_in(&scratch, &[], LEAK, "exit 0")?;
        command.arg("--namespaces");
        let finished = if apart {
            let Some(finished) = first(&mut command, input.into())? else { return Ok(()) };
            finished
        } else {
            finish_with(&mut command, input.into(), TIMEOUT)?
        };
        if finished.stdout.contains("not_possible") {
            return Ok(());
        }
        ends(&finished, 23, "LEAK").with_context(|| format!("in a namespace itself: {apart}"))?;
    }
    Ok(())
}

#[test]
fn one_in_another() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    for (step, status, words) in [(CLEAN, 5, ["no leak", "no leak"]), (LEAK, 23, ["LEAK", "LEAK"])] {
        let inner = Scratch::new()?;
        let json = scratch.path().join("outer.json");
        let (command, input) = workload_in(&inner, &[], step, "exit 5")?;
        let mut outer = Command::new(fdtrace()?);
        outer
            .args(["check", "--json-out"])
            .arg(&json)
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        let finished = finish_with(&mut outer, input.into(), TIMEOUT)?;
        for word in words {
            ends(&finished, status, word)?;
        }
        // The outer one says nothing of the inner one itself.
        let sites = finished.stderr.matches("fdtrace::").count();
        ensure!(sites == 0, "{}", finished.stderr);
    }
    Ok(())
}

/// A `/proc` of another namespace has other processes at the same numbers.
#[test]
fn a_proc_of_somebody_else() -> Result<()> {
    let _turn = turn();
    if !std::path::Path::new("/usr/bin/unshare").exists() {
        return Ok(());
    }
    let inner = check(&[], &["/bin/true"])?;
    let mut command = Command::new("/usr/bin/unshare");
    command.arg("-pf").arg(inner.get_program()).args(inner.get_args());
    ends(&finish(&mut command, TIMEOUT)?, 125, "mount -t proc")
}
