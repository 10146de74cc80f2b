//! System V shared memory: segments that outlive their maker unless they are removed.

use super::NotPossible;
use anyhow::{Result, anyhow};
use std::{ffi::c_void, io, mem::forget, ptr};

/// Bytes of a segment.
const LENGTH: usize = 4096;

/// Bytes of a segment in huge pages: one of the usual size.
const HUGE_LENGTH: usize = 2 << 20;

/// A segment that exists until it is dropped, and longer while something is attached.
#[derive(Debug)]
pub(super) struct Segment(i32);

impl Segment {
    pub(super) fn new() -> Result<Self> {
        Self::get(LENGTH, 0).map_err(|error| failed("shmget", &error))
    }

    /// One in huge pages, if there are any.
    pub(super) fn huge() -> Result<Self> {
        Self::get(HUGE_LENGTH, libc::SHM_HUGETLB).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOMEM | libc::EPERM | libc::ENOSYS | libc::EINVAL) => {
                NotPossible(format!("huge pages: {error}")).into()
            }
            _ => failed("shmget", &error),
        })
    }

    fn get(length: usize, flags: i32) -> io::Result<Self> {
        // SAFETY: shmget takes no pointers.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, length, libc::IPC_CREAT | flags | 0o600) };
        if id < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(id)) }
    }

    /// The kernel's number for it.
    pub(super) fn id(&self) -> i32 {
        self.0
    }

    /// Attaches it for as long as the calling process lives; makes one system call.
    pub(super) fn attach_for_good(&self) -> rustix::io::Result<()> {
        self.attach().map(forget).map_err(|_| rustix::io::Errno::NOMEM)
    }

    pub(super) fn attach(&self) -> Result<Attachment> {
        // SAFETY: the kernel chooses the address, so no memory that Rust knows is replaced.
        let address = unsafe { libc::shmat(self.0, ptr::null(), 0) };
        // The one value that means an error.
        if address.addr() == usize::MAX {
            Err(failed("shmat", &io::Error::last_os_error()))
        } else {
            Ok(Attachment(address.expose_provenance()))
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: IPC_RMID reads nothing through the pointer.
        if unsafe { libc::shmctl(self.0, libc::IPC_RMID, ptr::null_mut()) } != 0 {
            eprintln!("workload: {}", failed("shmctl", &io::Error::last_os_error()));
        }
    }
}

/// One attachment, detached when dropped.
#[derive(Debug)]
pub(super) struct Attachment(usize);

impl Attachment {
    /// Once in a process: by dropping it, or in a child that has a copy.
    pub(super) fn detach(&self) {
        let address = ptr::with_exposed_provenance::<c_void>(self.0);
        // SAFETY: the address came from shmat, and nothing in Rust refers to the memory.
        if unsafe { libc::shmdt(address) } != 0 {
            eprintln!("workload: {}", failed("shmdt", &io::Error::last_os_error()));
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.detach();
    }
}

fn failed(call: &str, error: &io::Error) -> anyhow::Error {
    anyhow!("{call}: {error}")
}
