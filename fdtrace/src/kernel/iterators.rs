//! Reads the iterators: which descriptors point to some handles, which handles are pre-existing.

use std::{
    fs::File,
    io::{self, Read as _},
    mem::size_of,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::{HashMap, MapData};
use fdtrace_common::{
    descriptor::InTable,
    iterators::{Descriptor, Existing},
};

use super::bpf;

/// The iterator that finds the descriptors which point to some handles. Reading it does not disturb tracing, so this may live in
/// another thread than the tracer.
pub struct DescriptorFinder {
    pub(super) program: Option<OwnedFd>,
    pub(super) wanted: HashMap<MapData, u64, u8>,
}

impl DescriptorFinder {
    /// The most handles whose descriptors are looked for at once (the size of the WANTED map).
    pub const MAX_WANTED: usize = 1024;

    /// The descriptors that point to `handles`, of which only the first 1,024 are looked for; nothing where the kernel has no
    /// such iterator.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn find(&mut self, handles: &[u64]) -> io::Result<Vec<Descriptor>> {
        let Some(program) = &self.program else { return Ok(Vec::new()) };
        let handles = &handles[..handles.len().min(Self::MAX_WANTED)];
        for handle in handles {
            self.wanted.insert(handle, 1, 0).map_err(io::Error::other)?;
        }
        let mut found = Vec::new();
        let read =
            bpf::iterate(program.as_fd(), None).and_then(|file| records(file, |entry| found.push(*entry)));
        for handle in handles {
            // A key that is not there was not inserted; both are what is wanted.
            let _ = self.wanted.remove(handle);
        }
        read.map(|()| found)
    }
}

/// The two iterators that find the handles that are pre-existing. Made to be sent to a thread or a process of
/// its own: memory of other processes can be locked for long.
pub struct PreexistingScan {
    pub(super) files: Option<OwnedFd>,
    pub(super) mappings: Option<OwnedFd>,
}

impl PreexistingScan {
    /// Puts every handle that a process holds, and that the kernel's table does not have, into that table with the
    /// generation 1 ([`PREEXISTING`](fdtrace_common::wire::PREEXISTING)), and says which they were: each once, those with a
    /// descriptor first. The tracer's own are left out, and so is what the filters do not admit. Their releases come through the ring, possibly
    /// before this returns.
    ///
    /// To be run once tracing has begun, or handles that are made meanwhile are in neither.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn run(&self) -> io::Result<Vec<Existing>> {
        let mut found = Vec::new();
        for program in [&self.files, &self.mappings].into_iter().flatten() {
            records(bpf::iterate(program.as_fd(), None)?, |existing| found.push(*existing))?;
        }
        Ok(found)
    }
}

/// The iterator that reads the tables of descriptors of some processes.
pub struct TableReader {
    pub(super) program: Option<OwnedFd>,
    pub(super) tables: HashMap<MapData, u32, u8>,
}

impl TableReader {
    /// The most processes that are read at once (the size of the TABLES map).
    pub const MAX: usize = 64;

    /// All descriptors of these processes, of the first 64; nothing where the kernel has no such iterator.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn read(&mut self, pids: &[u32]) -> io::Result<Vec<InTable>> {
        let Some(program) = &self.program else { return Ok(Vec::new()) };
        let pids = &pids[..pids.len().min(Self::MAX)];
        for pid in pids {
            self.tables.insert(pid, 1, 0).map_err(io::Error::other)?;
        }
        let mut found = Vec::new();
        let read =
            bpf::iterate(program.as_fd(), None).and_then(|file| records(file, |entry| found.push(*entry)));
        for pid in pids {
            // Gone already is gone.
            let _ = self.tables.remove(pid);
        }
        read.map(|()| found)
    }
}

/// Reads an iterator to its end as records of one type, in bounded memory.
pub(super) fn records<T: Copy>(mut file: File, mut each: impl FnMut(&T)) -> io::Result<()> {
    let mut buffer = vec![0; size_of::<T>() * 64];
    let mut filled = 0;
    loop {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let whole = filled / size_of::<T>() * size_of::<T>();
        for record in buffer[..whole].chunks_exact(size_of::<T>()) {
            // SAFETY: the programs write whole records, made of integers; the read takes any alignment.
            each(&unsafe { record.as_ptr().cast::<T>().read_unaligned() });
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}
