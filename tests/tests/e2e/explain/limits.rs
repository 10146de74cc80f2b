//! Limits that are not of descriptors.

use anyhow::{Context as _, Result, ensure};
use fdtrace::model::explain::LimitLine as OtherLimit;
use fdtrace_tests::harness::{NOBODY, Workload, explain, explain_text, possible, say, turn};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

fn setting(name: &str) -> Result<u64> {
    let path = format!("/proc/sys/{name}");
    fs::read_to_string(&path).context(path)?.trim().parse().context("no number")
}

/// A limit of a user, or of nobody in particular.
fn limit(name: &str, user: Option<u32>) -> Result<Option<OtherLimit>> {
    let limits = explain([])?.limits.clone();
    Ok(limits.into_iter().find(|limit| limit.name == name && limit.user == user))
}

/// What stands below the tables, in one line.
fn last(text: &str) -> String {
    text.trim_end().rsplit("\n\n").next().unwrap_or_default().replace('\n', " ")
}

/// The sentence says that it is near its end, and whose it is.
fn is_told(name: &str, end: &str, pid: u32) -> Result<()> {
    let text = explain_text([])?;
    let last = last(&text);
    let (_, told) = last.split_once(name).with_context(|| format!("{name} is not said: {text}"))?;
    let told = told.split(". ").next().unwrap_or_default();
    ensure!(told.contains(end) && told.contains(&format!("({pid})")), "{text}");
    Ok(())
}

/// As many instances as bring root near its limit, whoever else has some.
#[test]
fn instances_of_inotify() -> Result<()> {
    let _turn = turn();
    let name = "fs.inotify.max_user_instances";
    let most = setting("fs/inotify/max_user_instances")?;
    if most > 4096 {
        say(&format!("not run: root may have {most} instances"));
        return Ok(());
    }
    let mut one = Workload::start(["inotify=1"])?;
    one.go()?;
    let before = limit(name, Some(0))?.context("the instances of root are not counted")?;
    ensure!(before.limit == most && before.used >= 1, "{before:?}");
    let more = (most * 9 / 10).saturating_sub(before.used);
    let step = format!("inotify={more}");
    let mut many = Workload::start([step.as_str()])?;
    many.go()?;
    let after = limit(name, Some(0))?.context("the instances of root are not counted")?;
    ensure!(after.used == before.used + more, "{more} more than {before:?}: {after:?}");
    is_told(name, "inotify_init fails with EMFILE", many.pid())
}

/// Each watch counts.
#[test]
fn watches_of_inotify() -> Result<()> {
    let _turn = turn();
    let scratch = fdtrace_tests::harness::Scratch::new()?;
    // SAFETY: takes a number, and makes a descriptor.
    let inotify = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
    ensure!(inotify >= 0, "inotify_init1: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it for us.
    let inotify = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(inotify) };
    let name = "fs.inotify.max_user_watches";
    let used =
        || -> Result<u64> { Ok(limit(name, Some(0))?.context("the watches of root are not counted")?.used) };
    let before = used()?;
    for number in 0..20 {
        let path = scratch.path().join(number.to_string());
        File::create(&path)?;
        rustix::fs::inotify::add_watch(&inotify, &path, rustix::fs::inotify::WatchFlags::MODIFY)?;
    }
    let after = used()?;
    ensure!(after == before + 20, "20 more than {before}: {after}");
    Ok(())
}

/// A user's pipes, of 16 pages each.
#[test]
fn pages_of_pipes() -> Result<()> {
    let _turn = turn();
    let soft = setting("fs/pipe-user-pages-soft")?;
    if !(1..=65_536).contains(&soft) {
        say(&format!("not run: a user may have {soft} pages"));
        return Ok(());
    }
    let step = format!("pipes={}", soft / 16 * 9 / 10);
    let started = possible("pages_of_pipes", Workload::start_unprivileged([step.as_str()]))?;
    let Some(mut workload) = started else { return Ok(()) };
    workload.go()?;
    let found = limit("fs.pipe-user-pages-soft", Some(NOBODY))?.context("not counted")?;
    ensure!(found.limit == soft && found.used * 100 / soft >= 85, "{found:?}");
    is_told("fs.pipe-user-pages-soft", "new pipes have room for two pages at most", workload.pid())
}

#[test]
fn terminals_and_threads() -> Result<()> {
    let _turn = turn();
    if let Ok(used) = setting("kernel/pty/nr") {
        let found = limit("kernel.pty.max", None)?.context("terminals are not counted")?;
        ensure!(found.used == used && found.limit == setting("kernel/pty/max")?, "{found:?}");
    }
    let mut workload = Workload::start(["kept=1"])?;
    workload.go()?;
    let found = limit("kernel.threads-max", None)?.context("threads are not counted")?;
    ensure!(found.used > 2 && found.limit == setting("kernel/threads-max")?, "{found:?}");
    Ok(())
}

/// A cgroup that is removed when this is dropped: by then nobody is in it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(root: &Path, most: u64) -> Result<Self> {
        let own = Self(root.join(format!("fdtrace-test-{}", std::process::id())));
        fs::create_dir(&own.0)?;
        fs::write(own.0.join("pids.max"), most.to_string())?;
        Ok(own)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

#[test]
fn tasks_of_a_cgroup() -> Result<()> {
    let _turn = turn();
    let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
    let root = roots.into_iter().find(|root| root.is_dir());
    let cgroup = match root.context("no cgroups").and_then(|root| Cgroup::new(root, 1)) {
        Ok(cgroup) => cgroup,
        Err(error) => {
            say(&format!("not run: {error:#}"));
            return Ok(());
        }
    };
    let mut workload = Workload::start(["kept=1"])?;
    workload.go()?;
    fs::write(cgroup.0.join("cgroup.procs"), workload.pid().to_string())?;
    let name = cgroup.0.file_name().context("no name")?.to_string_lossy().into_owned();
    let limits = explain([])?.limits.clone();
    let found = limits.iter().find(|limit| limit.cgroup.as_ref().is_some_and(|path| path.ends_with(&name)));
    let found = found.with_context(|| format!("{name} is not there: {limits:?}"))?;
    ensure!((found.used, found.limit) == (1, 1), "{found:?}");
    is_told("pids.max", "fork and new threads fail with EAGAIN", workload.pid())?;
    drop(workload);
    Ok(())
}
