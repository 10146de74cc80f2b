//! What the kernel side is asked about entries of its tables: what handles are, which are gone, which descriptors are closed.
//!
//! A program that user space runs answers for the entries that matter. Iterators over the elements of a map could do the same, and
//! some kernels refuse those.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use fdtrace_common::{
    description::Description,
    iterators::Span,
    queries::MAX_KEYS,
    wire::{Entry, PREEXISTING, state},
};

use super::{bpf, handle_table::HandleTable};

/// A program that answers for the keys in a map of its own. Whoever holds it is the only one to ask.
pub(super) struct Query {
    pub(super) program: OwnedFd,
    pub(super) keys: OwnedFd,
}

impl Query {
    /// Has the program answer for each of these keys; `each` is called once for every run of it, with the keys of that run.
    fn run(
        &self,
        keys: &[u64],
        argument: u64,
        mut each: impl FnMut(&[u64]) -> io::Result<()>,
    ) -> io::Result<()> {
        keys.chunks(MAX_KEYS as usize).try_for_each(|keys| {
            bpf::fill(self.keys.as_fd(), keys)?;
            bpf::run(self.program.as_fd(), &[keys.len() as u64, argument])?;
            each(keys)
        })
    }

    /// The answers of a program that writes each in the place of its key: (key, answer) of those that are not 0.
    pub(super) fn answers(&self, keys: &[u64]) -> io::Result<Vec<(u64, u64)>> {
        let mut found = Vec::new();
        self.run(keys, 0, |keys| {
            let answers: Vec<u64> = bpf::first_elements(self.keys.as_fd(), keys.len())?;
            found.extend(keys.iter().copied().zip(answers).filter(|(_, answer)| *answer != 0));
            Ok(())
        })?;
        Ok(found)
    }
}

/// What handles are. Asking does not disturb tracing, so this may live in another thread than the tracer.
pub struct Descriptions {
    pub(super) query: Option<Query>,
    pub(super) answers: OwnedFd,
    pub(super) handles: HandleTable,
}

impl Descriptions {
    /// Every live handle that was not described before; nothing where the kernel has no such program.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn of_new(&self) -> io::Result<Vec<Description>> {
        let mut handles = Vec::new();
        if self.query.is_some() {
            let undescribed = Span { without: state::DESCRIBED.into(), ..Span::ALL };
            self.handles.each(undescribed, |handle, _| handles.push(handle))?;
        }
        self.ask(&handles, false)
    }

    /// These handles, as they are now; those that are not in the table of handles are left out.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn of(&self, handles: &[u64]) -> io::Result<Vec<Description>> {
        self.ask(handles, true)
    }

    fn ask(&self, handles: &[u64], again: bool) -> io::Result<Vec<Description>> {
        let mut found = Vec::new();
        if let Some(query) = &self.query {
            query.run(handles, u64::from(again), |keys| {
                let answers: Vec<Description> = bpf::first_elements(self.answers.as_fd(), keys.len())?;
                found.extend(answers.into_iter().filter(|answer| answer.handle != 0));
                Ok(())
            })?;
        }
        Ok(found)
    }
}

/// An entry of the kernel's table whose handle has no reference left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Phantom {
    /// Kernel address of the `struct file`.
    pub handle: u64,
    /// Its generation.
    pub generation: u64,
}

/// Finds what skipped releases leave behind.
pub struct PhantomFinder(Option<(Query, HandleTable)>);

impl PhantomFinder {
    /// One that finds nothing, where there is no kernel to look at.
    #[cfg(test)]
    pub(crate) const fn blind() -> Self {
        Self(None)
    }

    pub(super) fn new(query: Option<Query>, handles: HandleTable) -> Self {
        Self(query.map(|query| (query, handles)))
    }

    /// Entries of the kernel's table whose handle has no reference left; `None` where the kernel has no such program.
    /// A release that is on its way is among them.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn find(&self) -> io::Result<Option<Vec<Phantom>>> {
        let Some((query, table)) = &self.0 else { return Ok(None) };
        let mut handles = Vec::new();
        table.each(Span::ALL, |handle, _| handles.push(handle))?;
        let answers = query.answers(&handles)?.into_iter();
        Ok(Some(answers.map(|(handle, generation)| Phantom { handle, generation }).collect()))
    }
}

/// Finds what has become old enough, for the min-age filter.
pub struct Sweeper(pub(super) HandleTable);

impl Sweeper {
    /// Handles of the kernel's table that were allocated after `after` and not after `until` (`CLOCK_MONOTONIC` in ns), but not
    /// the ones that are pre-existing.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn sweep_between(&self, after: u64, until: u64) -> io::Result<Vec<(u64, Entry)>> {
        let mut found = Vec::new();
        let span = Span { after: after.max(PREEXISTING), until, without: 0 };
        self.0.each(span, |handle, entry| found.push((handle, entry)))?;
        Ok(found)
    }
}
