//! Runs a program, alone and under the check.

use super::{
    Program, Run,
    build::{file_name, marked_lines},
    evaluate::Report,
};
use crate::harness::{Scratch, again_while, backend, collect, is_unsure, unwind};
use anyhow::{Context as _, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::{
    ffi::OsStr,
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// How long one run may take, on the slowest machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A program in the folder of those that were compiled.
#[derive(Clone, Debug)]
pub struct Place {
    /// The program and what comes before its arguments.
    pub command: Vec<PathBuf>,
    /// Name of its source.
    pub source: String,
    /// Lines of it where a handle is made that is not released.
    pub lines: Vec<u32>,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit status, or 128 + n when signal n killed it.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it took.
    pub time: Duration,
}

impl Place {
    /// Where a program is; nothing when it was not built.
    ///
    /// # Errors
    /// When its source is not beside it.
    pub fn of(program: &Program, directory: &Path) -> Result<Option<Self>> {
        let folder = directory.join(&program.name);
        let source = file_name(&program.file)?;
        let path = folder.join(&source);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let language = program.language();
        let command = match language.is_compiled() {
            true => vec![folder.join(&program.name)],
            false => vec![language.command().into(), path],
        };
        Ok(Some(Self { command, source, lines: marked_lines(&text) }))
    }

    fn words<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = &'a OsStr> {
        self.command.iter().map(|word| word.as_os_str()).chain(run.args.iter().map(OsStr::new))
    }
}

/// Runs a program as it is.
///
/// # Errors
/// When it does not end.
pub fn plain(place: &Place, run: &Run) -> Result<Ended> {
    timed(Command::new(&place.command[0]).args(place.words(run).skip(1)))
}

/// Runs a program under the check; once more where the kernel skipped something.
///
/// # Errors
/// When the check does not end, or reports nothing that can be read.
pub fn checked(fdtrace: &Path, place: &Place, run: &Run) -> Result<(Ended, Report)> {
    let skipped = |(ended, _): &(Ended, Report)| is_unsure(Some(ended.status), &ended.stderr);
    again_while(skipped, || checked_once(fdtrace, place, run))
}

fn checked_once(fdtrace: &Path, place: &Place, run: &Run) -> Result<(Ended, Report)> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("check.json");
    let mut command = Command::new(fdtrace);
    command.arg("check").args(&run.options).arg("--json-out").arg(&file);
    match backend().as_str() {
        "auto" => {}
        backend => drop(command.args(["--backend", backend])),
    }
    command.args(unwind(std::iter::empty())).arg("--").args(place.words(run));
    let ended = timed(&mut command)?;
    let say = || format!("status {}, and on standard error: {}", ended.status, ended.stderr.trim());
    let text = fs::read_to_string(&file).with_context(say)?;
    let report = Report::parse(&text).with_context(|| text.chars().take(600).collect::<String>())?;
    Ok((ended, report))
}

/// Runs a command to its end, and measures how long it takes.
///
/// # Errors
/// When it cannot be started or does not end; it is killed then.
pub fn timed(command: &mut Command) -> Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let stdout = collect(child.stdout.take().context("no standard output")?);
    let stderr = collect(child.stderr.take().context("no standard error")?);
    let status = wait(&mut child).with_context(|| format!("{command:?}"))?;
    let time = start.elapsed();
    Ok(Ended {
        status: status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1),
        stdout: stdout.text(),
        stderr: stderr.text(),
        time,
    })
}

/// Waits without looking again and again: that would be most of what is measured.
fn wait(child: &mut Child) -> Result<ExitStatus> {
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).context("no pidfd")?;
    let patience = Timespec::try_from(TIMEOUT).context("a time span")?;
    let mut ends = [PollFd::new(&end, PollFlags::IN)];
    if poll(&mut ends, Some(&patience))? == 0 {
        // Both fail only when the process is gone already.
        let _ = child.kill();
        let _ = child.wait();
        bail!("still running after {TIMEOUT:?}");
    }
    Ok(child.wait()?)
}
