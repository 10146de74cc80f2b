//! Walks for tests, made of the records that the kernel's iterators would write; and memory to be read.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use fdtrace_common::holder_walk::{Descriptor, FILE_FIXED, File, Header, Mapping, NAME_LEN, Task, tag};

use super::{HolderSnapshot, InFlight, Memory, Registered, decode::Decoder};

/// Where structures of the kernel may lie.
pub(crate) const KERNEL: u64 = 0xffff_8880_0000_0000;
const PAGE: u64 = 4096;
const TMPFS: u64 = 0x0102_1994;
const ANON_INODE_FS: u64 = 0x0904_1934;
const SB_KERNMOUNT: u64 = 1 << 22;
const FMODE_NOACCOUNT: u32 = 1 << 29;
const OVERLAYFS: u64 = 0x794c_7630;

/// A regular file `name` with one link, on a disk.
pub(crate) fn file(handle: u64, name: &[u8]) -> File {
    let mut file = File {
        header: Header { tag: tag::FILE, length: 0 },
        handle,
        inode: handle + 1,
        mount: KERNEL + 0x10,
        parent: KERNEL + 0x20,
        private: 0,
        cred: 0,
        count: 1,
        ino: handle & 0xffff,
        size: 100,
        blocks: 8,
        magic: 0xef53,
        mount_flags: 0,
        dev: 7,
        rdev: 0,
        links: 1,
        mode: 0,
        flags: 0,
        receive: 0,
        send: 0,
        inode_mode: 0o100_644,
        family: 0,
        socket_type: 0,
        local_port: 0,
        remote_port: 0,
        state: 0,
        name_of_peer: 0,
        name: [0; NAME_LEN],
    };
    rename(&mut file, name);
    file
}

/// A file that the kernel opened for itself, behind another.
pub(crate) fn backing_file(handle: u64, name: &[u8]) -> File {
    File { mode: FMODE_NOACCOUNT, ..file(handle, name) }
}

/// A file on overlayfs.
pub(crate) fn overlay_file(handle: u64, name: &[u8], private: u64) -> File {
    File { magic: OVERLAYFS, private, ..file(handle, name) }
}

/// Gives a file a name, whose end is written only where there is room: up to 63 bytes.
pub(crate) fn rename(file: &mut File, name: &[u8]) {
    file.name = [0; NAME_LEN];
    file.name[..name.len()].copy_from_slice(name);
    let written = (name.len() + 1).next_multiple_of(8).min(NAME_LEN);
    file.header.length = u32::try_from(FILE_FIXED + written).expect("a short record");
}

/// A unix socket.
pub(crate) fn unix_socket(handle: u64, sock: u64) -> File {
    let bare = file(handle, b"");
    File { family: 1, socket_type: 1, private: sock, inode_mode: 0o140_777, state: 7, ..bare }
}

/// A TCP socket over IPv4, in this state.
pub(crate) fn tcp_socket(handle: u64, state: u8) -> File {
    let mut address = [0; 32];
    address[..4].copy_from_slice(&[127, 0, 0, 1]);
    address[16..20].copy_from_slice(&[10, 0, 0, 9]);
    let remote_port = 443u16.to_be();
    let named = file(handle, &address);
    File { family: 2, socket_type: 1, inode_mode: 0o140_777, local_port: 8080, remote_port, state, ..named }
}

/// A ring of io_uring.
pub(crate) fn ring(handle: u64, context: u64) -> File {
    File { private: context, magic: ANON_INODE_FS, inode_mode: 0o600, ..file(handle, b"[io_uring]") }
}

/// A file on the kernel's own tmpfs, that is named like a segment's.
pub(crate) fn segment_file(handle: u64, id: u32, key: u32, private: u64) -> File {
    let named = file(handle, format!("SYSV{key:08x}").as_bytes());
    let (ino, inode) = (id.into(), KERNEL + 0x5000_0000 + u64::from(id) * 8);
    File { ino, inode, private, links: 0, magic: TMPFS, mount_flags: SB_KERNMOUNT, ..named }
}

/// The main thread of a process, with a table and an address space of its own.
pub(crate) fn task(pid: u32, comm: &str) -> Task {
    let mut name = [0; 16];
    name[..comm.len()].copy_from_slice(comm.as_bytes());
    Task {
        header: Header { tag: tag::TASK, length: length_of::<Task>() },
        files: KERNEL + 0x1000_0000 + u64::from(pid) * 64,
        mm: KERNEL + 0x2000_0000 + u64::from(pid) * 64,
        cred: KERNEL + 0x3000_0000 + u64::from(pid) * 64,
        pid,
        tgid: pid,
        soft_limit: 1024,
        hard_limit: 4096,
        comm: name,
        ..Task::default()
    }
}

