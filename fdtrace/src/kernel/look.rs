//! Reads the iterators: what each new handle is, and which descriptors point to a few of them.

use std::{
    fs::File,
    io::{self, Read as _},
    mem::size_of,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::{HashMap, MapData};
use fdtrace_common::look::{Description, Descriptor, Phantom};

use super::bpf;

/// The two iterators. Reading them does not disturb tracing, so this may live in another thread than the tracer.
pub struct Looker {
    pub(super) describe: Option<OwnedFd>,
    pub(super) descriptors: Option<OwnedFd>,
    pub(super) handles: OwnedFd,
    pub(super) wanted: HashMap<MapData, u64, u8>,
}

impl Looker {
    /// The most handles whose descriptors are looked for at once (the size of the WANTED map).
    pub const MOST_WANTED: usize = 1024;

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
    pub fn look_at(&mut self, handles: &[u64]) -> io::Result<(Vec<Description>, Vec<Descriptor>)> {
        let handles = &handles[..handles.len().min(Self::MOST_WANTED)];
        for handle in handles {
            self.wanted.insert(handle, 1, 0).map_err(io::Error::other)?;
        }
        let found = self.wanted_ones();
        for handle in handles {
            // A key that is not there was not inserted; both are what is wanted.
            let _ = self.wanted.remove(handle);
        }
        found
    }

    fn wanted_ones(&self) -> io::Result<(Vec<Description>, Vec<Descriptor>)> {
        let mut descriptions = Vec::new();
        self.describe_new(|found| descriptions.push(*found))?;
        let mut descriptors = Vec::new();
        if let Some(program) = &self.descriptors {
            records(bpf::iterate(program.as_fd(), None)?, |found| descriptors.push(*found))?;
        }
        Ok((descriptions, descriptors))
    }
}

/// The iterator that finds what skipped releases leave behind.
pub struct PhantomFinder {
    pub(super) program: Option<OwnedFd>,
    pub(super) handles: OwnedFd,
}

impl PhantomFinder {
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

/// Reads an iterator to its end as records of one type, in bounded memory.
fn records<T: Copy>(mut file: File, mut each: impl FnMut(&T)) -> io::Result<()> {
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
