//! Descendants are followed whatever their names are.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Finished, Killed, Scratch, TIMEOUT, fdtrace, finish, lines, say, turn};
use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
    process::{Command, Stdio},
};

const BASH: &str = "/bin/bash";

/// It keeps a file every few hundredths of a second, and needs no other program for that.
const LEAK: &str = "echo $$; while :; do exec {kept}</dev/null; read -t 0.02 <> <(:) || :; done";

/// What a process may be called: no ASCII, no UTF-8 once the kernel has cut it, never UTF-8, and what looks like fields.
const NAMES: [&[u8]; 4] = ["обработчик".as_bytes(), b"\xff\xfe", b"a) S 1 (b", b"x\ny"];

/// A parent that does nothing, and a child of such a name that leaks.
struct Family {
    parent: Killed,
    child: u32,
    scratch: Scratch,
}

impl Family {
    fn start(name: &[u8]) -> Result<Self> {
        let scratch = Scratch::new()?;
        let program = scratch.path().join(OsStr::from_bytes(name));
        symlink(BASH, &program)?;
        let mut command = Command::new(BASH);
        command.args(["-c", "\"$0\" -c \"$1\" & wait"]).arg(&program).arg(LEAK);
        let mut parent =
            Killed(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("no bash")?);
        let lines = lines(parent.0.stdout.take().context("no standard output")?);
        let child = lines.recv_timeout(TIMEOUT).context("no child")?.parse()?;
        Ok(Self { parent, child, scratch })
    }

    fn pid(&self) -> String {
        self.parent.0.id().to_string()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let child = i32::try_from(self.child).unwrap_or(0);
        if child > 0 {
            // SAFETY: sends a signal to a process that this test has started.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
    }
}

fn each(try_one: impl Fn(&Family) -> Result<()>) -> Result<()> {
    let _turn = turn();
    if !Path::new(BASH).exists() {
        say("no bash here");
        return Ok(());
    }
    for name in NAMES {
        let shown = String::from_utf8_lossy(name).into_owned();
        try_one(&Family::start(name)?).with_context(|| format!("{shown:?}"))?;
    }
    Ok(())
}

fn run(words: &[&str]) -> Result<Finished> {
    finish(Command::new(fdtrace()?).args(words), TIMEOUT)
}

/// The child is a process of some site in a document of `live` or `report`.
fn shows(family: &Family, documents: &str) -> Result<()> {
    let child = format!("\"pid\":{}", family.child);
    ensure!(documents.replace("\": ", "\":").contains(&child), "{child} is not in {documents}");
    Ok(())
}

#[test]
fn a_check_sees_descendants_of_any_name() -> Result<()> {
    each(|family| {
        let found = run(&["check", "--pid", &family.pid(), "--duration", "4s"])?;
        ensure!(found.status.code() == Some(23), "{}: {}", found.status, found.stderr);
        Ok(())
    })
}

#[test]
fn live_follows_descendants_of_any_name() -> Result<()> {
    each(|family| {
        let pid = family.pid();
        let found = run(&["live", "-p", &pid, "--follow", "--interval", "2s", "--count", "2", "--json"])?;
        ensure!(found.status.success(), "{}: {}", found.status, found.stderr);
        shows(family, &found.stdout)
    })
}

#[test]
fn a_recording_follows_descendants_of_any_name() -> Result<()> {
    each(|family| {
        let file = family.scratch.path().join("trace");
        let file = file.to_str().context("a path")?;
        let recorded = run(&["record", "-o", file, "-p", &family.pid(), "--follow", "--duration", "2s"])?;
        ensure!(recorded.status.success(), "{}: {}", recorded.status, recorded.stderr);
        shows(family, &run(&["report", file, "--json"])?.stdout)
    })
}

/// What did nothing meanwhile was not seen, and may be a leak or none.
#[test]
fn a_check_that_saw_none_of_its_processes_is_inconclusive() -> Result<()> {
    let _turn = turn();
    let (idle, scratch) = (Killed(Command::new("sleep").arg("600").spawn()?), Scratch::new()?);
    let pid = idle.0.id().to_string();
    let files = ["json", "junit", "sarif"].map(|kind| (kind, scratch.path().join(kind)));
    let mut command = Command::new(fdtrace()?);
    command.args(["check", "--pid", &pid, "--duration", "1s"]);
    for (kind, path) in &files {
        command.arg(format!("--{kind}-out")).arg(path);
    }
    let found = finish(&mut command, TIMEOUT)?;
    ensure!(found.status.code() == Some(24), "{}: {}", found.status, found.stderr);
    const WHY: &str = "no program of those asked for was seen";
    ensure!(found.stderr.contains("INCONCLUSIVE") && found.stderr.contains(WHY), "{}", found.stderr);
    for (kind, path) in files {
        let text = fs::read_to_string(path)?;
        ensure!(text.contains(WHY), "{kind}: {text}");
    }
    Ok(())
}
