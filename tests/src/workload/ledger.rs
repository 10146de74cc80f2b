//! The workload's book of its handles.

use super::{
    children::Running,
    shm::{Attachment, Segment},
};
use crate::truth::{self, Counts, Truth, add, without_zeros};
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
    Kernel,
    OtherProcess,
}

impl Cause {
    fn word(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Kernel => "kernel",
            Self::OtherProcess => "other_process",
        }
    }
}

/// What keeps a handle alive, in fdtrace's words and in the order in which the first one counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    Descriptor,
    ShmAttach,
    Mapping,
    ShmSegment,
    ScmRights,
    IoUring,
    Executable,
}

impl By {
    fn word(self) -> &'static str {
        match self {
            Self::Descriptor => "descriptor",
            Self::ShmAttach => "shm_attach",
            Self::Mapping => "mapping",
            Self::ShmSegment => "shm_segment",
            Self::ScmRights => "scm_rights",
            Self::IoUring => "io_uring",
            Self::Executable => "executable",
        }
    }
}

/// What must be dropped for a held handle to go away. Dropping it does just that.
#[derive(Debug)]
#[expect(dead_code, reason = "the values are kept only to be dropped")]
pub(super) enum Holder {
    Descriptors(Vec<OwnedFd>),
    Mapping(Mapping),
    Mappings(Vec<Mapping>),
    /// A file that is mapped and open.
    MappedOpen(Mapping, OwnedFd),
    Attachment(Attachment),
    Segment(Segment),
    /// A process that runs another program, or that holds something by itself.
    Running(Running),
    /// Processes that inherited descriptors, and ours.
    Shared(Vec<Running>, Vec<OwnedFd>),
    /// A process that inherited mappings, and ours.
    MappedShared(Running, Vec<Mapping>),
    /// Something else in the ledger holds it: a message in a socket's queue, a segment marked for removal.
    Another,
}

impl Holder {
    /// Lets go of a parent's memory in a child that was forked: descriptors are closed by their number.
    fn leave(&self) {
        match self {
            Self::Mapping(mapping) | Self::MappedOpen(mapping, _) => mapping.unmap(),
            Self::Mappings(mappings) | Self::MappedShared(_, mappings) => {
                mappings.iter().for_each(Mapping::unmap);
            }
            Self::Attachment(attachment) => attachment.detach(),
            Self::Descriptors(_) | Self::Segment(_) | Self::Running(_) | Self::Shared(..) | Self::Another => {
            }
        }
    }
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

impl Mapping {
    fn unmap(&self) {
        let address = std::ptr::with_exposed_provenance_mut(self.address);
        // SAFETY: `new` was promised a mapping of this length that is ours alone. Who calls this uses it no more, in this
        // process: it is dropped, or the process is a child with nothing but a copy.
        if let Err(error) = unsafe { munmap(address, self.length) } {
            eprintln!("workload: munmap: {error}");
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.unmap();
    }
}

/// Handles of one kind that are held in one way.
#[derive(Debug)]
pub(super) struct Entry {
    origin: Origin,
    kind: Kind,
    handles: u64,
    by: By,
    references: Vec<(By, u64)>,
    pids: Vec<u32>,
    /// Why they go when their holder is dropped.
    cause: Cause,
    deleted: Option<u64>,
    segment: Option<truth::Segment>,
}

impl Entry {
    /// Handles that this process holds and lets go of by closing something, each through one reference.
    pub(super) fn new(origin: Origin, kind: Kind, handles: u64, by: By) -> Self {
        let pids = vec![std::process::id()];
        let references = vec![(by, handles)];
        Self {
            origin,
            kind,
            handles,
            by,
            references,
            pids,
            cause: Cause::Close,
            deleted: None,
            segment: None,
        }
    }

    /// Another process holds them, until it ends.
    pub(super) fn of(self, process: &Running) -> Self {
        Self { pids: vec![process.pid()], cause: Cause::Exit, ..self }
    }

