//! What the iterators write, as a walk.

use fdtrace_common::holder_walk::{self as wire, File, Task, tag};

use super::{AddressMap, Descriptor, Handle, HolderSnapshot, Mapping, Owner};
use crate::kernel::walk_records::{file, fixed, records};

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
    /// Nothing says where the next record of this walk begins.
    is_lost: bool,
    /// Tables and address spaces that have come. A walk meets one again for each process that shares it.
    tables: AddressMap,
    spaces: AddressMap,
    /// Bytes that were no record.
    pub(super) malformed: u64,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            rest: Vec::new(),
            current: Current::Nobody,
            is_lost: false,
            tables: AddressMap::default(),
            spaces: AddressMap::default(),
            malformed: 0,
        }
    }

    /// A new walk begins: what is left of the last one was cut.
    pub(super) fn begin(&mut self) {
        self.malformed += self.rest.len() as u64;
        self.rest.clear();
        self.current = Current::Nobody;
        self.is_lost = false;
    }

    /// Takes in the next bytes of a walk.
    pub(super) fn take(&mut self, bytes: &[u8], snapshot: &mut HolderSnapshot) {
        if self.is_lost {
            self.malformed += bytes.len() as u64;
        } else if self.rest.is_empty() {
            let used = self.records(bytes, snapshot);
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            let mut all = std::mem::take(&mut self.rest);
            all.extend_from_slice(bytes);
            let used = self.records(&all, snapshot);
            self.rest.extend_from_slice(&all[used..]);
        }
    }

    fn records(&mut self, bytes: &[u8], snapshot: &mut HolderSnapshot) -> usize {
        let (used, malformed) = records(bytes, |tag, record| self.record(tag, record, snapshot));
        self.malformed += malformed;
        self.is_lost |= malformed > 0;
        used
    }

    fn record(&mut self, tag: u32, record: &[u8], snapshot: &mut HolderSnapshot) {
        let is_whole = match tag {
            tag::TASK => fixed(record).map(|task| snapshot.tasks.push(task)),
            tag::TABLE => self.table(fixed(record), snapshot),
            tag::SPACE => self.space(fixed(record), snapshot),
            tag::FILE => file(record).map(|file| _ = snapshot.add(&file)),
            tag::DESCRIPTOR => fixed(record).map(|found| self.descriptor(found, snapshot)),
            tag::MAPPING => fixed(record).map(|found| self.mapping(found, snapshot)),
            _ => None,
        };
        if is_whole.is_none() {
            self.malformed += record.len() as u64;
        }
    }

    /// A task that cannot be read is somebody: what follows is not of whoever came before.
    fn table(&mut self, task: Option<Task>, snapshot: &mut HolderSnapshot) -> Option<()> {
        self.current = Current::Nobody;
        let task = task?;
        let owner = owner(task.files, &task, snapshot.descriptors.len());
        self.current = begin(&mut self.tables, &mut snapshot.tables, owner, Current::Table);
        snapshot.tasks.push(task);
        Some(())
    }

    fn space(&mut self, task: Option<Task>, snapshot: &mut HolderSnapshot) -> Option<()> {
        self.current = Current::Nobody;
        let task = task?;
        let owner = owner(task.mm, &task, snapshot.mappings.len());
        self.current = begin(&mut self.spaces, &mut snapshot.spaces, owner, Current::Space);
        snapshot.tasks.push(task);
        Some(())
    }

    fn descriptor(&self, found: wire::Descriptor, snapshot: &mut HolderSnapshot) {
        if let (Current::Table, Some(table)) = (self.current, snapshot.tables.last_mut())
            && let Some(handle) = snapshot.places.get(found.handle)
        {
            let close_on_exec =
                [Some(false), Some(true)].get(found.close_on_exec as usize).copied().flatten();
            snapshot.descriptors.push(Descriptor { handle, fd: found.fd, close_on_exec });
            table.part.end += 1;
        }
    }

    fn mapping(&self, found: wire::Mapping, snapshot: &mut HolderSnapshot) {
        if self.current == Current::Space
            && let Some(handle) = snapshot.places.get(found.handle)
            && let Some(space) = snapshot.spaces.last_mut()
        {
            space.part.end += 1;
            snapshot.map(Mapping { handle, start: found.start, end: found.end }, found.flags);
        }
    }
}

fn owner(address: u64, task: &Task, at: usize) -> Owner {
    let at = u32::try_from(at).unwrap_or(u32::MAX);
    Owner { address, tgid: task.tgid, thread: task.pid, part: at..at }
}

/// Threads of a process whose main thread is gone come with its table one after the other, and others may lie between; so
/// do processes that share a table.
fn begin(known: &mut AddressMap, owners: &mut Vec<Owner>, owner: Owner, current: Current) -> Current {
    let place = u32::try_from(owners.len()).unwrap_or(u32::MAX);
    if !known.insert(owner.address, place) {
        return Current::Known;
    }
    owners.push(owner);
    current
}

