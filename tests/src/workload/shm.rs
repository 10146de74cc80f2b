//! System V shared memory: segments that outlive their maker unless they are removed.

use anyhow::{Result, anyhow};
use std::{ffi::c_void, io, ptr};

/// Bytes of a segment.
const LENGTH: usize = 4096;

/// A segment that exists until it is dropped, and longer while something is attached.
#[derive(Debug)]
pub(super) struct Segment(i32);

impl Segment {
    pub(super) fn new() -> Result<Self> {
        // SAFETY: shmget takes no pointers.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, LENGTH, libc::IPC_CREAT | 0o600) };
        if id < 0 { Err(failed("shmget")) } else { Ok(Self(id)) }
    }

    pub(super) fn attach(&self) -> Result<Attachment> {
        // SAFETY: the kernel chooses the address, so no memory that Rust knows is replaced.
        let address = unsafe { libc::shmat(self.0, ptr::null(), 0) };
        // The one value that means an error.
        if address.addr() == usize::MAX {
            Err(failed("shmat"))
        } else {
            Ok(Attachment(address.expose_provenance()))
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: IPC_RMID reads nothing through the pointer.
        if unsafe { libc::shmctl(self.0, libc::IPC_RMID, ptr::null_mut()) } != 0 {
            eprintln!("workload: {}", failed("shmctl"));
        }
    }
}

/// One attachment, detached when dropped.
#[derive(Debug)]
pub(super) struct Attachment(usize);

impl Drop for Attachment {
    fn drop(&mut self) {
        let address = ptr::with_exposed_provenance::<c_void>(self.0);
        // SAFETY: the address came from shmat, nothing in Rust refers to the memory, and it is detached only here.
        if unsafe { libc::shmdt(address) } != 0 {
            eprintln!("workload: {}", failed("shmdt"));
        }
    }
}

fn failed(call: &str) -> anyhow::Error {
    anyhow!("{call}: {}", io::Error::last_os_error())
}
