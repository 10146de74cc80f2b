//! Reads the iterators: what each new handle is, and which descriptors point to a few of them.

use std::{
    fs::File,
    io::{self, Read as _},
    mem::size_of,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::{HashMap, MapData};
use fdtrace_common::look::{Description, Descriptor};

use super::bpf;

/// The most handles whose descriptors are looked for at once (the size of the WANTED map).
pub const MOST_WANTED: usize = 1024;

/// The two iterators. Reading them does not disturb tracing, so this may live in another thread than the tracer.
pub struct Looker {
    pub(super) describe: Option<OwnedFd>,
    pub(super) descriptors: Option<OwnedFd>,
    pub(super) handles: OwnedFd,
    pub(super) wanted: HashMap<MapData, u64, u8>,
}

impl Looker {
    /// What each live handle is that was not described before; nothing where the kernel has no such iterator.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn describe_new(&self) -> io::Result<Vec<Description>> {
        let Some(program) = &self.describe else { return Ok(Vec::new()) };
        records(bpf::iterate(program.as_fd(), Some(self.handles.as_fd()))?)
    }

    /// The descriptors of all processes that point to any of `handles`, of which only the first
    /// [`MOST_WANTED`] are looked for.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn descriptors_of(&mut self, handles: &[u64]) -> io::Result<Vec<Descriptor>> {
        let Some(program) = &self.descriptors else { return Ok(Vec::new()) };
        let handles = &handles[..handles.len().min(MOST_WANTED)];
        for handle in handles {
            self.wanted.insert(handle, 1, 0).map_err(io::Error::other)?;
        }
        let found = bpf::iterate(program.as_fd(), None).and_then(records);
        for handle in handles {
            // A key that is not there was not inserted; both are what is wanted.
            let _ = self.wanted.remove(handle);
        }
        found
    }
}

/// Reads an iterator to its end as records of one type.
fn records<T: Copy>(mut file: File) -> io::Result<Vec<T>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes
        .chunks_exact(size_of::<T>())
        // SAFETY: the programs write whole records, made of integers; the read takes any alignment.
        .map(|record| unsafe { record.as_ptr().cast::<T>().read_unaligned() })
        .collect())
}
