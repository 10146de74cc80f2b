//! The programs of the walk. They attach to nothing: the kernel runs them when their iterators are read, or when it is told to.

mod layout;
mod load;
pub(crate) mod records;

use std::{
    fs::File as FsFile,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use fdtrace_common::{
    fields::{Fields, GLOBAL},
    holder_walk::{ANSWER_BYTES, File, MEMORY_BYTES, PEEK_BYTES, PEEK_REQUESTS, Request},
};

use super::{
    bpf,
    btf::KernelTypes,
    capabilities::Capabilities,
    error::{Error, Result},
    fields,
    tracer::raise_memlock,
};
pub use layout::{
    BpfLayout, Chase, NamespaceLayout, PathLayout, PeerLayout, PidLayout, QueueLayout, RING_DESCRIPTORS,
    RequestLayout, RingTable, SegmentLayout, SocketLayout, TreeLayout, UserLayout,
};
use load::Loaded;

/// The BPF object, built by `cargo xtask ebpf` and committed.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../fdtrace-ebpf/holder_walk.bpf.o"));

/// Each program, and the iterator it is for.
const TASKS: (&str, &str) = ("walk_tasks", "task");
const DESCRIPTORS: (&str, &str) = ("walk_descriptors", "task_file");
const MAPPINGS: (&str, &str) = ("walk_mappings", "task_vma");

/// Programs that are run for what no iterator shows.
const READ: &str = "walk_read";
const DESCRIBE: &str = "walk_describe";

/// The loaded programs, each with the reason where it could not be loaded.
pub struct HolderWalk {
    /// All threads.
    pub tasks: Walk,
    /// All descriptors.
    pub descriptors: Walk,
    /// All mappings (5.12).
    pub mappings: Walk,
    read: Walk,
    requests: OwnedFd,
    memory: OwnedFd,
    describe: Walk,
    described: OwnedFd,
    /// Which handles were reported, and whose table and address space came last.
    reported: (OwnedFd, usize),
    last: [(OwnedFd, usize); 2],
    counts_from_zero: bool,
    /// How to follow what no iterator shows.
    pub chase: Chase,
    /// What is not known since this kernel lacks a field.
    pub remarks: Vec<String>,
}

/// A program, or the reason why this kernel has none.
pub struct Walk(std::result::Result<OwnedFd, String>);

impl Walk {
    fn run(&self, argument: u64) -> io::Result<()> {
        let program = self.0.as_ref().map_err(|reason| io::Error::other(reason.clone()))?;
        bpf::run(program.as_fd(), &[argument])
    }

    /// What the program writes, from a walk that begins now.
    ///
    /// # Errors
    /// Why there is no such walk on this kernel, or what the kernel answers.
    pub fn begin(&self) -> std::result::Result<FsFile, String> {
        let program = self.0.as_ref().map_err(Clone::clone)?;
        bpf::iterate(program.as_fd(), None).map_err(|error| error.to_string())
    }
}

impl HolderWalk {
    /// Loads the programs.
    ///
    /// # Errors
    /// A missing capability, or a kernel whose types cannot be read.
    pub fn load() -> Result<Self> {
        if let Some(missing) = Capabilities::current().missing_for_tracing().first() {
            return Err(Error::Capability { missing: missing.to_string() });
        }
        let mut types = KernelTypes::open()?;
        raise_memlock();
        let found = fields::find(&mut types)?;
        let loaded = Loaded::new(OBJECT, (GLOBAL, bytes_of(&found.fields)))?;
        let [tasks, descriptors, mappings] = [TASKS, DESCRIPTORS, MAPPINGS]
            .map(|(program, place)| (program, place, types.function(&format!("bpf_iter_{place}"))));
        // The verifier takes longer than all the rest, and looks at several programs at once.
        let walk = |program: (&str, &str, Option<u32>)| Walk(iterator(&loaded, program));
        let run = |program: &str| Walk(runnable(&loaded, program));
        let failed = |_| Walk(Err("its loader has failed".to_owned()));
        let ([tasks, mappings], descriptors, [read, describe]) = std::thread::scope(|scope| {
            let walks = [tasks, mappings].map(|program| scope.spawn(move || walk(program)));
            let runs = [READ, DESCRIBE].map(|program| scope.spawn(move || run(program)));
            let descriptors = walk(descriptors);
            (
                walks.map(|walk| walk.join().unwrap_or_else(failed)),
                descriptors,
                runs.map(|run| run.join().unwrap_or_else(failed)),
            )
        });
        Ok(Self {
            tasks,
            descriptors,
            mappings,
            read,
            requests: loaded.map("REQUESTS")?,
            memory: loaded.map("MEMORY")?,
            describe,
            described: loaded.map("FILE")?,
            reported: loaded.array("DESCRIBED")?,
            last: [loaded.array("LAST_TABLE")?, loaded.array("LAST_SPACE")?],
            counts_from_zero: types.offset("file", "f_count").is_none(),
            chase: layout::of_pointers(&mut types),
            remarks: found.remarks,
        })
    }

    /// Makes the programs forget what they have told: the next walk is for somebody who knows nothing.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn forget(&self) -> io::Result<()> {
        let (reported, entries) = &self.reported;
        bpf::fill(reported.as_fd(), &vec![0u64; *entries])?;
        self.last.iter().try_for_each(|(last, entries)| bpf::fill(last.as_fd(), &vec![[0u64; 2]; *entries]))
    }

    /// Bytes of the kernel's memory, at most [`PEEK_BYTES`](fdtrace_common::holder_walk::PEEK_BYTES) at each address; `None`
    /// where they cannot be read. Memory that nobody holds may be given back and filled anew between two of them.
    ///
    /// # Errors
    /// Why there is no such program on this kernel, or what the kernel answers.
    pub fn read(&self, wanted: &[(u64, usize)]) -> io::Result<Vec<Option<Vec<u8>>>> {
        let mut all = Vec::with_capacity(wanted.len());
        while let Some(rest) = wanted.get(all.len()..).filter(|rest| !rest.is_empty()) {
            let requests = requests(rest);
            bpf::fill(self.requests.as_fd(), &requests)?;
            self.read.run(requests.len() as u64)?;
            let answers: Vec<Request> = bpf::first_elements(self.requests.as_fd(), requests.len())?;
            let memory: Vec<[u8; MEMORY_BYTES]> = bpf::first_elements(self.memory.as_fd(), 1)?;
            let bytes = memory.first().map_or(&[][..], |memory| &memory[..]);
            all.extend(requests.iter().zip(answers).map(|(request, answer)| {
                let was_read = request.length > 0 && answer.length == request.length;
                was_read.then(|| bytes[request.offset as usize..][..request.length as usize].to_vec())
            }));
        }
        Ok(all)
    }

    /// What lies at addresses that should be handles. What cannot be one is left out, and so is one without references.
    ///
    /// # Errors
    /// As above.
    pub fn describe(&self, handles: &[u64]) -> io::Result<Vec<File>> {
        let mut all = Vec::with_capacity(handles.len());
        for handle in handles {
            self.describe.run(*handle)?;
            let found: Vec<File> = bpf::first_elements(self.described.as_fd(), 1)?;
            all.extend(found.into_iter().filter_map(records::told).filter(|file| self.is_alive(file.count)));
        }
        Ok(all)
    }

    /// How many references each of these handles has now; one that is gone is left out.
    ///
    /// # Errors
    /// As above.
    pub fn references(&self, handles: &[u64]) -> io::Result<Vec<(u64, u64)>> {
        let own = u64::from(self.counts_from_zero);
        Ok(self.describe(handles)?.iter().map(|file| (file.handle, file.count.wrapping_add(own))).collect())
    }

    /// `f_count` counts references. `f_ref`, from 6.13 on, counts from 0 for one reference, and its two highest bits say
    /// that it is dead (`FILE_REF_RELEASED` and `FILE_REF_DEAD`, include/linux/file_ref.h).
    const fn is_alive(&self, count: u64) -> bool {
        if self.counts_from_zero { count >> 62 != 0b11 } else { count != 0 }
    }
}

