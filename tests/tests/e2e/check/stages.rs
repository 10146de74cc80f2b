//! Signals at every stage of a check and of a recording: each ends it, soon, with the status that is documented.

use super::{Running, check_script};
use anyhow::{Context as _, Result, bail, ensure};
use fdtrace_tests::harness::{Killed, Scratch, TIMEOUT, lines, record, report, say, turn};
use rustix::{
    fs::{Mode, OFlags, fcntl_setfl},
    process::{Pid, Signal, kill_process, test_kill_process},
};
use std::{
    fs::{self, File},
    io::Write as _,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long it may take on a machine with nothing else to do.
const SOON: Duration = Duration::from_secs(2);

fn send(child: &Killed, signal: Signal) -> Result<()> {
    Ok(kill_process(Pid::from_child(&child.0), signal)?)
}

/// Waits for the end, which the last signal brings.
fn ends(child: &mut Killed, status: i32, stage: &str) -> Result<()> {
    let begun = Instant::now();
    let ended = child.wait(TIMEOUT).with_context(|| stage.to_owned())?;
    let took = begun.elapsed();
    let note = if took > SOON { " (more than 2 s)" } else { "" };
    say(&format!("RESULT signal {stage}: {} ms{note}", took.as_millis()));
    ensure!(ended.code() == Some(status), "{stage}: {ended} instead of {status}");
    Ok(())
}

/// Those that are run in the background have some ignored.
fn with_signals(command: &mut Command) -> &mut Command {
    let default = || {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP] {
            // SAFETY: the default needs no handler.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: makes system calls only.
    unsafe { command.pre_exec(default) }
}

fn until(what: &str, mut good: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !good() {
        if Instant::now() > deadline {
            bail!("{what} never");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn is_there(pid: &str) -> bool {
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// A pipe that takes nothing more; both ends.
fn full_pipe(path: &Path) -> Result<File> {
    let made = Command::new("mkfifo").arg(path).status().context("no mkfifo")?;
    ensure!(made.success(), "mkfifo: {made}");
    let mut pipe = File::options().read(true).write(true).open(path)?;
    fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
    while pipe.write(&[0; 4096]).is_ok() {}
    while pipe.write(&[0]).is_ok() {}
    Ok(pipe)
}

/// What is read before anything is attached waits for an end that does not come.
#[test]
fn before_the_command_starts() -> Result<()> {
    let _turn = turn();
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)]
    {
        let scratch = Scratch::new()?;
        let marker = scratch.path().join("ran");
        let script = format!(": >{}", marker.display());
        let Some(mut command) = check_script(&["--suppressions", "/dev/stdin"], &script)? else {
            return Ok(());
        };
        let mut child = Killed(with_signals(&mut command).stdin(Stdio::piped()).spawn()?);
        let pid = child.0.id();
        // It reads: the thread that takes signals is there before.
        until("the check reads", || {
            let wait = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
            wait.contains("pipe")
                || fs::read_to_string(format!("/proc/{pid}/syscall"))
                    .is_ok_and(|call| call.starts_with("0 0x0 "))
        })?;
        send(&child, signal)?;
        ends(&mut child, status, "before the command starts")?;
        ensure!(!marker.exists(), "the command was run");
    }
    Ok(())
}

/// At whatever moment it comes while the check attaches, the status is the signal's.
#[test]
fn while_it_attaches() -> Result<()> {
    let _turn = turn();
    for delay in [0, 30, 100, 200, 400, 800, 1600] {
        let Some(mut command) = check_script(&[], "exec sleep 600")? else { return Ok(()) };
        let mut child = Killed(with_signals(&mut command).spawn()?);
        thread::sleep(Duration::from_millis(delay));
        send(&child, Signal::TERM)?;
        let ended = child.wait(TIMEOUT)?;
        // Before there is anything that could take it, it kills.
        use std::os::unix::process::ExitStatusExt as _;
        ensure!(ended.code() == Some(143) || ended.signal() == Some(15), "after {delay} ms: {ended}");
    }
    Ok(())
}

const DEAF: &str = "trap '' INT TERM QUIT; echo ready; while :; do sleep 0.1; done";

#[test]
fn a_command_that_hears_none_is_killed_after_the_second() -> Result<()> {
    let _turn = turn();
    for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]] {
        let Some(mut command) = check_script(&[], DEAF)? else { return Ok(()) };
        // A session without a terminal: nobody else sends it.
        let mut running = Running::start(with_signals(&mut command))?;
        ensure!(running.line()? == "ready");
        send(&running.child, signals[0])?;
        thread::sleep(Duration::from_millis(300));
        ensure!(running.child.0.try_wait()?.is_none(), "the first was not the command's");
        send(&running.child, signals[1])?;
        ends(&mut running.child, 137, "the second while a deaf command runs")?;
    }
    Ok(())
}

#[test]
fn while_it_settles() -> Result<()> {
    let _turn = turn();
    let Some(mut command) = check_script(&["--settle", "10m"], "sleep 600 >&- & echo $!; echo $$")? else {
        return Ok(());
    };
    let mut running = Running::start(with_signals(&mut command))?;
    let (left, shell) = (running.line()?, running.line()?);
    until("the command has ended", || !is_there(&shell))?;
    thread::sleep(Duration::from_millis(300));
    ensure!(running.child.0.try_wait()?.is_none(), "it does not settle");
    send(&running.child, Signal::TERM)?;
    let begun = Instant::now();
    let ended = running.child.wait(TIMEOUT);
    if let Some(pid) = left.trim().parse().ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::KILL)?;
    }
    let (took, status) = (begun.elapsed(), ended?.code());
    say(&format!("RESULT signal while it settles: {} ms", took.as_millis()));
    // A busy machine may not finish in the time that there is.
    let too_slow = status == Some(143) && took > Duration::from_secs(1);
    ensure!(status == Some(0) || too_slow, "{status:?} after {took:?}");
    Ok(())
}

