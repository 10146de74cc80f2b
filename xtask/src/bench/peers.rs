//! Other tools that can be asked where handles come from.

use super::child::Background;
use crate::run;
use anyhow::Result;
use std::process::Command;

/// Writes each call down.
pub(super) const STRACE: [&str; 7] = ["strace", "-f", "-qq", "-e", "trace=openat,close", "-o", "/dev/null"];

/// Whether it may trace here.
pub(super) fn try_strace() -> Result<()> {
    let [program, arguments @ ..] = STRACE;
    run::succeed(Command::new(program).args(arguments).arg("true"))
}

/// What is open, and from where it was opened.
const BPFTRACE: &str = r#"
BEGIN { printf("ready\n"); }
tracepoint:syscalls:sys_exit_openat /args->ret >= 0/ {
    @user[pid, args->ret] = ustack;
    @kernel[pid, args->ret] = kstack;
}
tracepoint:syscalls:sys_enter_close {
    delete(@user[pid, args->fd]);
    delete(@kernel[pid, args->fd]);
}
END { clear(@user); clear(@kernel); }
"#;

/// A running bpftrace.
pub(super) fn bpftrace() -> Result<Background> {
    let process = Background::start(Command::new("bpftrace").args(["-B", "line", "-e", BPFTRACE]))?;
    // First comes how many probes it attaches.
    while process.line()? != "ready" {}
    Ok(process)
}

/// Name and version of a program; `None` when it is not installed.
pub(super) fn version(program: &str) -> Option<String> {
    let text = run::probe(Command::new(program).arg("--version"))?;
    let line = text.lines().next()?;
    Some(line.replace("-- version ", "").trim().to_owned())
}

/// Whether a program is installed and does what it is asked for.
pub(super) fn runs(program: &str, argument: &str) -> bool {
    run::probe(Command::new(program).arg(argument)).is_some()
}
