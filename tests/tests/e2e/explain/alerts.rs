//! Somebody is called when a limit is near.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Explained, Finished, Scratch, Workload, explain_command, say, turn};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

fn run(arguments: &[&str]) -> Result<Finished> {
    Ok(Explained::by(&mut explain_command(arguments.iter().copied())?)?.finished)
}

/// A process that may have so many descriptors.
fn limit(pid: u32, most: u64) -> Result<()> {
    let process = Pid::from_raw(pid.cast_signed()).context("a process")?;
    prlimit(Some(process), Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
    Ok(())
}

/// A process that has used nine tenths of its descriptors.
fn near_its_limit() -> Result<Workload> {
    let mut workload = Workload::start(["kept=150"])?;
    workload.go()?;
    let used = fs::read_dir(format!("/proc/{}/fd", workload.pid()))?.count() as u64;
    limit(workload.pid(), used * 10 / 9)?;
    Ok(workload)
}

#[test]
fn a_share_of_a_limit_ends_the_watch() -> Result<()> {
    let _turn = turn();
    let workload = near_its_limit()?;
    let pid = workload.pid().to_string();
    let watch = ["--interval", "200ms", "--count", "2", "--pid", &pid];
    let finished = run(&[&watch[..], &["--alert", "80%"]].concat())?;
    ensure!(finished.status.code() == Some(3), "{finished:?}");
    let alert = format!("fdtrace: alert: workload ({pid}) has ");
    ensure!(finished.stderr.contains(&alert) && finished.stderr.contains("EMFILE"), "{finished:?}");
    let finished = run(&[&watch[..], &["--alert", "95%"]].concat())?;
    ensure!(finished.status.code() == Some(0) && finished.stderr.is_empty(), "{finished:?}");
    // As a document.
    let finished = run(&[&watch[..], &["--alert", "80%", "--json"]].concat())?;
    let document: serde_json::Value = serde_json::from_str(&finished.stdout)?;
    let alarm = &document["alerts"][0];
    ensure!(alarm["limit"] == "RLIMIT_NOFILE" && alarm["pid"] == workload.pid(), "{alarm}");
    Ok(())
}

/// A limit that is still far, and is reached within hours.
#[test]
fn growth_to_a_limit_ends_the_watch() -> Result<()> {
    let _turn = turn();
    let mut workload = Workload::start(["--repeat", "--pause-ms", "20", "kept=2"])?;
    workload.repeat()?;
    let pid = workload.pid().to_string();
    let finished = run(&["--interval", "1s", "--count", "40", "--pid", &pid, "--alert", "24h"])?;
    workload.stop()?;
    ensure!(finished.status.code() == Some(3), "{finished:?}");
    let words =
        [&format!("alert: workload ({pid}) reaches "), " (RLIMIT_NOFILE) in ", " at this rate: EMFILE"];
    ensure!(words.iter().all(|word| finished.stderr.contains(word)), "{finished:?}");
    Ok(())
}

/// It gets the sentence, once for each alert, and the watch goes on.
#[test]
fn a_program_is_run() -> Result<()> {
    let _turn = turn();
    if !Path::new("/bin/sh").exists() {
        say("not run: there is no shell to write a program for");
        return Ok(());
    }
    let workload = near_its_limit()?;
    let (scratch, pid) = (Scratch::new()?, workload.pid().to_string());
    let (program, told) = (scratch.path().join("call"), scratch.path().join("told"));
    let script = format!(
        "#!/bin/sh\nread line\nprintf '%s|%s|%s|%s\\n' \"$#\" \"$FDTRACE_ALERT_PID\" \"$FDTRACE_ALERT\" \"$line\" >> {0}.new\n\
         mv {0}.new {0}\n",
        told.display()
    );
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let call = program.display().to_string();
    let watch =
        ["--interval", "200ms", "--count", "3", "--pid", &pid, "--alert", "80%", "--alert-command", &call];
    let finished = run(&watch)?;
    ensure!(finished.status.code() == Some(0), "{finished:?}");
    ensure!(finished.stderr.matches("alert: ").count() == 1, "once for each alert: {finished:?}");
    let until = Instant::now() + Duration::from_secs(60);
    while !told.exists() {
        ensure!(Instant::now() < until, "nobody heard of: {finished:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let told = fs::read_to_string(&told)?;
    let words: Vec<&str> = told.trim_end().split('|').collect();
    let [count, of, sentence, input] = words.as_slice() else { anyhow::bail!("{told}") };
    ensure!((*count, *of) == ("0", pid.as_str()), "{told}");
    ensure!(sentence == input && sentence.starts_with(&format!("workload ({pid}) has ")), "{told}");
    Ok(())
}

/// What others may write is not run as root.
#[test]
fn programs_that_are_not_run() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let program = scratch.path().join("call");
    fs::write(&program, "")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777))?;
    let call = program.display().to_string();
    let refused =
        |call: &str| run(&["--interval", "200ms", "--count", "1", "--alert", "80%", "--alert-command", call]);
    for (call, status, words) in [
        (call.as_str(), 1, "others may change it"),
        ("/no/such/program", 1, "cannot be run for alerts"),
        ("relative", 2, "whole path"),
    ] {
        let finished = refused(call)?;
        ensure!(finished.status.code() == Some(status), "{call}: {finished:?}");
        ensure!(finished.stderr.contains(words) && finished.stdout.is_empty(), "{call}: {finished:?}");
    }
    Ok(())
}
