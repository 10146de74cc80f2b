//! The workload's book of its handles.

use super::{
    children::Running,
    shm::{Attachment, Segment},
};
use crate::truth::{Truth, add, without_zeros};
use rustix::mm::munmap;
use std::{ffi::c_void, os::fd::OwnedFd};

/// Which kernel path makes a handle, in fdtrace's words.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    Open,
    OpenDir,
    ShmAttach,
    Shmem,
    Socket,
    Pipe,
    AnonInode,
    Exec,
}

impl Origin {
    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::OpenDir => "open_dir",
            Self::ShmAttach => "shm_attach",
            Self::Shmem => "shmem",
            Self::Socket => "socket",
            Self::Pipe => "pipe",
            Self::AnonInode => "anon_inode",
            Self::Exec => "exec",
        }
    }
}

/// What a handle is, in fdtrace's words.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Regular,
    Directory,
    Char,
    Fifo,
    Socket,
    Anon,
    Memfd,
    Shm,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Directory => "directory",
            Self::Char => "char",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Anon => "anon",
            Self::Memfd => "memfd",
            Self::Shm => "shm",
        }
    }
}

/// Why a handle went away, in fdtrace's words.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    Close,
    Exec,
    Exit,
    OtherProcess,
}

impl Cause {
    fn word(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::OtherProcess => "other_process",
        }
    }
}

/// What must be dropped for a held handle to go away. Dropping it does just that.
#[derive(Debug)]
#[expect(dead_code, reason = "the values are kept only to be dropped")]
pub(super) enum Holder {
    Descriptors(Vec<OwnedFd>),
    Mapping(Mapping),
    Attachment(Attachment),
    Segment(Segment),
    /// A process that runs the file.
    Running(Running),
    /// Something else in the ledger holds it: a message in a socket's queue, a segment marked for removal.
    Another,
}

/// A mapping of a file whose descriptor is closed.
#[derive(Debug)]
pub(super) struct Mapping {
    address: usize,
    length: usize,
}

impl Mapping {
    /// # Safety
    /// `address` is a mapping of `length` bytes that nothing else uses or unmaps.
    pub(super) unsafe fn new(address: *mut c_void, length: usize) -> Self {
        Self { address: address.addr(), length }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let address = std::ptr::with_exposed_provenance_mut(self.address);
        // SAFETY: `new` was promised a mapping of this length that is ours alone, and it is unmapped only here.
        if let Err(error) = unsafe { munmap(address, self.length) } {
            eprintln!("workload: munmap: {error}");
        }
    }
}

#[derive(Debug)]
struct Held {
    holder: Holder,
    origin: Origin,
    kind: Kind,
    handles: u64,
}

/// All handles since the program was ready: those gone are counted, those alive are held.
#[derive(Debug, Default)]
pub struct Ledger {
    gone: Truth,
    held: Vec<Held>,
}

impl Ledger {
    /// Handles that are gone already.
    pub(super) fn gone(&mut self, cause: Cause, handles: u64) {
        self.gone.allocated += handles;
        self.gone.released += handles;
        add(&mut self.gone.released_by, cause.word(), handles);
    }

    /// Handles of opens that failed; the kernel makes one before it looks the path up.
    pub(super) fn never_opened(&mut self, handles: u64) {
        self.gone(Cause::Close, handles);
        self.gone.never_opened += handles;
    }

    /// Opens that failed before there was a handle.
    pub(super) fn failed(&mut self, error: &str, count: u64) {
        add(&mut self.gone.errors, error, count);
    }

    /// A handle that stays alive as long as its descriptor.
    pub(super) fn keep(&mut self, descriptor: OwnedFd, origin: Origin, kind: Kind) {
        self.hold(Holder::Descriptors(vec![descriptor]), origin, kind, 1);
    }

    /// Handles that stay alive as long as their holder.
    pub(super) fn hold(&mut self, holder: Holder, origin: Origin, kind: Kind, handles: u64) {
        self.held.push(Held { holder, origin, kind, handles });
    }

    /// Takes over what another thread has in its book.
    pub(super) fn append(&mut self, mut other: Self) {
        self.held.append(&mut other.held);
        self.gone.allocated += other.gone.allocated;
        self.gone.released += other.gone.released;
        self.gone.never_opened += other.gone.never_opened;
        for (cause, count) in &other.gone.released_by {
            add(&mut self.gone.released_by, cause, *count);
        }
        for (error, count) in &other.gone.errors {
            add(&mut self.gone.errors, error, *count);
        }
    }

    /// Lets go of every handle.
    pub fn close(&mut self) {
        for held in std::mem::take(&mut self.held) {
            let cause = if matches!(held.holder, Holder::Running(_)) { Cause::Exit } else { Cause::Close };
            drop(held.holder);
            self.gone(cause, held.handles);
        }
    }

    /// Removes what would outlive the process, and leaves everything else for the kernel to clean up at exit.
    pub fn abandon(self) {
        for held in self.held {
            match held.holder {
                Holder::Segment(segment) => drop(segment),
                Holder::Running(process) => drop(process),
                other => std::mem::forget(other),
            }
        }
    }

    /// What a tracer that missed nothing would say.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let mut truth = self.gone.clone();
        for held in &self.held {
            truth.allocated += held.handles;
            truth.live += held.handles;
            add(&mut truth.origins, held.origin.word(), held.handles);
            add(&mut truth.kinds, held.kind.word(), held.handles);
        }
        truth.released_by = without_zeros(truth.released_by);
        truth
    }
}
