//! A command that is run to be recorded.

use super::{fails, replay::held_by};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{
    Document, Recorder, Scratch, TIMEOUT, Workload, finish, record, report, turn, workload,
};
use std::{ffi::OsStr, fs, io::Write as _, path::Path};

#[test]
fn its_status_is_the_tracers() -> Result<()> {
    let _turn = turn();
    for (line, status) in [("exit 0", 0), ("exit 3", 3), ("raise 9", 128 + 9), ("raise 15", 128 + 15)] {
        let mut command = Commanded::start(&["kept=1"])?;
        command.say(line)?;
        let Commanded { recorder, scratch } = command;
        let finished = recorder.end()?;
        ensure!(finished.status.code() == Some(status), "{line}: {}, {}", finished.status, finished.stderr);
        let report = report(&scratch.path().join("trace"))?;
        ensure!(report.stderr.is_empty(), "{line}: {}", report.stderr);
    }
    Ok(())
}

#[test]
fn a_command_that_is_not_there() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let mut command = record(&scratch.path().join("trace"))?;
    fails(&finish(command.args(["--", "/no/such/command"]), TIMEOUT)?, "/no/such/command")
}

/// A workload as the command, driven through the recorder's standard input.
struct Commanded {
    recorder: Recorder,
    scratch: Scratch,
}

impl Commanded {
    fn start(steps: &[&str]) -> Result<Self> {
        let scratch = Scratch::new()?;
        let directory = scratch.path().join("directory");
        fs::create_dir(&directory)?;
        let program = workload()?;
        let command = [OsStr::new("--"), program.as_os_str(), "--dir".as_ref(), directory.as_os_str()];
        let command = command.into_iter().chain(steps.iter().map(OsStr::new));
        let recorder = Recorder::start(&scratch.path().join("trace"), command)?;
        Ok(Self { recorder, scratch })
    }

    fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.recorder.stdin.as_mut().context("no standard input")?;
        writeln!(stdin, "{line}").context("the command has ended")
    }
}

#[test]
fn its_handles_are_recorded_and_no_others() -> Result<()> {
    let _turn = turn();
    let mut storm = Workload::start(["--repeat", "pairs=1000"])?;
    storm.repeat()?;
    let mut commanded = Commanded::start(&["kept=40", "exit-children=5", "pipes=3"])?;
    commanded.say("go")?;
    let held = |document: &Document| document.handles.live >= 46;
    let alive = commanded.recorder.wait_for(TIMEOUT / 2, held)?.document;
    let pid = the_only_process(&alive)?;
    ensure!(held_by(&alive, pid) >= 46, "{} handles of {pid}: {:?}", held_by(&alive, pid), alive.sites);
    commanded.say("end")?;
    let Commanded { recorder, scratch } = commanded;
    let finished = recorder.end()?;
    ensure!(finished.status.code() == Some(0), "{}: {}", finished.status, finished.stderr);
    ensure!(finished.stdout.contains("\"live\":46"), "its output is its own: {}", finished.stdout);
    let noise = storm.stop()?;
    after(&scratch.path().join("trace"), noise.allocated)
}

/// All that lives was allocated by one process.
fn the_only_process(document: &Document) -> Result<u32> {
    let mut pids: Vec<u32> =
        document.sites.iter().flat_map(|site| &site.processes).map(|process| process.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    ensure!(pids.len() == 1, "handles of {pids:?}");
    Ok(pids[0])
}

/// The command is gone, and what it held; a site of another process would have a thousand handles.
fn after(file: &Path, noise: u64) -> Result<()> {
    let finished = finish(
        std::process::Command::new(fdtrace_tests::harness::fdtrace()?)
            .args(["report", "--all", "--json"])
            .arg(file),
        TIMEOUT,
    )?;
    let document = Document::parse(&finished.stdout).with_context(|| finished.stderr.clone())?;
    ensure!(document.handles.live == 0, "{} handles outlive the command", document.handles.live);
    let most = document.sites.iter().map(|site| site.allocated).max().unwrap_or_default();
    ensure!((40..500).contains(&most), "the largest site made {most} handles");
    let allocated = document.trace.events.allocated;
    ensure!((61..1000).contains(&allocated), "{allocated} handles, {noise} were made by another process");
    ensure!(noise >= 1000, "the other process made no noise");
    Ok(())
}
