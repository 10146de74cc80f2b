//! What runs on is judged by growth.

use super::ends;
use anyhow::{Context as _, Result};
use fdtrace_tests::harness::{Killed, PATIENCE, fdtrace, finish, say, turn};
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
        ends(&finish(&mut command, PATIENCE)?, status, word).with_context(|| work.to_owned())?;
    }
    Ok(())
}
