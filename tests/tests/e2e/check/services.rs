//! What runs on is judged by growth.

use super::ends;
use anyhow::{Context as _, Result};
use fdtrace_tests::harness::{PATIENCE, fdtrace, finish, say, turn};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

const BASH: &str = "/bin/bash";

/// A script in the background; killed when the test lets go of it.
struct Service(Child);

impl Service {
    fn start(script: &str) -> Result<Self> {
        let mut command = Command::new(BASH);
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn().context("no bash")?))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
        let service = Service::start(&format!("while :; do {work}; {pause}; done"))?;
        let pid = service.0.id().to_string();
        let mut command = Command::new(fdtrace()?);
        command.args(["check", "--pid", &pid, "--duration", "5s"]);
        ends(&finish(&mut command, PATIENCE)?, status, word).with_context(|| work.to_owned())?;
    }
    Ok(())
}
