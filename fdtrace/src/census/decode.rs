//! What the iterators write, as a census.

use fdtrace_common::census::{self as wire, File, Task, tag};

use super::{Census, Descriptor, Handle, Mapping, Owner};
use crate::kernel::census_records::{file, fixed, records};

/// Whose entries come now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    /// Of nobody.
    Nobody,
    /// Of an owner whose entries are there already, from another walk or another task.
    Known,
    Table,
    Space,
}

/// Takes in records as they come; a record may be cut between two portions.
pub(super) struct Decoder {
    rest: Vec<u8>,
    current: Current,
    /// Bytes that were no record.
    pub(super) malformed: u64,
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self { rest: Vec::new(), current: Current::Nobody, malformed: 0 }
    }

    /// A new walk begins: what is left of the last one was cut.
    pub(super) fn begin(&mut self) {
        self.malformed += self.rest.len() as u64;
        self.rest.clear();
        self.current = Current::Nobody;
    }

    /// Takes in the next bytes of a walk.
    pub(super) fn take(&mut self, bytes: &[u8], census: &mut Census) {
        if self.rest.is_empty() {
            let used = self.records(bytes, census);
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            let mut all = std::mem::take(&mut self.rest);
            all.extend_from_slice(bytes);
            let used = self.records(&all, census);
            self.rest.extend_from_slice(&all[used..]);
        }
    }

    fn records(&mut self, bytes: &[u8], census: &mut Census) -> usize {
        let (used, malformed) = records(bytes, |tag, record| self.record(tag, record, census));
        self.malformed += malformed;
        used
    }

    fn record(&mut self, tag: u32, record: &[u8], census: &mut Census) {
        match tag {
            tag::TASK => census.tasks.extend(fixed::<Task>(record)),
            tag::TABLE => self.table(fixed(record), census),
            tag::SPACE => self.space(fixed(record), census),
            tag::FILE => {
                if let Some(file) = file(record) {
                    census.add(&file);
                }
            }
            tag::DESCRIPTOR => self.descriptor(fixed(record), census),
            tag::MAPPING => self.mapping(fixed(record), census),
            _ => self.malformed += record.len() as u64,
        }
    }

    fn table(&mut self, task: Option<Task>, census: &mut Census) {
        let Some(task) = task else { return };
        let owner = owner(task.files, task.tgid, census.descriptors.len());
        self.current = begin(&mut census.tables, owner, Current::Table);
        census.tasks.push(task);
    }

    fn space(&mut self, task: Option<Task>, census: &mut Census) {
        let Some(task) = task else { return };
        let owner = owner(task.mm, task.tgid, census.mappings.len());
        self.current = begin(&mut census.spaces, owner, Current::Space);
        census.tasks.push(task);
    }

    fn descriptor(&self, found: Option<wire::Descriptor>, census: &mut Census) {
        if let (Current::Table, Some(found), Some(table)) = (self.current, found, census.tables.last_mut())
            && let Some(handle) = census.places.get(found.handle)
        {
            let close_on_exec =
                [Some(false), Some(true)].get(found.close_on_exec as usize).copied().flatten();
            census.descriptors.push(Descriptor { handle, fd: found.fd, close_on_exec });
            table.part.end += 1;
        }
    }

    fn mapping(&self, found: Option<wire::Mapping>, census: &mut Census) {
        if let (Current::Space, Some(found)) = (self.current, found)
            && let Some(handle) = census.places.get(found.handle)
            && let Some(space) = census.spaces.last_mut()
        {
            space.part.end += 1;
            census.map(Mapping { handle, start: found.start, end: found.end }, found.flags);
        }
    }
}

fn owner(address: u64, tgid: u32, at: usize) -> Owner {
    let at = u32::try_from(at).unwrap_or(u32::MAX);
    Owner { address, tgid, part: at..at }
}

/// Threads of a process whose main thread is gone come with its table one after the other, and others may lie between.
fn begin(owners: &mut Vec<Owner>, owner: Owner, current: Current) -> Current {
    // A walk meets few owners twice, and the one that it meets again is among the last.
    const MEMORY: usize = 4096;
    let from = owners.len().saturating_sub(MEMORY);
    if owners[from..].iter().rev().any(|known| known.address == owner.address) {
        return Current::Known;
    }
    owners.push(owner);
    current
}

impl Census {
    /// The place of a handle, made when it is news.
    pub(super) fn add(&mut self, file: &File) -> u32 {
        let next = u32::try_from(self.handles.len()).unwrap_or(u32::MAX);
        if self.places.insert(file.handle, next) {
            let handle = Handle::new(file, &mut self.names);
            self.handles.push(handle);
            return next;
        }
        self.places.get(file.handle).unwrap_or(next)
    }
}
