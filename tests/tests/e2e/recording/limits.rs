//! Recordings that end by themselves, and disks that do.

use super::{fails, replay::held_by};
use anyhow::{Context as _, Result, ensure};
use fdtrace::model::Site;
use fdtrace_tests::harness::{
    Document, Finished, Recorder, Report, Scratch, SmallDisk, TIMEOUT, Workload, finish, record, report, turn,
};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::id,
    thread,
    time::{Duration, Instant},
};

/// A program that keeps a hundred files, and one that opens and closes without end.
struct Noise {
    recorder: Recorder,
    leak: Workload,
    storm: Workload,
}

impl Noise {
    fn start(file: &Path, options: &[&str]) -> Result<Self> {
        let mut leak = Workload::start(["kept=100"])?;
        let mut storm = Workload::start(["--repeat", "--threads", "2", "pairs=1000", "failed=200"])?;
        let pids = [leak.pid().to_string(), storm.pid().to_string()];
        let arguments =
            ["-p", &pids[0], "-p", &pids[1]].into_iter().chain(options.iter().copied()).map(OsStr::new);
        let recorder = Recorder::start(file, arguments)?;
        leak.go()?;
        // A file that is put aside before the place is known cannot tell it.
        recorder.wait_for(TIMEOUT / 4, |document| kept_at(document, &leak).is_some_and(has_stack))?;
        storm.repeat()?;
        Ok(Self { recorder, leak, storm })
    }
}

fn keeps(report: &Report, leak: &Workload) -> Result<()> {
    let held = held_by(&report.document, leak.pid());
    ensure!(held == 100, "{held} of 100 kept files: {:?}, {}", report.stderr, report.json["handles"]);
    let site = kept_at(&report.document, leak).context("not at one site")?;
    ensure!(has_stack(site), "without any stack: {site:?}");
    Ok(())
}

/// Where a workload has no frame pointers, the storm opens at the same site.
fn kept_at<'a>(document: &'a Document, leak: &Workload) -> Option<&'a Site> {
    let all = |site: &&Site| site.processes.iter().any(|row| row.pid == leak.pid() && row.live == 100);
    document.sites.iter().find(all)
}

fn has_stack(site: &Site) -> bool {
    !site.user_stack.is_empty() || !site.kernel_stack.is_empty()
}

/// The reason is reported, and nothing that was recorded is lost.
#[test]
fn a_disk_that_fills() -> Result<()> {
    let _turn = turn();
    let disk = SmallDisk::new(256 << 10)?;
    let file = disk.path().join("trace");
    let Noise { recorder, leak, mut storm } = Noise::start(&file, &[])?;
    let finished = recorder.end().context("a full disk does not end it")?;
    storm.stop()?;
    fails(&finished, "No space left on device")?;
    let report = report(&file)?;
    keeps(&report, &leak)?;
    ensure!(report.document.trace.events.allocated > 1000, "only {}", report.json["trace"]["events"]);
    Ok(())
}

/// A command is waited for, and its status passed on; what is looked at goes on.
#[test]
fn a_disk_that_fills_ends_the_trace_alone() -> Result<()> {
    let _turn = turn();
    let burst = "n=0; while [ $n -lt 200 ]; do : </dev/null; : >/dev/null; n=$((n+1)); done";
    let storm = format!("i=0; while [ $i -lt 30 ]; do {burst}; sleep 0.2; i=$((i+1)); done; exit 7");
    let disk = SmallDisk::new(28 << 10)?;
    let file = disk.path().join("trace");
    let finished = finish(record(&file)?.args(["--", "/bin/sh", "-c", &storm]), TIMEOUT)?;
    told_once(&finished, 7, &file)?;

    let disk = SmallDisk::new(28 << 10)?;
    let file = disk.path().join("trace");
    let mut storm = Workload::start(["--repeat", "--threads", "2", "pairs=1000", "failed=200"])?;
    storm.repeat()?;
    let mut live = std::process::Command::new(fdtrace_tests::harness::fdtrace()?);
    live.args(["live", "--min-age", "0s", "--interval", "500ms", "--count", "8", "--trace"]).arg(&file);
    let finished = finish(live.args(["-p", &storm.pid().to_string()]), TIMEOUT)?;
    storm.stop()?;
    told_once(&finished, 0, &file)
}

fn told_once(finished: &Finished, status: i32, file: &Path) -> Result<()> {
    let Finished { status: ended, stderr, .. } = finished;
    ensure!(ended.code() == Some(status), "{ended}: {stderr}");
    let told = stderr.matches("No space left on device").count();
    ensure!(told == 1, "told {told} times: {stderr}");
    report(file).map(drop)
}

#[test]
fn a_file_that_may_not_grow() -> Result<()> {
    const MAX: u64 = 256 << 10;
    let _turn = turn();
    let scratch = Scratch::new()?;
    let file = scratch.path().join("trace");
    let Noise { recorder, leak, mut storm } = Noise::start(&file, &["--max-size", "256K"])?;
    let Finished { status, stderr, .. } = recorder.end().context("a full file does not end it")?;
    storm.stop()?;
    ensure!(status.code() == Some(0), "{status}: {stderr}");
    ensure!(stderr.contains("--max-size"), "not told why: {stderr}");
    let size = fs::metadata(&file)?.len();
    ensure!((MAX / 2..=MAX).contains(&size), "{size} bytes of {MAX}");
    let report = report(&file)?;
    ensure!(report.stderr.is_empty(), "not whole: {}", report.stderr);
    keeps(&report, &leak)
}

#[test]
fn files_that_rotate() -> Result<()> {
    const MAX: u64 = 64 << 10;
    let _turn = turn();
    let scratch = Scratch::new()?;
    let file = scratch.path().join("trace");
    let part = |number: u32| PathBuf::from(format!("{}.{number}", file.display()));
    let options = ["--max-size", "64K", "--rotate", "3"];
    let Noise { recorder, leak, mut storm } = Noise::start(&file, &options)?;
    let first = inode(&file)?;
    // The first file has become the last, and then it is gone.
    until(|| Ok(part(2).exists() && inode(&part(2))? == first))?;
    until(|| Ok(inode(&part(2))? != first))?;
    storm.stop()?;
    let Finished { status, stderr, .. } = recorder.interrupt()?;
    ensure!(status.code() == Some(0), "{status}: {stderr}");
    ensure!(!part(3).exists(), "four files");
    for file in [&file, &part(1), &part(2)] {
        let size = fs::metadata(file)?.len();
        ensure!(size <= MAX, "{size} bytes in {}", file.display());
        let report = report(file)?;
        ensure!(report.stderr.is_empty(), "not whole: {}", report.stderr);
        keeps(&report, &leak).with_context(|| file.display().to_string())?;
    }
    let live = report(&file)?.document.handles.live;
    ensure!(live == 100, "{live} are alive in the newest, and not 100");
    Ok(())
}

fn inode(file: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(file)?.ino())
}

fn until(mut good: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !good()? {
        ensure!(Instant::now() < deadline, "the files do not rotate");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn a_recording_for_a_second() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let file = scratch.path().join("trace");
    let pid = id().to_string();
    let finished = finish(record(&file)?.args(["-p", &pid, "--duration", "1s"]), TIMEOUT)?;
    ensure!(finished.status.code() == Some(0), "{}: {}", finished.status, finished.stderr);
    let report = report(&file)?;
    let duration = report.json["trace"]["duration_ns"].as_u64().unwrap_or_default();
    ensure!(report.stderr.is_empty() && duration >= 1_000_000_000, "{duration} ns: {}", report.stderr);
    Ok(())
}
