//! What runs on is evaluated by growth.

use super::{check, ends, ran};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Killed, TIMEOUT, fdtrace, finish, say, turn};
use std::{
    path::Path,
    process::{Command, Stdio},
};

const BASH: &str = "/bin/bash";

/// A script in the background.
fn service(script: &str) -> Result<Killed> {
    let mut command = Command::new(BASH);
    command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
    Ok(Killed(command.spawn().context("no bash")?))
}

#[test]
fn that_leak_and_that_do_not() -> Result<()> {
    let _turn = turn();
    if !Path::new(BASH).exists() {
        say("no bash here");
        return Ok(());
    }
    // The shell's own `read` waits without a process that would have to be started.
    let pause = "read -t 0.02 <> <(:) || :";
    for (work, status, word) in
        [("exec {kept}</dev/null", 23, "LEAK"), ("exec {held}</dev/null; exec {held}<&-", 0, "no leak")]
    {
        let service = service(&format!("while :; do {work}; {pause}; done"))?;
        let pid = service.0.id().to_string();
        let mut command = Command::new(fdtrace()?);
        command.args(["check", "--pid", &pid, "--duration", "5s"]);
        let finished = finish(&mut command, TIMEOUT)?;
        ends(&finished, status, word).with_context(|| work.to_owned())?;
        // It has been there before anybody looked, and has a name all the same.
        ensure!(status == 0 || finished.stderr.contains(&format!("in bash ({pid}, ")), "{}", finished.stderr);
    }
    Ok(())
}

/// What it closes when it is told to end is no merit, and the numbers are those of the moment before.
#[test]
fn one_that_closes_all_at_its_end() -> Result<()> {
    let _turn = turn();
    if !Path::new(BASH).exists() {
        say("no bash here");
        return Ok(());
    }
    let script = "trap 'for fd in \"${kept[@]}\"; do exec {fd}<&-; done; exit 0' TERM; \
                  while :; do exec {fd}</dev/null; kept+=($fd); read -t 0.02 <> <(:) || :; done";
    let finished = ran(&mut check(&["--until", "sleep 5"], &[BASH, "-c", script])?)?;
    ends(&finished, 23, "not closed while it ran")?;
    ensure!(finished.stderr.contains("which ran until it was told to end: "), "{}", finished.stderr);
    ensure!(!finished.stderr.contains(" 0 "), "{}", finished.stderr);
    Ok(())
}
