//! What cannot be done is said, and nothing is run for it.

use super::{check, ends, ran, work};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{NOBODY, Scratch, TIMEOUT, fdtrace, finish, gone_process, turn};
use std::{fs, os::unix::process::CommandExt as _, process::Command};

#[test]
fn files_that_are_not_what_they_should_be() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let file = scratch.path().join("file");
    let path = file.to_string_lossy();
    for (option, text, words) in [
        ("--suppressions", "leak:known\nnonsense\n", ["file:2", "leak:"]),
        ("--baseline", "{\"schema\":\"fdtrace.baseline/999\",\"sites\":[]}", ["file", "999"]),
        ("--baseline", "{", ["file", ""]),
    ] {
        fs::write(&file, text)?;
        let ran_too = scratch.path().join("ran");
        let finished = ran(&mut check(&[option, &path], &["/bin/mkdir", &ran_too.to_string_lossy()])?)?;
        for word in words {
            ends(&finished, 2, word).with_context(|| format!("{option} {text}"))?;
        }
        ensure!(!ran_too.exists(), "the command was run");
    }
    ends(&ran(&mut check(&["--suppressions", "/no/such/file"], &["/bin/true"])?)?, 2, "/no/such/file")
}

#[test]
fn reports_that_cannot_be_written() -> Result<()> {
    let _turn = turn();
    for option in ["--json-out", "--junit-out", "--sarif-out", "--trace", "--write-baseline"] {
        let finished = work(&[option, "/no/such/folder/file"], super::CLEAN, "exit 0")?;
        ends(&finished, 125, "/no/such/folder/file").with_context(|| option.to_owned())?;
    }
    Ok(())
}

#[test]
fn a_process_that_is_gone() -> Result<()> {
    let _turn = turn();
    let gone = gone_process()?;
    let mut command = Command::new(fdtrace()?);
    command.args(["check", "--pid", &gone, "--duration", "1s"]);
    ends(&finish(&mut command, TIMEOUT)?, 2, &gone)
}

/// Without the kernel's addresses, or without a capability at all, nobody may say that nothing leaks.
#[test]
fn some_rights() -> Result<()> {
    let _turn = turn();
    if !std::path::Path::new("/usr/bin/setpriv").exists() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let program = scratch.copy(&fdtrace()?)?;
    let command = ["sh", "-c", "exec 3</dev/null; exit 5"];
    for (capabilities, all) in [("+bpf,+perfmon", false), ("+bpf,+perfmon,+syslog,+sys_ptrace", true)] {
        let mut limited = Command::new("/usr/bin/setpriv");
        let nobody = NOBODY.to_string();
        limited.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--inh-caps", capabilities]);
        limited.args(["--ambient-caps", capabilities]).arg(&program).args(["check", "--"]).args(command);
        let finished = finish(limited.current_dir("/"), TIMEOUT)?;
        let seen = finished.status.code() == Some(5) && !finished.stderr.contains(" 0 files");
        let refused = finished.status.code() == Some(125) && finished.stderr.contains("CAP_SYSLOG");
        ensure!(seen || (refused && !all), "{capabilities}: {}, {}", finished.status, finished.stderr);
    }
    Ok(())
}

#[test]
fn without_rights() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let mut command = Command::new(scratch.copy(&fdtrace()?)?);
    command.args(["check", "--", "/bin/true"]).uid(NOBODY).gid(NOBODY).current_dir("/");
    ends(&finish(&mut command, TIMEOUT)?, 125, "CAP_BPF")
}
