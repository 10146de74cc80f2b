//! What things are called that have no plain path.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    harness::{Scratch, Workload, explain, possible, turn, with_own_mounts},
    workload::NotPossible,
};
use rustix::{
    io::IoSlice,
    mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
        sendmsg, socketpair,
    },
};
use std::{
    fs::{self, File},
    mem::MaybeUninit,
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    process::id,
};

/// How many handles of a process have this kind and name.
fn called(pid: u32, kind: &str, name: &str) -> Result<u64> {
    let document = explain(["--pid", &pid.to_string()])?;
    let process = document.process(pid).context("not there")?;
    let files = process.files.iter().filter(|file| file.kind == kind && file.name == name);
    let count = files.clone().map(|file| file.count).sum();
    ensure!(files.count() <= 1, "{kind} {name:?} is several rows: {:?}", process.files);
    Ok(count)
}

fn holds(steps: &[&str]) -> Result<Option<Workload>> {
    let started = Workload::start_if_possible(steps[0], steps.iter().copied())?;
    let Some(mut workload) = started else { return Ok(None) };
    workload.go()?;
    Ok(Some(workload))
}

#[test]
fn a_pidfd_by_its_process() -> Result<()> {
    let _turn = turn();
    let Some(workload) = holds(&["pidfd=7"])? else { return Ok(()) };
    let name = format!("pidfd of process {}", workload.pid());
    ensure!(called(workload.pid(), "anon", &name)? == 7, "{name}");
    Ok(())
}

/// Memory that not even the kernel reads.
fn secret() -> Result<OwnedFd> {
    // SAFETY: takes a number, and makes a descriptor.
    let number = unsafe { libc::syscall(libc::SYS_memfd_secret, 0) };
    match i32::try_from(number) {
        // SAFETY: the kernel has just made it, and nothing else knows it.
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        _ => Err(NotPossible(format!("memfd_secret: {}", std::io::Error::last_os_error())).into()),
    }
}

#[test]
fn secret_memory_is_memory() -> Result<()> {
    let _turn = turn();
    let made = possible("memfd_secret", (0..5).map(|_| secret()).collect::<Result<Vec<_>>>())?;
    let Some(_secrets) = made else { return Ok(()) };
    ensure!(called(id(), "memfd", "memfd_secret")? == 5);
    Ok(())
}

/// The main thread has ended, or the table is one of another thread.
#[test]
fn paths_that_only_a_thread_shows() -> Result<()> {
    let _turn = turn();
    for step in ["main-exited=9", "private-tables=9"] {
        let Some(_workload) = holds(&[step])? else { continue };
        let document = explain([])?;
        let workers = document.processes.iter().filter(|process| process.comm == "workload");
        let file = workers.flat_map(|process| &process.files).find(|file| file.count == 9);
        let file = file.with_context(|| format!("{step}: not there"))?;
        ensure!(Path::new(&file.name).is_absolute() && file.name.ends_with("/file"), "{step}: {file:?}");
    }
    Ok(())
}

/// A tmpfs that is mounted at two places, gone when dropped.
struct Twice(Scratch);

const PLACES: [&str; 2] = ["one", "two"];

impl Twice {
    fn new() -> Result<Self> {
        let twice = Self(Scratch::new()?);
        let [one, two] = PLACES.map(|place| twice.0.path().join(place));
        [&one, &two].into_iter().try_for_each(fs::create_dir)?;
        mount("tmpfs", &one, "tmpfs", MountFlags::NODEV, None).context("tmpfs")?;
        fs::create_dir(one.join("inner"))?;
        mount_bind(&one, &two).context("bind")?;
        Ok(twice)
    }
}

impl Drop for Twice {
    fn drop(&mut self) {
        for place in PLACES {
            if let Err(error) = unmount(self.0.path().join(place), UnmountFlags::DETACH) {
                eprintln!("cannot unmount {place}: {error}");
            }
        }
    }
}

/// Sends a directory to nobody.
fn send(directory: &File) -> Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut space = [MaybeUninit::uninit(); 64];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [directory.as_fd()];
    ensure!(control.push(SendAncillaryMessage::ScmRights(&files)), "no room");
    sendmsg(&pair.0, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    Ok(pair)
}

#[test]
fn directories_of_two_mounts() -> Result<()> {
    let _turn = turn();
    let look = || {
        let twice = Twice::new()?;
        let paths = ["one", "two", "one/inner", "two/inner"].map(|path| twice.0.path().join(path));
        let _open = paths.iter().map(File::open).collect::<Result<Vec<_>, _>>()?;
        for path in &paths {
            ensure!(called(id(), "directory", &path.to_string_lossy())? == 1, "{}", path.display());
        }
        Ok(())
    };
    possible("mounts", with_own_mounts(look)).map(drop)
}

/// Where nobody has a descriptor, the kernel's entries lead to the path: also from where a mount begins.
#[test]
fn a_directory_in_flight() -> Result<()> {
    let _turn = turn();
    let look = || {
        let twice = Twice::new()?;
        let path = twice.0.path().join("two");
        let _sent = send(&File::open(&path)?)?;
        ensure!(called(id(), "directory", &path.to_string_lossy())? == 1, "{}", path.display());
        Ok(())
    };
    possible("mounts", with_own_mounts(look)).map(drop)
}
