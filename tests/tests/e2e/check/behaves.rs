//! The command finds what it would find without the check.

use super::{Running, check, check_script, ends, ran};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{NOBODY, Scratch, TIMEOUT, bpf_ids, finish, finish_with, turn};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What a process can see of how it was started.
const SAMPLE_INTERVAL: &str = "pwd; umask; ulimit -a; ulimit -aH; env | sort; cut -d' ' -f5-8,18,19,41 /proc/self/stat; \
                    grep -E 'Sig(Ign|Blk)|Groups|Uid|Gid|Cap|NoNewPrivs|Cpus_allowed:' /proc/self/status; \
                    for fd in /proc/$$/fd/*; do echo ${fd##*/}; done; cat /proc/self/oom_score_adj; echo \"$0\" \"$@\"";

type Prepare = fn() -> io::Result<()>;

/// Only calls that are safe after a fork.
const PREPARED: [(&str, Prepare); 6] = [
    ("as it is", || Ok(())),
    ("signals ignored", || {
        for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGINT, libc::SIGUSR1, libc::SIGCHLD] {
            // SAFETY: ignoring a signal needs no handler.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        Ok(())
    }),
    ("signals blocked", || {
        // SAFETY: all zeros are a valid set.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: a valid set.
        unsafe { libc::sigaddset(&raw mut set, libc::SIGUSR2) };
        // SAFETY: as above.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
        Ok(())
    }),
    ("limits", || {
        let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 128 << 10 };
        // SAFETY: a valid structure.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
        let limit = libc::rlimit { rlim_cur: 256, rlim_max: 300 };
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        Ok(())
    }),
    ("nice and umask", || {
        // SAFETY: takes numbers.
        unsafe { libc::umask(0o077) };
        // SAFETY: as above.
        unsafe { libc::nice(5) };
        Ok(())
    }),
    ("streams closed, and one more", || {
        // SAFETY: takes numbers.
        unsafe { libc::dup2(1, 77) };
        // SAFETY: nothing reads from it.
        unsafe { libc::close(0) };
        Ok(())
    }),
];

#[test]
fn as_it_was_started() -> Result<()> {
    let _turn = turn();
    for (name, prepare) in PREPARED {
        let Some(mut checked) = check_script(&[], SAMPLE_INTERVAL)? else { return Ok(()) };
        let mut plain = Command::new("/bin/sh");
        plain.args(["-c", SAMPLE_INTERVAL]);
        let said = [&mut plain, &mut checked].map(|command| {
            // What follows the script is its own: the zeroth argument is the shell's.
            command
                .args(["zeroth", "first argument", ""])
                .current_dir("/proc")
                .env("MARK", "a\nb")
                .process_group(0);
            // SAFETY: between fork and exec there are only system calls.
            unsafe { command.pre_exec(prepare) };
            finish(command, TIMEOUT)
        });
        let [plain, checked] = said;
        let (plain, checked) = (plain?, checked?);
        ends(&checked, 0, "no leak")?;
        // A process group is named after its leader; where scopes are announced is told to the command alone.
        let is_common = |line: &&str| !line.starts_with("FDTRACE_SCOPE=");
        let lines = |text: &str| text.lines().filter(is_common).map(without_group).collect::<Vec<_>>();
        let (plain, checked) = (lines(&plain.stdout), lines(&checked.stdout));
        let other: Vec<_> = plain.iter().zip(&checked).filter(|(one, other)| one != other).collect();
        ensure!(
            plain.len() > 40 && plain.len() == checked.len() && other.is_empty(),
            "{name}: {other:?}, {checked:?}"
        );
    }
    Ok(())
}

/// Of `pgrp session tty tpgid priority nice policy`.
fn without_group(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let numbers = words.len() == 7 && words.iter().all(|word| word.parse::<i64>().is_ok());
    if numbers { words[1..].join(" ") } else { line.to_owned() }
}

