//! Handles that no table, no memory and no queue holds: a system call that is in progress keeps them.

use crate::workload::unix_pair;
use anyhow::{Context as _, Result, ensure};
use rustix::{
    io::{close, read},
    pipe::pipe,
    thread::{Pid, gettid},
};
use std::{
    fs,
    os::fd::{BorrowedFd, IntoRawFd as _, OwnedFd, RawFd},
    sync::mpsc::channel,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Reads of empty pipes or sockets whose descriptors were closed meanwhile; they end when this is dropped.
#[derive(Debug)]
pub struct BlockedReads {
    /// The ends that others have.
    writers: Vec<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

impl BlockedReads {
    /// Begins so many, of pipes.
    ///
    /// # Errors
    /// When there are no pipes or threads any more, or when the reads do not begin.
    pub fn new(count: usize) -> Result<Self> {
        Self::of(count, || Ok(pipe()?))
    }

    /// The same of pairs of unix sockets.
    ///
    /// # Errors
    /// As above.
    pub fn of_sockets(count: usize) -> Result<Self> {
        Self::of(count, unix_pair)
    }

    fn of(count: usize, pair: impl Fn() -> Result<(OwnedFd, OwnedFd)>) -> Result<Self> {
        let mut all = Self { writers: Vec::new(), threads: Vec::new() };
        let (sender, receiver) = channel();
        let mut readers = Vec::new();
        for _ in 0..count {
            let (reader, writer) = pair()?;
            let (number, sender) = (reader.into_raw_fd(), sender.clone());
            let body = move || {
                // Who waits for it is there, or the test has failed.
                let _ = sender.send(gettid());
                read_once(number);
            };
            all.threads.push(thread::Builder::new().stack_size(1 << 16).spawn(body)?);
            all.writers.push(writer);
            readers.push(number);
        }
        for _ in 0..count {
            wait_until_it_reads(receiver.recv().context("a thread died")?)?;
        }
        for number in readers {
            // SAFETY: it is ours, and who reads from it uses it no more.
            unsafe { close(number) };
        }
        Ok(all)
    }
}

fn read_once(number: RawFd) {
    // SAFETY: it is open until this read has begun, and is not used after it.
    let reader = unsafe { BorrowedFd::borrow_raw(number) };
    // Nothing comes; it ends with the writer.
    let _ = read(reader, &mut [0; 1]);
}

fn wait_until_it_reads(thread: Pid) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let path = format!("/proc/self/task/{}/syscall", thread.as_raw_nonzero());
    let number = format!("{} ", libc::SYS_read);
    while !fs::read_to_string(&path)?.starts_with(&number) {
        ensure!(Instant::now() < deadline, "a thread does not read");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

impl Drop for BlockedReads {
    fn drop(&mut self) {
        self.writers.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a thread panicked");
            }
        }
    }
}
