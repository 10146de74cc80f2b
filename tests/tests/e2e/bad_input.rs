//! What cannot be done is refused with a sentence.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Finished, NOBODY, Scratch, TIMEOUT, fdtrace, finish, gone_process, turn};
use std::{os::unix::process::CommandExt as _, process::Command};

fn live(arguments: &[&str]) -> Result<Finished> {
    finish(Command::new(fdtrace()?).args(["live", "--json", "--count", "1"]).args(arguments), TIMEOUT)
}

/// One sentence on standard error that has a word in it, and nothing on standard output.
fn refuses(finished: &Finished, word: &str) -> Result<()> {
    let Finished { status, stdout, stderr } = finished;
    ensure!(matches!(status.code(), Some(1 | 2)), "{status}: {stderr}");
    ensure!(stdout.is_empty(), "standard output: {stdout}");
    ensure!(stderr.contains(word), "{word} is not in: {stderr}");
    ensure!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    Ok(())
}

#[test]
fn a_process_that_is_gone() -> Result<()> {
    let _turn = turn();
    let gone = gone_process()?;
    let finished = live(&["-p", &gone])?;
    refuses(&finished, &gone)?;
    let lines = finished.stderr.lines().filter(|line| !line.trim().is_empty()).count();
    ensure!(lines == 1, "not one sentence: {}", finished.stderr);
    Ok(())
}

#[test]
fn words_that_do_not_exist() -> Result<()> {
    let _turn = turn();
    for (option, word) in
        [("--kind", "dance"), ("--origin", "dance"), ("--backend", "dance"), ("-p", "dance")]
    {
        refuses(&live(&[option, word])?, word).with_context(|| format!("{option} {word}"))?;
    }
    Ok(())
}

#[test]
fn numbers_that_make_no_sense() -> Result<()> {
    let _turn = turn();
    for (option, word) in [
        ("--interval", "soon"),
        ("--ring-size", "5X"),
        ("--max-handles", "0"),
        ("--cgroup", "/no/such/cgroup"),
    ] {
        refuses(&live(&[option, word])?, word).with_context(|| format!("{option} {word}"))?;
    }
    Ok(())
}

/// The missing capability is named, and nothing is half done.
#[test]
fn not_root() -> Result<()> {
    let _turn = turn();
    // The target directory may be closed to other users.
    let scratch = Scratch::new()?;
    let mut command = Command::new(scratch.copy(&fdtrace()?)?);
    command.args(["live", "--json", "--count", "1"]).uid(NOBODY).gid(NOBODY).current_dir("/");
    let finished = finish(&mut command, TIMEOUT)?;
    ensure!(finished.status.code() == Some(1), "{}: {}", finished.status, finished.stderr);
    refuses(&finished, "CAP_BPF")
}

/// Also without rights, `doctor` says what is missing.
#[test]
fn doctor_without_rights() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let mut command = Command::new(scratch.copy(&fdtrace()?)?);
    command.arg("doctor").uid(NOBODY).gid(NOBODY).current_dir("/");
    let finished = finish(&mut command, TIMEOUT)?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    ensure!(said.contains("CAP_BPF") && !said.contains("panicked"), "{}: {said}", finished.status);
    Ok(())
}