fn length_of<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("a short record")
}

/// Records, one behind another.
#[derive(Clone, Default)]
pub(crate) struct Records(pub(crate) Vec<u8>);

impl Records {
    pub(crate) fn task(&mut self, tag: u32, task: &Task) -> &mut Self {
        let header = Header { tag, length: length_of::<Task>() };
        self.add(&Task { header, ..*task }, size_of::<Task>())
    }

    pub(crate) fn file(&mut self, file: &File) -> &mut Self {
        self.add(file, file.header.length as usize)
    }

    pub(crate) fn descriptor(&mut self, handle: u64, fd: u32, close_on_exec: u32) -> &mut Self {
        let header = Header { tag: tag::DESCRIPTOR, length: length_of::<Descriptor>() };
        self.add(&Descriptor { header, handle, fd, close_on_exec }, size_of::<Descriptor>())
    }

    pub(crate) fn mapping(&mut self, handle: u64, start: u64, flags: u64) -> &mut Self {
        let header = Header { tag: tag::MAPPING, length: length_of::<Mapping>() };
        self.add(&Mapping { header, handle, start, end: start + PAGE, flags }, size_of::<Mapping>())
    }

    fn add<T: Copy>(&mut self, record: &T, bytes: usize) -> &mut Self {
        // SAFETY: the records of the wire have no padding; `bytes` is at most the size of one.
        let all =
            unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>()) };
        self.0.extend_from_slice(&all[..bytes]);
        self
    }

    /// The snapshot of one walk.
    pub(crate) fn snapshot(&self) -> HolderSnapshot {
        let mut snapshot = HolderSnapshot::default();
        Decoder::new().take(&self.0, &mut snapshot);
        snapshot
    }
}

/// Processes and what they hold, to make a walk of.
#[derive(Clone, Default)]
pub(crate) struct Scene {
    tasks: Vec<Task>,
    files: BTreeMap<u64, File>,
    descriptors: BTreeMap<u32, Vec<(u32, u64, bool)>>,
    mappings: BTreeMap<u32, Vec<(u64, u64)>>,
    in_flight: Vec<(u64, u64)>,
    registered: Vec<(u64, u64)>,
    behind: Vec<(u64, u64)>,
    ring_descriptors: Vec<(u32, u64)>,
}

impl Scene {
    /// Takes in a process.
    pub(crate) fn process(&mut self, pid: u32, comm: &str) -> &mut Self {
        self.task(task(pid, comm))
    }

    pub(crate) fn task(&mut self, task: Task) -> &mut Self {
        self.tasks.push(task);
        self
    }

    /// A new regular file; the number of its handle.
    pub(crate) fn regular(&mut self, name: &str) -> u64 {
        let handle = self.next();
        self.file(file(handle, name.as_bytes()))
    }

    /// The next handle's address.
    pub(crate) fn next(&self) -> u64 {
        KERNEL + 0x100_0000 + self.files.len() as u64 * 256
    }

    pub(crate) fn file(&mut self, file: File) -> u64 {
        self.files.insert(file.handle, file);
        file.handle
    }

    /// Descriptors of a process from 3 on, or from the last one on.
    pub(crate) fn opens(&mut self, pid: u32, handles: &[u64]) -> &mut Self {
        for handle in handles {
            let all = self.descriptors.entry(pid).or_default();
            let fd = all.last().map_or(3, |(fd, ..)| fd + 1);
            all.push((fd, *handle, true));
        }
        self
    }

    /// A descriptor that exec does not close.
    pub(crate) fn keeps(&mut self, pid: u32, fd: u32, handle: u64) -> &mut Self {
        self.descriptors.entry(pid).or_default().push((fd, handle, false));
        self
    }

    /// Mappings of a process.
    pub(crate) fn maps(&mut self, pid: u32, handles: &[u64], flags: u64) -> &mut Self {
        let all = self.mappings.entry(pid).or_default();
        all.extend(handles.iter().map(|handle| (*handle, flags)));
        self
    }

    /// A handle in the queue of a socket.
    pub(crate) fn sends(&mut self, handle: u64, receiver: u64) -> &mut Self {
        self.in_flight.push((handle, receiver));
        self
    }

    /// A handle that a ring has.
    pub(crate) fn registers(&mut self, handle: u64, ring: u64) -> &mut Self {
        self.registered.push((handle, ring));
        self
    }

    /// A file behind another.
    pub(crate) fn lies_behind(&mut self, handle: u64, above: u64) -> &mut Self {
        self.behind.push((handle, above));
        self
    }