    /// Other processes hold them as well, each in the same way.
    pub(super) fn shared_with(mut self, processes: &[Running]) -> Self {
        self.pids.extend(processes.iter().map(Running::pid));
        self
    }

    /// No process holds them.
    pub(super) fn of_nobody(self) -> Self {
        Self { pids: Vec::new(), references: Vec::new(), ..self }
    }

    /// How often each process refers to them, all together.
    pub(super) fn referred_to(self, references: Vec<(By, u64)>) -> Self {
        Self { references, ..self }
    }

    pub(super) fn gone_by(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }

    /// Their files have no name any more, and so many bytes each.
    pub(super) fn deleted(self, bytes: u64) -> Self {
        Self { deleted: Some(bytes), ..self }
    }

    /// They are a segment.
    pub(super) fn segment(self, shmid: i32, attaches: u64) -> Self {
        Self { segment: Some(truth::Segment { shmid, attaches }), ..self }
    }

    fn add_to(&self, truth: &mut Truth) {
        truth.allocated += self.handles;
        truth.live += self.handles;
        add(&mut truth.origins, self.origin.word(), self.handles);
        add(&mut truth.kinds, self.kind.word(), self.handles);
        add(&mut truth.holders, self.by.word(), self.handles);
        if let Some(bytes) = self.deleted {
            truth.deleted.handles += self.handles;
            truth.deleted.bytes += self.handles * bytes;
        }
        truth.segments.extend(self.segment);
        self.add_to_held(&mut truth.held);
    }

    fn add_to_held(&self, all: &mut Vec<truth::Held>) {
        let (holder, kind) = (self.by.word(), self.kind.word());
        let same = |held: &&mut truth::Held| {
            held.holder == holder
                && held.kind == kind
                && held.pids == self.pids
                && held.references.keys().eq(self.reference_words().keys())
        };
        if let Some(held) = all.iter_mut().find(same) {
            held.handles += self.handles;
            for (by, count) in &self.references {
                add(&mut held.references, by.word(), *count);
            }
            return;
        }
        all.push(truth::Held {
            holder: holder.to_owned(),
            kind: kind.to_owned(),
            handles: self.handles,
            references: self.reference_words(),
            pids: self.pids.clone(),
        });
    }

    fn reference_words(&self) -> Counts {
        self.references.iter().map(|(by, count)| (by.word().to_owned(), *count)).collect()
    }
}

#[derive(Debug)]
struct Held {
    holder: Holder,
    entry: Entry,
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
        self.keep_all(vec![descriptor], origin, kind);
    }

    /// Handles that stay alive as long as their descriptors, of which each has one.
    pub(super) fn keep_all(&mut self, descriptors: Vec<OwnedFd>, origin: Origin, kind: Kind) {
        let entry = Entry::new(origin, kind, descriptors.len() as u64, By::Descriptor);
        self.hold(Holder::Descriptors(descriptors), entry);
    }

    /// Handles that stay alive as long as their holder.
    pub(super) fn hold(&mut self, holder: Holder, entry: Entry) {
        self.held.push(Held { holder, entry });
    }

    /// In a child that was forked: lets go of everything of the parent's that is mapped. Makes system calls only.
    pub(super) fn leave(&self) {
        self.held.iter().for_each(|held| held.holder.leave());
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
        for Held { holder, entry } in std::mem::take(&mut self.held) {
            drop(holder);
            self.gone(entry.cause, entry.handles);
        }
    }

    /// Removes what would outlive the process, and leaves everything else for the kernel to clean up at exit.
    pub fn abandon(self) {
        for held in self.held {
            match held.holder {
                Holder::Segment(segment) => drop(segment),
                Holder::Running(process) => drop(process),
                Holder::Shared(processes, descriptors) => {
                    drop(processes);
                    std::mem::forget(descriptors);
                }
                other => std::mem::forget(other),
            }
        }
    }

    /// What a tracer that missed nothing would say.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let mut truth = self.gone.clone();
        self.held.iter().for_each(|held| held.entry.add_to(&mut truth));
        truth.released_by = without_zeros(truth.released_by);
        truth
    }
}
