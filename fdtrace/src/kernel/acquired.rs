//! The kernel's own table of descriptors that were acquired, and which of them are closed by now.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::maps::{HashMap, MapData};
use fdtrace_common::descriptor::Acquired;

use super::{bpf, iterators::records, queries::Query, tracer::Plain};

/// The most descriptors that the kernel's table holds.
pub(super) const MAX: u32 = 16_384;

/// An entry of the ACQUIRED map whose descriptor is closed, or another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// As in [`Acquired`].
    pub key: u64,
    /// As in [`Acquired`].
    pub time: u64,
}

/// The table, and who looks through it.
pub struct AcquiredTable {
    pub(super) table: HashMap<MapData, u64, Plain<Acquired>>,
    pub(super) keys: Option<OwnedFd>,
    pub(super) closed: Option<Query>,
}

impl AcquiredTable {
    /// All that is in the table, closed or not.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn all(&self) -> io::Result<Vec<(u64, Acquired)>> {
        bpf::elements(self.map())
    }

    /// What is in the table and closed by now; nothing where the kernel has no such program.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn closed(&self) -> io::Result<Vec<Closed>> {
        let Some(query) = &self.closed else { return Ok(Vec::new()) };
        let mut keys = Vec::new();
        match &self.keys {
            Some(program) => {
                let elements = bpf::iterate(program.as_fd(), Some(self.map()))?;
                records(elements, |key: &u64| keys.push(*key))?;
            }
            None => bpf::each_element(self.map(), |key: u64, _: Acquired| keys.push(key))?,
        }
        Ok(query.answers(&keys)?.into_iter().map(|(key, time)| Closed { key, time }).collect())
    }

    /// Takes an entry out, unless its place has been used again since.
    pub fn forget(&mut self, closed: Closed) {
        if let Ok(Some(taken)) = bpf::take::<u64, Acquired>(self.map(), closed.key)
            && taken.time != closed.time
        {
            // The place was used again between the iterators and now. One that has come in meanwhile is younger still.
            let _ = self.table.insert(closed.key, Plain(taken), NO_EXIST);
        }
    }

    fn map(&self) -> BorrowedFd<'_> {
        aya::maps::IterableMap::map(&self.table).fd().as_fd()
    }
}

/// `BPF_NOEXIST`
const NO_EXIST: u64 = 1;