    /// A ring that needs no descriptor.
    pub(crate) fn has_ring(&mut self, pid: u32, ring: u64) -> &mut Self {
        self.ring_descriptors.push((pid, ring));
        self
    }

    pub(crate) fn snapshot(&self) -> HolderSnapshot {
        let mut snapshot = HolderSnapshot::default();
        let mut decoder = Decoder::new();
        let main = |pid: &u32| self.tasks.iter().find(|task| task.pid == *pid).expect("a process");
        let mut walk = |records: &Records| {
            decoder.begin();
            decoder.take(&records.0, &mut snapshot);
        };
        let mut tasks = Records::default();
        for task in &self.tasks {
            if let Some(file) = self.files.get(&task.executable) {
                tasks.file(file);
            }
            tasks.task(tag::TASK, task);
        }
        walk(&tasks);
        let mut descriptors = Records::default();
        for (pid, entries) in &self.descriptors {
            descriptors.task(tag::TABLE, main(pid));
            for (fd, handle, close_on_exec) in entries {
                descriptors.file(&self.files[handle]).descriptor(*handle, *fd, u32::from(*close_on_exec));
            }
        }
        walk(&descriptors);
        let mut mappings = Records::default();
        for (pid, entries) in &self.mappings {
            mappings.task(tag::SPACE, main(pid));
            for ((handle, flags), start) in entries.iter().zip((0x7f00_0000_0000u64..).step_by(4096)) {
                mappings.file(&self.files[handle]).mapping(*handle, start, *flags);
            }
        }
        walk(&mappings);
        self.chased(&mut snapshot);
        snapshot
    }

    /// What following pointers would have found.
    fn chased(&self, snapshot: &mut HolderSnapshot) {
        let place = |snapshot: &mut HolderSnapshot, handle: &u64| snapshot.add(&self.files[handle]);
        for (handle, receiver) in &self.in_flight {
            let found = InFlight { handle: place(snapshot, handle), receiver: place(snapshot, receiver) };
            snapshot.in_flight.push(found);
        }
        for (handle, ring) in &self.registered {
            let found = Registered { handle: place(snapshot, handle), ring: place(snapshot, ring) };
            snapshot.registered.push(found);
        }
        for (behind, above) in &self.behind {
            let found = (place(snapshot, behind), place(snapshot, above));
            snapshot.behind.push(found);
        }
        for (pid, ring) in &self.ring_descriptors {
            let task = snapshot.tasks.iter().position(|task| task.pid == *pid).expect("a task");
            let ring = place(snapshot, ring);
            snapshot.ring_descriptors.push((u32::try_from(task).expect("a place"), ring));
        }
    }
}

/// Memory of which pages are there or not.
#[derive(Default)]
pub(crate) struct Pages {
    pages: HashMap<u64, Vec<u8>>,
    files: HashMap<u64, File>,
    /// Requests for memory so far.
    pub(crate) reads: usize,
    /// Words that change before a request: its number, the address, the word.
    pub(crate) changes: Vec<(usize, u64, u64)>,
}

impl Pages {
    pub(crate) fn word(&mut self, address: u64, word: u64) -> &mut Self {
        self.bytes(address, &word.to_ne_bytes())
    }

    pub(crate) fn bytes(&mut self, address: u64, bytes: &[u8]) -> &mut Self {
        for (address, byte) in (address..).zip(bytes) {
            let page = self.pages.entry(address / PAGE).or_insert_with(|| vec![0; 4096]);
            page[usize::try_from(address % PAGE).expect("within a page")] = *byte;
        }
        self
    }

    pub(crate) fn file(&mut self, file: File) -> u64 {
        self.files.insert(file.handle, file);
        file.handle
    }

    fn byte(&self, address: u64) -> Option<u8> {
        let page = self.pages.get(&(address / PAGE))?;
        page.get(usize::try_from(address % PAGE).ok()?).copied()
    }
}

impl Memory for Pages {
    fn read(&mut self, wanted: &[(u64, usize)]) -> io::Result<Vec<Option<Vec<u8>>>> {
        self.reads += 1;
        let now = self.reads;
        for (_, address, word) in self.changes.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>() {
            self.word(address, word);
        }
        let read = |(address, length): &(u64, usize)| {
            assert!(*length <= 4096, "the kernel's side reads no more");
            (0..*length as u64).map(|offset| self.byte(address.checked_add(offset)?)).collect()
        };
        Ok(wanted.iter().map(read).collect())
    }

    fn describe(&mut self, handles: &[u64]) -> io::Result<Vec<File>> {
        Ok(handles.iter().filter_map(|handle| self.files.get(handle).copied()).collect())
    }
}
