//! One program, debugged and recorded at once.

use super::{
    chains::{self, Chain, Place},
    subjects::Prepared,
};
use crate::run;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::{
    fs,
    io::Write as _,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What gdb runs.
const SCRIPT: &str = include_str!("chains.py");
/// How long a program may take, stopped at each call.
const PATIENCE: Duration = Duration::from_secs(300);

/// A line that the script writes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Process { pid: i32 },
    Chain { handles: u64, frames: Vec<Place> },
}

/// gdb with the program, and fdtrace.
pub(super) struct Session {
    gdb: Running,
    recorder: Running,
    fdtrace: PathBuf,
    /// What gdb found.
    found: PathBuf,
    trace: PathBuf,
    program: Pid,
}

/// A process that does not outlive its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, which is what is wanted. gdb takes its program with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn wait(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        wait_for("its end", || {
            status = self.0.try_wait()?;
            Ok(status.is_some())
        })?;
        status.context("it has not ended")
    }
}

impl Session {
    /// Starts the program under gdb, stops it at its first instruction, and begins to record.
    pub(super) fn start(fdtrace: &Path, prepared: &Prepared, scratch: &Path) -> Result<Self> {
        let (script, found, trace) =
            (scratch.join("chains.py"), scratch.join("chains"), scratch.join("trace"));
        fs::write(&script, SCRIPT)?;
        fs::write(&found, "")?;
        chown(&found, prepared.user, prepared.user)?;
        let mut gdb = start_gdb(prepared, scratch, &script, &found)?;
        wait_for("gdb to start the program", || {
            ensure!(gdb.0.try_wait()?.is_none(), "gdb has ended");
            Ok(fs::read_to_string(&found)?.ends_with('\n'))
        })?;
        let program = read(&found)?.0;
        let mut record = Command::new(fdtrace);
        record
            .args(["record", "--no-mappings", "-o"])
            .arg(&trace)
            .args(["-p", &program.as_raw_nonzero().to_string()]);
        let mut recorder = Running(record.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?);
        wait_for("fdtrace to record", || {
            ensure!(recorder.0.try_wait()?.is_none(), "fdtrace has ended");
            Ok(fs::metadata(&trace).is_ok_and(|found| found.len() > 0))
        })?;
        Ok(Self { gdb, recorder, fdtrace: fdtrace.to_owned(), found, trace, program })
    }

    /// Lets the program run to its end; gives the chains that gdb found, and those of fdtrace.
    pub(super) fn run(mut self, prepared: &Prepared) -> Result<(Vec<Chain>, Vec<Chain>)> {
        let mut input = self.gdb.0.stdin.take().context("gdb has no standard input")?;
        input.write_all(b"\n")?;
        input.write_all(prepared.input.as_bytes())?;
        drop(input);
        (prepared.act)(self.program)?;
        ensure!(self.gdb.wait()?.success(), "gdb failed");
        kill_process(Pid::from_child(&self.recorder.0), Signal::INT)?;
        ensure!(self.recorder.wait()?.success(), "fdtrace record failed");
        let report =
            run::output(Command::new(&self.fdtrace).args(["report", "--all", "--json"]).arg(&self.trace))?;
        Ok((read(&self.found)?.1, chains::of_document(&report)?))
    }
}

fn start_gdb(prepared: &Prepared, scratch: &Path, script: &Path, found: &Path) -> Result<Running> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-quiet", "-batch", "-iex", "set auto-load python-scripts off", "-x"])
        .arg(script)
        .arg("--args")
        .args(&prepared.command)
        .current_dir(scratch)
        .env("CHAINS", found)
        .env("HOME", scratch)
        .env("LC_ALL", "C")
        .env_remove("DEBUGINFOD_URLS")
        .stdin(Stdio::piped())
        .stdout(fs::File::create(scratch.join("output"))?);
    if let Some(user) = prepared.user {
        gdb.uid(user).gid(user);
    }
    Ok(Running(gdb.spawn().context("cannot run gdb")?))
}

/// What gdb wrote: which process it runs, and what it saw.
fn read(found: &Path) -> Result<(Pid, Vec<Chain>)> {
    let (mut pid, mut chains) = (None, Vec::new());
    for line in fs::read_to_string(found)?.lines() {
        match serde_json::from_str(line)? {
            Line::Process { pid: process } => pid = Pid::from_raw(process),
            Line::Chain { handles, frames } => {
                chains::add(&mut chains, Chain { frames, complete: true, count: handles });
            }
        }
    }
    Ok((pid.context("gdb started nothing")?, chains))
}

/// Waits until something is so.
pub(super) fn wait_for(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > deadline {
            bail!("waited in vain for {what}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
