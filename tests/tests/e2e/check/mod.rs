//! The gate: what it says of programs, and what it does to them.

mod bad_input;
mod behaves;
mod containers;
mod corpus;
mod impostors;
mod inputs;
mod outputs;
mod scopes;
mod services;
mod signals;
mod stages;
mod statuses;
mod streams;

use anyhow::{Context as _, Result, bail, ensure};
use fdtrace_tests::harness::{
    Finished, Killed, Scratch, TIMEOUT, fdtrace, finish_with, lines, say, workload,
};
use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError},
};

/// More than a site may keep.
const LEAK: &str = "kept=20";
const CLEAN: &str = "pairs=20";

/// The check of a command.
fn check(options: &[&str], words: &[&str]) -> Result<Command> {
    let mut command = Command::new(fdtrace()?);
    command.arg("check").args(options);
    if let Some(backend) = std::env::var_os("FDTRACE_BACKEND").filter(|backend| backend != "auto") {
        command.arg("--backend").arg(backend);
    }
    command.arg("--").args(words);
    Ok(command)
}

/// The check of a shell script; nothing where there is no shell.
fn check_script(options: &[&str], script: &str) -> Result<Option<Command>> {
    if !Path::new("/bin/sh").exists() {
        say("no /bin/sh here");
        return Ok(None);
    }
    check(options, &["/bin/sh", "-c", script]).map(Some)
}

fn ran(command: &mut Command) -> Result<Finished> {
    finish_with(command, Stdio::null(), TIMEOUT)
}

/// The check of a workload that takes a step, and then obeys another line.
fn work(options: &[&str], step: &str, last: &str) -> Result<Finished> {
    let scratch = Scratch::new()?;
    let (mut command, input) = workload_in(&scratch, options, step, last)?;
    finish_with(&mut command, input.into(), TIMEOUT)
}

fn workload_in(scratch: &Scratch, options: &[&str], step: &str, last: &str) -> Result<(Command, File)> {
    let path = |name: &str| scratch.path().join(name);
    fs::create_dir(path("files"))?;
    fs::write(path("input"), format!("go\n{last}\n"))?;
    let mut command = check(options, &[])?;
    command.arg(workload()?).arg("--dir").arg(path("files")).arg(step);
    Ok((command, File::open(path("input"))?))
}

/// It ended with this status, and said this on standard error.
fn ends(finished: &Finished, status: i32, word: &str) -> Result<()> {
    let Finished { status: ended, stdout, stderr } = finished;
    ensure!(ended.code() == Some(status), "{ended} instead of {status}: {stdout}, {stderr}");
    ensure!(stderr.contains(word), "{word} is not in: {stderr}");
    ensure!(!stderr.contains("panicked"), "{stderr}");
    Ok(())
}

/// A check that runs.
struct Running {
    child: Killed,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = Killed(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        let lines = lines(child.0.stdout.take().context("no standard output")?);
        Ok(Self { child, lines })
    }

    /// The next line of the command; empty at its end.
    fn line(&mut self) -> Result<String> {
        match self.lines.recv_timeout(TIMEOUT) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Disconnected) => Ok(String::new()),
            Err(RecvTimeoutError::Timeout) => bail!("the command says nothing"),
        }
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.child.0.stdin.as_mut().context("no standard input")?;
        writeln!(input, "{line}").context("nobody reads")
    }

    fn status(mut self) -> Result<Option<i32>> {
        drop(self.child.0.stdin.take());
        Ok(self.child.wait(TIMEOUT)?.code())
    }
}
