//! A file system that does not answer.

use super::{
    Scratch, TIMEOUT, binaries,
    process::{Killed, lines},
};
use crate::workload::NotPossible;
use anyhow::{Context as _, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::{AsRawFd as _, OwnedFd},
    fs::{CWD, Mode, OFlags, openat},
    io::{read, write},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use std::{
    ffi::CString,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// A FUSE file system with one file. It answers until somebody has opened the file, and then never again.
#[derive(Debug)]
pub struct Hung {
    directory: PathBuf,
    end: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
    // Ended after the server: until then nothing ends them.
    openers: Vec<Killed>,
    // Dropped after the file system has been taken away from it.
    _scratch: Scratch,
}

impl Hung {
    /// Mounts one.
    ///
    /// # Errors
    /// [`NotPossible`] without FUSE.
    pub fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let directory = scratch.path().join("hung");
        fs::create_dir(&directory)?;
        let device = openat(CWD, c"/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| NotPossible(format!("/dev/fuse: {error}")))?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        mount("fdtrace-test", &directory, "fuse", flags, CString::new(options)?.as_c_str())
            .map_err(|error| NotPossible(format!("mounting FUSE: {error}")))?;
        let end = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&end);
        let server = thread::spawn(move || {
            if let Err(error) = serve(&device, &until) {
                eprintln!("FUSE: {error:#}");
            }
        });
        Ok(Self { directory, end, server: Some(server), openers: Vec::new(), _scratch: scratch })
    }

    /// Starts a process that opens and maps the one file, and reads it forever; gives its number.
    ///
    /// # Errors
    /// When the file is not opened: it is not the first process.
    pub fn open(&mut self) -> Result<u32> {
        let lines = self.start_opener()?;
        lines.recv_timeout(TIMEOUT).context("the file was not opened")?;
        self.openers.last().map(|child| child.0.id()).context("nobody was started")
    }

    /// Whether it hangs: a test with a file system that answers would say nothing.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn hangs(&mut self) -> Result<bool> {
        let lines = self.start_opener()?;
        Ok(matches!(lines.recv_timeout(Duration::from_millis(500)), Err(RecvTimeoutError::Timeout)))
    }

    fn start_opener(&mut self) -> Result<Receiver<String>> {
        let mut command = Command::new(binaries::workload()?);
        command.arg("--hold").arg(self.directory.join("file")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = Killed(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        let output = child.0.stdout.take().context("no standard output")?;
        self.openers.push(child);
        Ok(lines(output))
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // When its server is gone, everyone who waits for an answer gets an error.
        self.end.store(true, Ordering::Release);
        let ended = self.server.take().is_none_or(|server| server.join().is_ok());
        let unmounted = unmount(&self.directory, UnmountFlags::DETACH);
        if !ended || unmounted.is_err() {
            eprintln!("{}: server ended: {ended}, {unmounted:?}", self.directory.display());
        }
    }
}

const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const INIT: u32 = 26;

/// A request's number of bytes before what belongs to the operation.
const HEADER: usize = 40;

fn serve(device: &OwnedFd, end: &AtomicBool) -> Result<()> {
    // The kernel wants room for the largest request that there may be.
    let mut request = vec![0; 1 << 17];
    let mut opened = false;
    let soon = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while !end.load(Ordering::Acquire) {
        if poll(&mut [PollFd::new(device, PollFlags::IN)], Some(&soon))? == 0 {
            continue;
        }
        let length = read(device, &mut request).context("read")?;
        let (operation, unique, node) = parse(&request[..length]).context("a request without a header")?;
        if opened {
            continue;
        }
        if let Some(answer) = answer(operation, node) {
            let length = u32::try_from(answer.len() + 16)?;
            let header = [&length.to_le_bytes()[..], &0_i32.to_le_bytes(), &unique.to_le_bytes()].concat();
            write(device, &[header, answer].concat()).context("write")?;
        }
        opened = operation == OPEN;
    }
    Ok(())
}

/// Operation, number of the request and number of the file.
fn parse(request: &[u8]) -> Option<(u32, u64, u64)> {
    let header = request.get(..HEADER)?;
    let operation = u32::from_le_bytes(header[4..8].try_into().ok()?);
    let unique = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let node = u64::from_le_bytes(header[16..24].try_into().ok()?);
    Some((operation, unique, node))
}

/// Nothing that was said may be kept: each look at the file is a question.
fn answer(operation: u32, node: u64) -> Option<Vec<u8>> {
    const FILE: u64 = 2;
    match operation {
        // Version 7.31, no flags; 64 bytes.
        INIT => Some([words(&[7, 31, 0, 0, 0, 4096, 1]), vec![0; 36]].concat()),
        LOOKUP => Some([longs(&[FILE, 1, 0, 0, 0]), attributes(FILE)].concat()),
        GETATTR => Some([longs(&[0, 0]), attributes(node)].concat()),
        OPEN => Some(longs(&[1, 0])),
        _ => None,
    }
}

fn attributes(node: u64) -> Vec<u8> {
    let mode = if node == 1 { 0o40_755 } else { 0o100_644 };
    // Number, size, blocks, three times; three fractions of them, mode, links, owner, group, device, size of a block, flags.
    [longs(&[node, 4096, 8, 0, 0, 0]), words(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])].concat()
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