/// Nobody reads the report: it cannot be finished, and the status is not that of a check that was.
#[test]
fn while_it_writes() -> Result<()> {
    let _turn = turn();
    for (signals, status) in
        [(&[Signal::TERM][..], 143), (&[Signal::TERM, Signal::INT], 130), (&[Signal::INT], 130)]
    {
        let scratch = Scratch::new()?;
        let path = scratch.path().join("pipe");
        let pipe = full_pipe(&path)?;
        let Some(mut command) = check_script(&["--json-out", &path.to_string_lossy()], "exit 0")? else {
            return Ok(());
        };
        let mut child = Killed(with_signals(&mut command).stderr(Stdio::piped()).spawn()?);
        let said = lines(child.0.stderr.take().context("no standard error")?);
        let text = said.recv_timeout(TIMEOUT).context("it says nothing")?;
        ensure!(text.contains("no leak"), "{text}");
        thread::sleep(Duration::from_millis(300));
        ensure!(child.0.try_wait()?.is_none(), "it wrote into a full pipe");
        for signal in signals {
            send(&child, *signal)?;
            thread::sleep(Duration::from_millis(50));
        }
        ends(&mut child, status, "while it writes a report that nobody reads")?;
        drop(pipe);
    }
    Ok(())
}

#[test]
fn while_standard_error_is_not_read() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let path = scratch.path().join("pipe");
    let _pipe = full_pipe(&path)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let stderr: OwnedFd = rustix::fs::open(&path, flags, Mode::empty())?;
    let Some(mut command) = check_script(&[], "echo $$")? else { return Ok(()) };
    let mut running = Running::start(with_signals(&mut command).stderr(stderr))?;
    let shell = running.line()?;
    until("the command has ended", || !is_there(&shell))?;
    thread::sleep(Duration::from_millis(1500));
    send(&running.child, Signal::TERM)?;
    ends(&mut running.child, 143, "while standard error is not read")
}

#[test]
fn of_a_recording_are_the_commands() -> Result<()> {
    let _turn = turn();
    if !Path::new("/bin/sh").exists() {
        say("no /bin/sh here");
        return Ok(());
    }
    for (script, signals, status) in [
        ("echo ready; exec sleep 600", &[Signal::TERM][..], 143),
        ("trap 'exit 9' HUP; echo ready; while :; do sleep 0.1; done", &[Signal::HUP], 9),
        (DEAF, &[Signal::TERM, Signal::TERM], 137),
    ] {
        let scratch = Scratch::new()?;
        let trace = scratch.path().join("trace");
        let mut command = record(&trace)?;
        command.args(["--", "/bin/sh", "-c", script]);
        let mut running = Running::start(with_signals(&mut command))?;
        ensure!(running.line()? == "ready");
        for signal in signals {
            send(&running.child, *signal)?;
            thread::sleep(Duration::from_millis(200));
        }
        ends(&mut running.child, status, "while a recorded command runs")?;
        ensure!(report(&trace)?.stderr.is_empty(), "the trace is not whole");
    }
    Ok(())
}

/// Whoever kills the check leaves nothing of what it asks the service, and no service that nobody would end.
#[test]
fn a_check_that_is_killed_takes_its_service_along() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let file = scratch.path().join("asking");
    let until_ = format!("sleep 600 & echo $! >{0}.new; mv {0}.new {0}; wait; false", file.display());
    let Some(mut command) = check_script(&["--until", &until_], "echo $$; exec sleep 600")? else {
        return Ok(());
    };
    let mut running = Running::start(&mut command)?;
    let service = running.line()?;
    until("the service is asked", || file.exists())?;
    let asking = fs::read_to_string(&file)?;
    ensure!(is_there(&service) && is_there(&asking));
    drop(running);
    until("the service is gone", || !is_there(&service))?;
    until("what asks it is gone", || !is_there(&asking))
}