impl HolderSnapshot {
    /// The place of a handle, made when it is news.
    pub(crate) fn add(&mut self, file: &File) -> u32 {
        let next = u32::try_from(self.handles.len()).unwrap_or(u32::MAX);
        if self.places.insert(file.handle, next) {
            let handle = Handle::new(file, &mut self.names);
            self.handles.push(handle);
            return next;
        }
        self.places.get(file.handle).unwrap_or(next)
    }
}

#[cfg(test)]
mod tests {
    use fdtrace_common::holder_walk::VM_EXEC;

    use super::*;
    use crate::holders::{
        fixture::{KERNEL, Records, file, rename, task, tcp_socket, unix_socket},
        mark,
    };

    /// What can be distinguished of a walk.
    fn summary(snapshot: &HolderSnapshot) -> String {
        let names: Vec<String> =
            (0..).zip(&snapshot.handles).map(|(place, _)| snapshot.name(place)).collect();
        let HolderSnapshot { handles, tasks, tables, descriptors, spaces, mappings, .. } = snapshot;
        format!("{handles:?}{names:?}{tasks:?}{tables:?}{descriptors:?}{spaces:?}{mappings:?}")
    }

    fn walk() -> Records {
        let mut records = Records::default();
        records.task(tag::TABLE, &task(7, "app"));
        records.file(&file(KERNEL, b"a")).descriptor(KERNEL, 0, 0);
        records.file(&tcp_socket(KERNEL + 256, 8)).descriptor(KERNEL + 256, 1, 1).descriptor(KERNEL, 2, 2);
        records.task(tag::TABLE, &task(8, "other")).descriptor(KERNEL, 0, 0);
        records.task(tag::SPACE, &task(8, "other")).mapping(KERNEL, 0x1000, VM_EXEC);
        records
    }