#[test]
fn its_parent_and_its_group_are_the_checks() -> Result<()> {
    let _turn = turn();
    let Some(mut command) = check_script(&[], "echo $PPID; cut -d' ' -f5 /proc/self/stat; read line")? else {
        return Ok(());
    };
    let mut running = Running::start(command.process_group(0))?;
    let own = running.child.0.id().to_string();
    ensure!(running.line()? == own && running.line()? == own, "another parent or group than {own}");
    running.tell("end")?;
    ensure!(running.status()? == Some(0));
    Ok(())
}

/// Byte by byte, and when it is written.
#[test]
fn its_streams_are_its_own() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let (input, output) = (scratch.path().join("input"), scratch.path().join("output"));
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    fs::write(&input, &bytes)?;
    let Some(mut command) = check_script(&[], "cat; echo mistake >&2")? else { return Ok(()) };
    let status = command.stdin(fs::File::open(&input)?).stdout(fs::File::create(&output)?).output()?;
    let said = String::from_utf8_lossy(&status.stderr);
    ensure!(said.starts_with("mistake\nfdtrace: no leak"), "{said}");
    ensure!(fs::read(&output)? == bytes, "other bytes");
    let mut command = check_script(&[], "echo first; read line; echo $line")?.expect("a shell");
    let mut running = Running::start(&mut command)?;
    ensure!(running.line()? == "first");
    running.tell("second")?;
    ensure!(running.line()? == "second");
    ensure!(running.status()? == Some(0));
    Ok(())
}

/// The report comes when nobody reads the output any more as well.
#[test]
fn a_pipe_that_nobody_reads() -> Result<()> {
    let _turn = turn();
    let Some(mut command) = check_script(&[], "sleep 0.3; echo a; echo b; exit 3")? else { return Ok(()) };
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(141) && said.contains("no leak"), "{}: {said}", output.status);
    Ok(())
}

#[test]
fn somebody_else() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let file = scratch.path().join("file");
    std::os::unix::fs::chown(scratch.path(), Some(NOBODY), None)?;
    let script = format!(
        "id -u; id -g; id -G; touch {0}; stat -c %u {0}; grep CapEff /proc/self/status",
        file.display()
    );
    let user = format!("{NOBODY}:{NOBODY}");
    let Some(mut command) = check_script(&["--user", &user], &script)? else { return Ok(()) };
    let finished = ran(&mut command)?;
    ends(&finished, 0, "no leak")?;
    let said: Vec<_> = finished.stdout.split_whitespace().collect();
    let nobody = NOBODY.to_string();
    ensure!(
        said.iter().take(4).all(|word| *word == nobody) && said.ends_with(&["0000000000000000"]),
        "{said:?}"
    );
    ends(&ran(&mut check(&["--user", "no-such-user"], &["/bin/true"])?)?, 2, "no-such-user")
}

/// What the command was doing goes on, and the kernel forgets the check.
#[test]
fn killed() -> Result<()> {
    let _turn = turn();
    let Some(mut command) = check_script(&[], "echo $$; read line; echo $line; read line")? else {
        return Ok(());
    };
    let mut running = Running::start(&mut command)?;
    let pid = running.line()?;
    let held = bpf_ids::held_by(running.child.0.id())?;
    ensure!(!held.is_empty(), "it holds nothing");
    // Waiting closes the input, which the command still reads.
    let mut input = running.child.0.stdin.take().context("no standard input")?;
    running.child.0.kill()?;
    running.child.0.wait()?;
    writeln!(input, "still here")?;
    ensure!(running.line()? == "still here", "{pid} is gone as well");
    let deadline = Instant::now() + TIMEOUT;
    while bpf_ids::all()?.intersection(&held).next().is_some() {
        ensure!(Instant::now() < deadline, "left over in the kernel: {:?}", bpf_ids::all()?);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Closes all that it has, and goes on.
#[test]
fn a_command_that_closes_everything() -> Result<()> {
    let _turn = turn();
    let Some(mut command) = check_script(&[], "exec 0<&- 1>&- 2>&-; exit 5")? else { return Ok(()) };
    ends(&finish_with(&mut command, Stdio::null(), TIMEOUT)?, 5, "no leak")
}
