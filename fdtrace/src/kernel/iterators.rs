//! Reads the iterators: what each new handle is, and which descriptors point to a few of them.

use std::{
    fs::File,
    io::{self, Read as _},
    mem::size_of,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Pod,
    maps::{Array, HashMap, MapData},
};
use fdtrace_common::{
    descriptor::InTable,
    iterators::{Description, Descriptor, Existing, Phantom, Span, Swept},
    wire::{Entry, PREEXISTING},
};

use super::bpf;

/// The two iterators. Reading them does not disturb tracing, so this may live in another thread than the tracer.
pub struct FileIterators {
    pub(super) describe: Option<OwnedFd>,
    pub(super) descriptors: Option<OwnedFd>,
    pub(super) handles: OwnedFd,
    pub(super) wanted: HashMap<MapData, u64, u8>,
}

impl FileIterators {
    /// The most handles whose descriptors are looked for at once (the size of the WANTED map).
    pub const MAX_WANTED: usize = 1024;

    /// Calls `each` for every live handle that was not described before, or that is wanted by name again; does nothing
    /// where the kernel has no such iterator.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn describe_new(&self, each: impl FnMut(&Description)) -> io::Result<()> {
        let Some(program) = &self.describe else { return Ok(()) };
        records(bpf::iterate(program.as_fd(), Some(self.handles.as_fd()))?, each)
    }

    /// Describes `handles` again, by name, and finds the descriptors that point to them; only the first
    /// 1,024 are looked for.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn describe_with_descriptors(
        &mut self,
        handles: &[u64],
    ) -> io::Result<(Vec<Description>, Vec<Descriptor>)> {
        self.wanting(handles, |iterators| Ok((iterators.descriptions()?, iterators.descriptors()?)))
    }

    /// Describes `handles` again, by name; only the first 1,024 are looked for.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn describe(&mut self, handles: &[u64]) -> io::Result<Vec<Description>> {
        self.wanting(handles, Self::descriptions)
    }

    fn wanting<T>(&mut self, handles: &[u64], ask: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        let handles = &handles[..handles.len().min(Self::MAX_WANTED)];
        for handle in handles {
            self.wanted.insert(handle, 1, 0).map_err(io::Error::other)?;
        }
        let found = ask(self);
        for handle in handles {
            // A key that is not there was not inserted; both are what is wanted.
            let _ = self.wanted.remove(handle);
        }
        found
    }

    fn descriptions(&self) -> io::Result<Vec<Description>> {
        let mut descriptions = Vec::new();
        self.describe_new(|found| descriptions.push(*found))?;
        Ok(descriptions)
    }

    fn descriptors(&self) -> io::Result<Vec<Descriptor>> {
        let mut descriptors = Vec::new();
        if let Some(program) = &self.descriptors {
            records(bpf::iterate(program.as_fd(), None)?, |found| descriptors.push(*found))?;
        }
        Ok(descriptors)
    }
}

/// The iterator that finds what skipped releases leave behind.
pub struct PhantomFinder {
    pub(super) program: Option<OwnedFd>,
    pub(super) handles: OwnedFd,
}

impl PhantomFinder {
    /// One that finds nothing, where there is no kernel to look at.
    #[cfg(test)]
    pub(crate) fn blind() -> io::Result<Self> {
        Ok(Self { program: None, handles: File::open("/dev/null")?.into() })
    }

    /// Entries of the kernel's table whose handle has no reference left; `None` where the kernel has no such iterator.
    /// A release that is on its way is among them.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn find(&self) -> io::Result<Option<Vec<Phantom>>> {
        let Some(program) = &self.program else { return Ok(None) };
        let mut found = Vec::new();
        records(bpf::iterate(program.as_fd(), Some(self.handles.as_fd()))?, |phantom| found.push(*phantom))?;
        Ok(Some(found))
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
    /// generation 1 ([`PREEXISTING`]), and says which they were: each once, those with a descriptor first. The tracer's
    /// own are left out, and so is what the filters do not admit. Their releases come through the ring, possibly
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

/// The iterator that finds what has become old enough, for the min-age filter.
pub struct Sweeper {
    pub(super) program: Option<OwnedFd>,
    pub(super) handles: OwnedFd,
    pub(super) span: Array<MapData, Wanted>,
}

/// Lets aya copy the span to its map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Wanted(Span);

// SAFETY: `Span` is `repr(C)`, made of two integers of the same size.
unsafe impl Pod for Wanted {}

impl Sweeper {
    /// Handles of the kernel's table that were allocated at `time` or before (`CLOCK_MONOTONIC` in ns), but not the ones
    /// that are pre-existing.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn sweep(&mut self, time: u64) -> io::Result<Vec<(u64, Entry)>> {
        self.sweep_between(0, time)
    }

    /// The same of those that were allocated after `after`: what the sweep of that time has not found already.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn sweep_between(&mut self, after: u64, until: u64) -> io::Result<Vec<(u64, Entry)>> {
        let Some(program) = &self.program else { return self.copy(after, until) };
        self.span.set(0, Wanted(Span { after, until }), 0).map_err(io::Error::other)?;
        let mut found = Vec::new();
        records(bpf::iterate(program.as_fd(), Some(self.handles.as_fd()))?, |swept: &Swept| {
            found.push((swept.handle, swept.entry));
        })?;
        Ok(found)
    }

    /// Copies the whole table, where the kernel has no such iterator.
    fn copy(&self, after: u64, until: u64) -> io::Result<Vec<(u64, Entry)>> {
        let mut all: Vec<(u64, Entry)> = bpf::elements(self.handles.as_fd())?;
        all.retain(|(_, entry)| {
            entry.generation != PREEXISTING && entry.generation > after && entry.generation <= until
        });
        Ok(all)
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