    #[test]
    fn however_the_bytes_are_cut() {
        let bytes = walk().0;
        let whole = summary(&walk().snapshot());
        let in_parts = |parts: &mut dyn Iterator<Item = &[u8]>| {
            let (mut decoder, mut snapshot) = (Decoder::new(), HolderSnapshot::default());
            parts.for_each(|part| decoder.take(part, &mut snapshot));
            decoder.begin();
            assert_eq!(decoder.malformed, 0);
            summary(&snapshot)
        };
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(in_parts(&mut [first, second].into_iter()), whole, "cut at {cut}");
        }
        for size in 1..300 {
            assert_eq!(in_parts(&mut bytes.chunks(size)), whole, "portions of {size}");
        }
    }

    #[test]
    fn what_was_lost_is_counted_however_it_is_cut() {
        let mut bytes = walk().0;
        let good = bytes.len();
        bytes.extend([[4u32, 12].map(u32::to_ne_bytes).concat(), walk().0].concat());
        for size in 1..300 {
            let (mut decoder, mut snapshot) = (Decoder::new(), HolderSnapshot::default());
            bytes.chunks(size).for_each(|part| decoder.take(part, &mut snapshot));
            assert_eq!(decoder.malformed, (bytes.len() - good) as u64, "portions of {size}");
            assert_eq!(summary(&snapshot), summary(&walk().snapshot()), "portions of {size}");
            // The next walk is another one.
            decoder.begin();
            let mut next = Records::default();
            decoder.take(&next.task(tag::TASK, &task(9, "next")).0, &mut snapshot);
            assert_eq!(snapshot.tasks.last().map(|task| task.tgid), Some(9));
        }
    }

    #[test]
    fn a_walk_that_ends_within_a_record_is_not_whole() {
        let (mut decoder, mut snapshot) = (Decoder::new(), HolderSnapshot::default());
        let bytes = walk().0;
        decoder.take(&bytes[..bytes.len() - 8], &mut snapshot);
        decoder.begin();
        assert_eq!(decoder.malformed, 32);
        assert!(snapshot.mappings.is_empty());
    }

    #[test]
    fn unknown_records_are_passed_over() {
        let mut records = walk();
        let mut strange = [77u32, 16, 0, 0].map(u32::to_ne_bytes).concat();
        strange.append(&mut records.0);
        let (mut decoder, mut snapshot) = (Decoder::new(), HolderSnapshot::default());
        decoder.take(&strange, &mut snapshot);
        assert_eq!(decoder.malformed, 16);
        assert_eq!(summary(&snapshot), summary(&walk().snapshot()));
    }

    #[test]
    fn descriptors_of_nobody_are_nobodys() {
        let mut records = Records::default();
        records.file(&file(KERNEL, b"a")).descriptor(KERNEL, 3, 0).mapping(KERNEL, 0, 0);
        let snapshot = records.snapshot();
        assert_eq!((snapshot.handles.len(), snapshot.descriptors.len(), snapshot.mappings.len()), (1, 0, 0));
    }

    #[test]
    fn descriptors_behind_a_task_that_cannot_be_read_are_not_the_last_ones() {
        let mut records = Records::default();
        records.task(tag::TABLE, &task(7, "app")).file(&file(KERNEL, b"a")).descriptor(KERNEL, 3, 0);
        records.0.extend([tag::TABLE, 16, 0, 0].map(u32::to_ne_bytes).concat());
        records.descriptor(KERNEL, 4, 0);
        let (mut decoder, mut snapshot) = (Decoder::new(), HolderSnapshot::default());
        decoder.take(&records.0, &mut snapshot);
        assert_eq!((snapshot.descriptors.len(), decoder.malformed), (1, 16));
        assert_eq!(snapshot.tables[0].part, 0..1);
    }

    #[test]
    fn a_handle_that_was_not_described_is_left_out() {
        let mut records = Records::default();
        records.task(tag::TABLE, &task(7, "app")).descriptor(KERNEL, 3, 0);
        assert!(records.snapshot().descriptors.is_empty());
    }

    #[test]
    fn a_table_that_processes_share_comes_once_however_many_lie_between() {
        let shared = task(1, "first");
        let mut records = Records::default();
        records.task(tag::TABLE, &shared).file(&file(KERNEL, b"a")).descriptor(KERNEL, 3, 0);
        for pid in 2..6000 {
            records.task(tag::TABLE, &task(pid, "between")).descriptor(KERNEL, 3, 0);
        }
        let sharer = Task { files: shared.files, ..task(6000, "second") };
        records.task(tag::TABLE, &sharer).descriptor(KERNEL, 3, 0);
        let snapshot = records.snapshot();
        assert_eq!(
            (snapshot.tables.len(), snapshot.descriptors.len(), snapshot.tasks.len()),
            (5999, 5999, 6000)
        );
    }

    #[test]
    fn entries_of_a_table_that_was_interrupted_stay_its_own() {
        let mut records = Records::default();
        records.task(tag::TABLE, &task(1, "a")).file(&file(KERNEL, b"a")).descriptor(KERNEL, 3, 0);
        records.task(tag::TABLE, &task(2, "b")).descriptor(KERNEL, 4, 0);
        records.task(tag::TABLE, &task(1, "a")).descriptor(KERNEL, 3, 0);
        records.task(tag::TABLE, &task(3, "c")).descriptor(KERNEL, 5, 0);
        let snapshot = records.snapshot();
        let fds: Vec<Vec<u32>> = snapshot
            .tables
            .iter()
            .map(|table| table.of(&snapshot.descriptors).iter().map(|entry| entry.fd).collect())
            .collect();
        assert_eq!(fds, [[3], [4], [5]]);
    }

    #[test]
    fn close_on_exec_may_be_unknown() {
        let mut records = Records::default();
        records.task(tag::TABLE, &task(7, "app")).file(&file(KERNEL, b"a"));
        (0..4).for_each(|value| _ = records.descriptor(KERNEL, value, value));
        let found: Vec<Option<bool>> =
            records.snapshot().descriptors.iter().map(|entry| entry.close_on_exec).collect();
        assert_eq!(found, [Some(false), Some(true), None, None]);
    }

    #[test]
    fn names_up_to_the_last_byte() {
        for length in [1, 7, 8, 55, 56, 62, 63, 64] {
            let name = vec![b'n'; length];
            let mut records = Records::default();
            let snapshot = records.file(&file(KERNEL, &name)).snapshot();
            assert_eq!(snapshot.name(0).len(), length);
        }
    }

    #[test]
    fn names_of_sockets() {
        let unix = |name: &[u8]| {
            let mut socket = unix_socket(KERNEL, KERNEL + 8);
            rename(&mut socket, name);
            Records::default().file(&socket).snapshot().name(0)
        };
        assert_eq!(unix(b"/run/x.sock"), "unix stream /run/x.sock");
        assert_eq!(unix(b"\0abstract"), "unix stream @abstract");
        assert_eq!(unix(b""), "unix stream:[0]");
        assert_eq!(unix(&[b'/'; 64]), format!("unix stream {}", "/".repeat(64)));
        let mut longest = [b'a'; 64];
        longest[0] = 0;
        assert_eq!(unix(&longest[..63]), format!("unix stream @{}", "a".repeat(62)));
        assert_eq!(unix(&longest), format!("unix stream @{}", "a".repeat(63)));

        let tcp = Records::default().file(&tcp_socket(KERNEL, 8)).snapshot();
        assert!(
            tcp.name(0).contains("127.0.0.1:8080") && tcp.name(0).contains("10.0.0.9:443"),
            "{}",
            tcp.name(0)
        );
        let mut six = tcp_socket(KERNEL, 1);
        six.family = 10;
        six.name[..32].fill(0);
        (six.name[15], six.name[31]) = (1, 2);
        let six = Records::default().file(&six).snapshot();
        assert!(six.name(0).contains("[::1]:8080") && six.name(0).contains("[::2]:443"), "{}", six.name(0));
    }

    #[test]
    fn code_is_what_somebody_runs() {
        let snapshot = walk().snapshot();
        let marked: Vec<bool> =
            snapshot.handles.iter().map(|handle| handle.marks & mark::CODE != 0).collect();
        assert_eq!(marked, [true, false]);
    }
}
