//! Why one handle is alive.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{AtInput, Explained, Recorder, Scratch, Workload, explain_command, turn};
use rustix::{
    fs::{Mode, OFlags, open},
    mm::{MapFlags, ProtFlags, mmap, munmap},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
        sendmsg, socketpair,
    },
    pipe::{PipeFlags, pipe_with},
};
use serde_json::Value;
use std::{
    io::IoSlice,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    time::{Duration, Instant},
};

/// The handles of a name.
fn handles(what: &str) -> Result<Vec<Value>> {
    let explained = Explained::by(&mut explain_command(["--json", "--handle", what])?)?;
    let document: Value = serde_json::from_str(explained.good()?)?;
    ensure!(document["schema"] == "fdtrace.explain-handle/1", "{document}");
    Ok(document["handles"].as_array().context("no handles")?.clone())
}

fn one(what: &str) -> Result<Value> {
    let all = handles(what)?;
    let [handle] = all.as_slice() else { anyhow::bail!("not one handle: {all:?}") };
    Ok(handle.clone())
}

/// The kernel's count is what was found.
fn is_whole(handle: &Value) -> Result<()> {
    let number = |key: &str| handle[key].as_u64().with_context(|| format!("no {key}: {handle}"));
    ensure!(number("count")? == number("found")? + number("calls")?, "{handle}");
    Ok(())
}

/// A process that reads a pipe of which this one has the write end: both are said, and where it waits.
#[test]
fn a_read_that_does_not_end() -> Result<()> {
    let _turn = turn();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = AtInput::start(reader)?;
    let what = format!("{}:0", child.pid());
    let handle = loop {
        let handle = one(&what)?;
        // It has to come that far.
        if handle["processes"][0]["on_it"] == true && handle["processes"][0]["state"] == "S" {
            break handle;
        }
    };
    is_whole(&handle)?;
    ensure!(
        handle["references"][0]["fd"] == 0 && handle["references"][0]["pids"][0] == child.pid(),
        "{handle}"
    );
    ensure!(handle["processes"][0]["call"] == "read" && handle["access"] == "read", "{handle}");
    let (peer, own) = (&handle["peer"][0], std::process::id());
    ensure!(peer["end"] == "write" && peer["processes"][0]["pid"] == own, "{handle}");
    let text = Explained::by(&mut explain_command(["--handle", &what])?)?.good()?.replace('\n', " ");
    ensure!(text.contains(&format!("({}) waits in read on it", child.pid())), "{text}");
    ensure!(text.contains(&format!("({own})")), "{text}");
    drop(writer);
    Ok(())
}

/// A file that is open, mapped and in flight, by each of its names.
#[test]
fn every_reference_of_a_file() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let path = scratch.path().canonicalize()?.join("file of a test");
    std::fs::write(&path, [0; 4096])?;
    let file = open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let copy = rustix::io::fcntl_dupfd_cloexec(&file, 0)?;
    // SAFETY: the kernel chooses the address, and nothing looks at the memory.
    let memory = unsafe { mmap(std::ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, &file, 0)? };
    let (sender, _receiver) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    ensure!(control.push(SendAncillaryMessage::ScmRights(&files)));
    sendmsg(&sender, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;

    let handle = one(&format!("{}:{}", std::process::id(), file.as_raw_fd()))?;
    is_whole(&handle)?;
    let references = handle["references"].as_array().context("no references")?;
    let holders: Vec<&str> = references.iter().filter_map(|found| found["holder"].as_str()).collect();
    ensure!(holders == ["descriptor", "descriptor", "mapping", "scm_rights"], "{handle}");
    ensure!(handle["name"] == path.to_string_lossy().as_ref(), "{handle}");
    let address = handle["address"].as_str().context("no address")?.to_owned();
    let inode = std::fs::metadata(&path)?.ino().to_string();
    let link = scratch.path().join("link");
    std::os::unix::fs::symlink(&path, &link)?;
    for what in [address.as_str(), &inode, &path.to_string_lossy(), &link.to_string_lossy()] {
        let same = handles(what)?.iter().any(|found| found["address"] == address.as_str());
        ensure!(same, "{what} is {address}");
    }
    // SAFETY: it is ours, and nobody uses it.
    unsafe { munmap(memory, 4096)? };
    drop(copy);
    Ok(())
}

/// The descriptor of a process that is this file.
fn descriptor_of(pid: u32, name: &str) -> Result<String> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        if std::fs::read_link(&path).is_ok_and(|link| link.ends_with(name)) {
            return Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("{pid} has no {name}")
}

/// A trace that is still written knows who allocated it.
#[test]
fn who_allocated_it() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let trace = scratch.path().join("t.fdt");
    let mut workload = Workload::start(["kept=3"])?;
    let recorder = Recorder::start::<&str>(&trace, [])?;
    workload.go()?;
    let (pid, trace) = (workload.pid(), trace.display().to_string());
    let what = format!("{pid}:{}", descriptor_of(pid, "file")?);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut command = explain_command(["--json", "--handle", &what, "--trace", &trace])?;
        let document: Value = serde_json::from_str(Explained::by(&mut command)?.good()?)?;
        let handle = &document["handles"][0];
        let site = &handle["sites"][0];
        if site["pids"][0] == pid && site["stack"].as_str().is_some_and(|stack| !stack.is_empty()) {
            break;
        }
        ensure!(Instant::now() < until, "nobody allocated it: {handle}");
    }
    drop(recorder);
    Ok(())
}

/// What is not there is said, and the status says so.
#[test]
fn what_is_no_handle() -> Result<()> {
    let _turn = turn();
    let own = std::process::id();
    let questions = [
        ("0xffff888000000001".to_owned(), "no handle at 0xffff888000000001".to_owned()),
        (format!("{own}:999999"), format!("process {own} has no descriptor 999999")),
        ("4194305:3".to_owned(), "there is no process 4194305".to_owned()),
        ("18446744073709551615".to_owned(), "no handle of an inode".to_owned()),
        ("/no/such/file".to_owned(), "nothing has /no/such/file open".to_owned()),
    ];
    for (what, words) in questions {
        let found = Explained::by(&mut explain_command(["--handle", &what])?)?.finished;
        let status = if words.starts_with("there is no process") { 2 } else { 1 };
        ensure!(found.status.code() == Some(status) && found.stdout.is_empty(), "{what}: {found:?}");
        ensure!(found.stderr.contains(&words), "{what}: {found:?}");
    }
    Ok(())
}
