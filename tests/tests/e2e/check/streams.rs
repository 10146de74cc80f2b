//! Standard streams that cannot be written, and limits that leave no room: a sentence or silence, never a panic.

use super::{check_script, ends};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{NOBODY, Scratch, TIMEOUT, fdtrace, finish, turn};
use std::{
    fs::{self, File},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Command, Stdio},
};

const LEAKING: &str =
    "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null 8</dev/null 9</dev/null";

/// How standard error can be of no use.
fn useless() -> Result<Vec<(&'static str, Option<Stdio>)>> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    Ok(vec![
        ("full", Some(File::options().write(true).open("/dev/full")?.into())),
        ("unread", Some(writer.into())),
        ("closed", None),
    ])
}

fn status_without_stderr(command: &mut Command, stderr: Option<Stdio>) -> Result<Option<i32>> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    match stderr {
        Some(stderr) => drop(command.stderr(stderr)),
        None => {
            let close = || {
                // SAFETY: nothing is written before the program is another one.
                unsafe { libc::close(2) };
                Ok(())
            };
            // SAFETY: makes a system call only.
            unsafe { command.pre_exec(close) };
        }
    }
    let mut child = fdtrace_tests::harness::Killed(command.spawn()?);
    Ok(child.wait(TIMEOUT)?.code())
}

#[test]
fn that_cannot_be_written_change_no_status() -> Result<()> {
    let _turn = turn();
    let leak = format!("{LEAKING}; exit 0");
    for (script, status) in [(leak.as_str(), 23), ("exit 0", 0), ("exit 7", 7)] {
        for (how, stderr) in useless()? {
            let Some(mut command) = check_script(&["--max-per-site=3"], script)? else { return Ok(()) };
            let ended = status_without_stderr(&mut command, stderr)?;
            ensure!(ended == Some(status), "{how}: {ended:?} instead of {status}");
        }
    }
    let scratch = Scratch::new()?;
    for (how, stderr) in useless()? {
        let trace = scratch.path().join(how);
        let mut command = Command::new(fdtrace()?);
        command.args(["record", "-o"]).arg(trace).args(["--", "/bin/sh", "-c", "exit 3"]);
        let ended = status_without_stderr(&mut command, stderr)?;
        ensure!(ended == Some(3), "record, {how}: {ended:?}");
    }
    for (how, stderr) in useless()? {
        let ended =
            status_without_stderr(Command::new(fdtrace()?).args(["report", "/no/such/trace"]), stderr)?;
        ensure!(ended == Some(1), "report, {how}: {ended:?}");
    }
    Ok(())
}

#[test]
fn few_descriptors_are_a_sentence() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let trace = scratch.path().join("trace");
    let trace = trace.to_string_lossy();
    let verbs: [&[&str]; 6] = [
        &["check", "--", "/bin/true"],
        &["record", "-o", &trace, "--force", "--", "/bin/true"],
        &["live", "--count", "1", "--interval", "100ms"],
        &["explain"],
        &["doctor"],
        &["report", "/no/such/trace"],
    ];
    for verb in verbs {
        for limit in (3..=24).chain([32, 40]) {
            let mut command = Command::new(fdtrace()?);
            let lower = move || {
                let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                // SAFETY: a valid structure.
                unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
                Ok(())
            };
            // SAFETY: makes a system call only.
            unsafe { command.args(verb).pre_exec(lower) };
            let finished = finish(&mut command, TIMEOUT).with_context(|| format!("{verb:?} {limit}"))?;
            let (status, stderr) = (finished.status, &finished.stderr);
            if stderr.contains("error while loading shared libraries") {
                // It is not fdtrace that says it.
                continue;
            }
            let about = format!("{verb:?} with {limit}: {status}, {stderr}");
            ensure!(status.code().is_some_and(|code| [0, 1, 24, 125, 126].contains(&code)), "{about}");
            ensure!(status.signal().is_none() && !stderr.contains("panicked"), "{about}");
            // The doctor's table says it.
            let said = stderr.contains("fdtrace: ") || finished.stdout.contains("Too many open files");
            ensure!(status.success() || said, "{about}");
        }
    }
    Ok(())
}

/// A file that may not grow ends as one on a full disk does.
#[test]
fn a_limit_of_files_sizes_kills_nobody() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let report = scratch.path().join("report");
    let Some(mut command) = check_script(
        &["--max-per-site=3", "--json-out", &report.to_string_lossy()],
        &format!("{LEAKING}; exit 0"),
    )?
    else {
        return Ok(());
    };
    let lower = || {
        let limit = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
        // SAFETY: a valid structure.
        unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
        Ok(())
    };
    // SAFETY: makes a system call only.
    unsafe { command.pre_exec(lower) };
    let finished = finish(&mut command, TIMEOUT)?;
    ends(&finished, 23, "LEAK")?;
    ends(&finished, 23, "report: File too large")?;
    ensure!(!report.exists(), "half a report");
    Ok(())
}

fn as_nobody(program: &Path, arguments: &[&str]) -> Result<fdtrace_tests::harness::Finished> {
    let mut command = Command::new(program);
    command.args(arguments).uid(NOBODY).gid(NOBODY).current_dir("/");
    finish(&mut command, TIMEOUT)
}

#[test]
fn rights_that_the_file_gives_are_for_nobody() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let program = scratch.copy(&fdtrace()?)?;
    for (mode, owner) in [(0o4755, (0, 0)), (0o2755, (0, 0)), (0o4755, (1, 1))] {
        chown(&program, Some(owner.0), Some(owner.1))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(mode))?;
        for (verb, status) in [(&["check", "--", "/bin/true"][..], 125), (&["explain"], 1), (&["doctor"], 1)]
        {
            ends(&as_nobody(&program, verb)?, status, "set-uid").with_context(|| format!("{mode:o}"))?;
        }
    }
    Ok(())
}

/// `cap_bpf,cap_perfmon,cap_syslog,cap_dac_override,cap_setuid,cap_setgid+ep`, as `setcap` would write it.
fn lend(program: &Path) -> Result<()> {
    let mut lent = vec![1, 0, 0, 2];
    let (low, high): (u32, u32) = (1 << 1 | 1 << 6 | 1 << 7, 1 << 2 | 1 << 6 | 1 << 7);
    for word in [low, 0, high, 0] {
        lent.extend_from_slice(&word.to_le_bytes());
    }
    Ok(rustix::fs::setxattr(program, "security.capability", &lent, rustix::fs::XattrFlags::empty())?)
}

#[test]
fn capabilities_of_the_file_are_for_tracing_alone() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let (program, secret) = (scratch.copy(&fdtrace()?)?, scratch.path().join("secret"));
    lend(&program)?;
    fs::write(&secret, "hunter2\n")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let object = scratch.path().join("object");
    fs::write(&object, "")?;
    let (object, secret) = (object.to_string_lossy(), secret.to_string_lossy());
    ends(&as_nobody(&program, &["live", "--count", "1", "--bpf-log", &object])?, 2, "--bpf-log is not for")?;
    let read = as_nobody(&program, &["check", "--suppressions", &secret, "--", "/bin/true"])?;
    ends(&read, 2, "Permission denied")?;
    let become_root = as_nobody(&program, &["check", "--user", "0:0", "--", "/usr/bin/id", "-u"])?;
    ensure!(!become_root.stdout.starts_with('0'), "{become_root:?}");
    // What it is for.
    let traced = as_nobody(&program, &["check", "--", "/bin/true"])?;
    ensure!(!traced.stderr.contains("CAP_BPF"), "{}", traced.stderr);
    Ok(())
}