/// As many of these as fit into one run, at least one of them; a length is cut where no more can be read.
fn requests(wanted: &[(u64, usize)]) -> Vec<Request> {
    let mut end = 0;
    let placed = wanted.iter().map(|(address, length)| {
        let length = u32::try_from(*length).unwrap_or(u32::MAX).min(PEEK_BYTES);
        let offset = end;
        end += length;
        Request { address: *address, length, offset }
    });
    let fitting = placed.take_while(|request| request.offset < ANSWER_BYTES);
    fitting.take(PEEK_REQUESTS as usize).collect()
}

fn iterator(
    loaded: &Loaded,
    (program, place, function): (&str, &str, Option<u32>),
) -> std::result::Result<OwnedFd, String> {
    let function = function.ok_or_else(|| format!("this kernel has no iterator {place}"))?;
    loaded
        .iterator(program, function)
        .map_err(|error| format!("the kernel refuses the iterator {place}: {error}"))
}

fn runnable(loaded: &Loaded, program: &str) -> std::result::Result<OwnedFd, String> {
    loaded.runnable(program).map_err(|error| format!("the kernel refuses the program {program}: {error}"))
}

fn bytes_of(fields: &Fields) -> &[u8] {
    // SAFETY: `Fields` is `repr(C)`, made of integers of one size, and so has no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(fields).cast(), size_of::<Fields>()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end_within_the_room_for_answers() {
        let of = |lengths: &[usize]| requests(&lengths.iter().map(|length| (8, *length)).collect::<Vec<_>>());
        assert_eq!(of(&[16, 8]).iter().map(|request| request.offset).collect::<Vec<_>>(), [0, 16]);
        assert_eq!(of(&[usize::MAX]).first().map(|request| request.length), Some(PEEK_BYTES));
        let (most, longest) = ((ANSWER_BYTES / PEEK_BYTES) as usize, PEEK_BYTES as usize);
        assert_eq!(of(&vec![longest; most + 1]).len(), most);
        assert_eq!(of(&vec![1; 10_000]).len(), PEEK_REQUESTS as usize);
        assert!(of(&[]).is_empty());
        for lengths in [vec![4095; 100], vec![longest, 1, longest], vec![3; 1000]] {
            let fits = |request: &Request| (request.offset + request.length) as usize <= MEMORY_BYTES;
            assert!(of(&lengths).iter().all(fits));
        }
    }
}
