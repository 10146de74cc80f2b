//! Signals reach the command once.

use super::{Running, check_script};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::turn;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt as _;

/// Those for the check alone are the command's; a status is then what it makes of them.
#[test]
fn are_passed_on() -> Result<()> {
    let _turn = turn();
    for (signal, name) in
        [(Signal::TERM, "TERM"), (Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::INT, "INT")]
    {
        let script =
            format!("trap 'echo got; exit 9' {name}; echo ready; while kill -0 $PPID; do sleep 0.05; done");
        let Some(mut command) = check_script(&[], &script)? else { return Ok(()) };
        // Whoever is run in the background, or by nohup, has some ignored, and would keep them so.
        let default = move || {
            // SAFETY: the default needs no handler.
            unsafe { libc::signal(signal.as_raw(), libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: makes a system call only.
        unsafe { command.pre_exec(default) };
        let mut running = Running::start(&mut command)?;
        ensure!(running.line()? == "ready");
        kill_process(Pid::from_child(&running.child.0), signal)?;
        ensure!(running.line()? == "got", "{name} did not come");
        ensure!(running.status()? == Some(9), "{name}");
    }
    Ok(())
}

#[test]
fn that_kill_it() -> Result<()> {
    let _turn = turn();
    let Some(mut command) = check_script(&[], "echo ready; exec sleep 60")? else { return Ok(()) };
    let mut running = Running::start(&mut command)?;
    ensure!(running.line()? == "ready");
    kill_process(Pid::from_child(&running.child.0), Signal::TERM)?;
    ensure!(running.status()? == Some(143));
    Ok(())
}

/// A service that ends when it is asked to has done its duty; one that does not is killed, and that is said.
#[test]
fn a_service() -> Result<()> {
    let _turn = turn();
    let until = ["--until", "echo of somebody else; true", "--settle", "0ms"];
    let service = "echo up; while kill -0 $PPID; do sleep 0.05; done";
    for (script, status) in
        [(service, 0), ("trap 'exit 4' TERM; echo up; while kill -0 $PPID; do sleep 0.05; done", 4)]
    {
        let Some(mut command) = check_script(&until, script)? else { return Ok(()) };
        let mut running = Running::start(&mut command)?;
        ensure!(running.line()? == "up");
        ensure!(running.line()?.is_empty(), "somebody else writes there");
        let ended = running.status()?.context("killed")?;
        ensure!(ended == status, "{script}: {ended}");
    }
    Ok(())
}
