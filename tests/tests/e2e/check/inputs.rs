//! Files that are read because somebody names them: nothing is waited for, and no limit is passed.

use super::{check, check_script, ends, ran};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Finished, NOBODY, Scratch, fdtrace, finish, turn};
use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
    process::Command,
    time::Duration,
};

/// Far less than what would wait for ever, and enough for a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn fifo(path: &Path) -> Result<()> {
    let made = Command::new("mkfifo").arg(path).status().context("no mkfifo")?;
    ensure!(made.success(), "mkfifo: {made}");
    Ok(())
}

fn soon(arguments: &[&str]) -> Result<Finished> {
    finish(Command::new(fdtrace()?).args(arguments), SOON)
}

#[test]
fn a_fifo_is_not_waited_for() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let path = scratch.path().join("fifo");
    fifo(&path)?;
    let path = path.to_string_lossy();
    for (arguments, status) in [
        (vec!["check", "--suppressions", &path, "--", "/bin/true"], 2),
        (vec!["check", "--baseline", &path, "--", "/bin/true"], 2),
        (vec!["explain", "--trace", &path], 1),
        (vec!["explain", "--diff", &path], 1),
        (vec!["report", &path], 1),
        (vec!["diff", &path, &path], 1),
        (vec!["live", "--count", "1", "--bpf-log", &path], 1),
    ] {
        ends(&soon(&arguments)?, status, "no regular file").with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}

#[test]
fn a_projects_file_that_is_none() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let path = scratch.path().join(".fdtrace.toml");
    let run = || finish(check(&[], &["/bin/true"])?.current_dir(scratch.path()), SOON);
    fifo(&path)?;
    ends(&run()?, 2, ".fdtrace.toml: it is no regular file")?;
    for target in ["/dev/zero", "/dev/tty"] {
        fs::remove_file(&path)?;
        symlink(target, &path)?;
        ends(&run()?, 2, ".fdtrace.toml: it is no regular file")?;
    }
    fs::remove_file(&path)?;
    File::create(&path)?.set_len(1 << 40)?;
    ends(&run()?, 2, ".fdtrace.toml: it has more than 1 MiB, the most that is read")
}

#[test]
fn more_than_is_read() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let path = scratch.path().join("large");
    File::create(&path)?.set_len(1 << 40)?;
    let path = path.to_string_lossy();
    for (arguments, status, word) in [
        (vec!["check", "--suppressions", &path, "--", "/bin/true"], 2, "16 MiB"),
        (vec!["check", "--baseline", &path, "--", "/bin/true"], 2, "16 MiB"),
        (vec!["explain", "--diff", &path], 1, "64 MiB"),
        (vec!["live", "--count", "1", "--bpf-log", &path], 1, "64 MiB"),
    ] {
        ends(&soon(&arguments)?, status, word).with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}

/// A message would tell whoever lays the file what only root may read.
#[test]
fn what_a_strangers_file_names_is_the_strangers_own() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let (folder, secret) = (scratch.path().join("theirs"), scratch.path().join("secret"));
    fs::create_dir(&folder)?;
    fs::write(&secret, "hunter2\n")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let path = folder.join(".fdtrace.toml");
    let run = |text: &str| -> Result<Finished> {
        fs::write(&path, text)?;
        chown(&path, Some(NOBODY), None)?;
        finish(check(&[], &["/bin/true"])?.current_dir(&folder), SOON)
    };
    symlink(&secret, folder.join("link"))?;
    for text in ["suppressions = \"../secret\"", "baseline = \"../secret\"", "suppressions = \"link\""] {
        let finished = run(&format!("[check]\n{text}\n"))?;
        ends(&finished, 2, "it does not belong to the user who names it").with_context(|| text.to_owned())?;
        ensure!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
    }
    fs::write(folder.join("own"), "leak:nothing\n")?;
    chown(folder.join("own"), Some(NOBODY), None)?;
    ends(&run("[check]\nsuppressions = \"own\"\n")?, 0, "no leak")?;
    // A link of the stranger's is no way to it either.
    fs::remove_file(&path)?;
    rustix::fs::symlink(&secret, &path)?;
    let (link, nobody) = (path.as_path(), rustix::fs::Uid::from_raw(NOBODY));
    rustix::fs::chownat(rustix::fs::CWD, link, Some(nobody), None, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    let finished = finish(check(&[], &["/bin/true"])?.current_dir(&folder), SOON)?;
    ends(&finished, 2, "a symbolic link on the way is another user's")?;
    let named = ["--suppressions", &link.to_string_lossy()];
    ends(&ran(&mut check(&named, &["/bin/true"])?)?, 2, "a symbolic link on the way is another user's")
}

/// The machine's own program is asked, not the first of that name.
#[test]
fn a_users_name_is_not_looked_up_by_anybodys_program() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let (program, marker) = (scratch.path().join("getent"), scratch.path().join("asked"));
    fs::write(&program, format!("#!/bin/sh\n: >{}\necho root:x:0:0:::\n", marker.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let Some(mut command) = check_script(&["--user", "nobody"], "/usr/bin/id -u")? else { return Ok(()) };
    command.env("PATH", scratch.path());
    let finished = ran(&mut command)?;
    ends(&finished, 0, "")?;
    ensure!(finished.stdout.trim() == NOBODY.to_string(), "{}", finished.stdout);
    ensure!(!marker.exists(), "it was asked");
    Ok(())
}
