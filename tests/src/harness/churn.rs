//! Handles that come and go all the time.

use crate::workload::{register_files, ring, unregister_files};
use anyhow::Result;
use std::{
    fs::File,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Threads that make and let go of handles until this is dropped.
#[derive(Debug)]
pub struct Churn {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Churn {
    /// Files that a ring has at once. While it gives them back, which takes long on 5.10, nobody has them.
    pub const RING_FILES: i64 = 16;

    /// So many that each open a file and close it.
    ///
    /// # Errors
    /// When there are no threads any more.
    pub fn of_openers(count: usize) -> Result<Self> {
        let mut churn = Self { stop: Arc::default(), threads: Vec::new() };
        (0..count).try_for_each(|_| churn.repeat(|| drop(open())))?;
        Ok(churn)
    }

    /// One that registers files with a ring and takes them back.
    ///
    /// # Errors
    /// [`NotPossible`](crate::workload::NotPossible) where there are no rings.
    pub fn of_rings() -> Result<Self> {
        let mut churn = Self { stop: Arc::default(), threads: Vec::new() };
        let ring = ring()?;
        churn.repeat(move || {
            let files: Vec<OwnedFd> =
                (0..Self::RING_FILES).filter_map(|_| open()).map(OwnedFd::from).collect();
            if register_files(&ring, &files).is_ok() {
                drop(files);
                unregister_files(&ring);
            }
        })?;
        Ok(churn)
    }

    fn repeat(&mut self, step: impl Fn() + Send + 'static) -> Result<()> {
        let stop = Arc::clone(&self.stop);
        let body = move || {
            while !stop.load(Ordering::Relaxed) {
                step();
            }
        };
        self.threads.push(thread::Builder::new().spawn(body)?);
        Ok(())
    }
}

/// A machine that is full says no; there is a next time.
fn open() -> Option<File> {
    File::open("/dev/null").ok()
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a thread panicked");
            }
        }
    }
}
