//! The programs of the walk. They attach to nothing: the kernel runs them when their iterators are read.

mod layout;
mod load;
pub(crate) mod records;

use std::{
    fs::File as FsFile,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
};

use fdtrace_common::{
    fields::{Fields, GLOBAL},
    holder_walk::{File, PEEK_REQUESTS, Request},
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
const PEEK: (&str, &str) = ("walk_peek", "bpf_map_elem");

/// The loaded programs, each with the reason where it could not be loaded.
pub struct HolderWalk {
    /// All threads.
    pub tasks: Walk,
    /// All descriptors.
    pub descriptors: Walk,
    /// All mappings (5.12).
    pub mappings: Walk,
    peek: Walk,
    requests: OwnedFd,
    /// Which handles were reported, and whose table and address space came last.
    reported: (OwnedFd, usize),
    last: [(OwnedFd, usize); 2],
    counts_from_zero: bool,
    /// How to follow what no iterator shows.
    pub chase: Chase,
    /// What is not known since this kernel lacks a field.
    pub remarks: Vec<String>,
}

/// An iterator.
pub struct Walk(std::result::Result<OwnedFd, String>);

impl Walk {
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
        let [tasks, descriptors, mappings, peek] = [TASKS, DESCRIPTORS, MAPPINGS, PEEK]
            .map(|(program, place)| (program, place, types.function(&format!("bpf_iter_{place}"))));
        // The verifier takes longer than all the rest, and looks at several programs at once.
        let walk = |program: (&str, &str, Option<u32>)| Walk(iterator(&loaded, program));
        let (tasks, descriptors, mappings, peek) = std::thread::scope(|scope| {
            let others = [tasks, mappings, peek].map(|program| scope.spawn(move || walk(program)));
            let descriptors = walk(descriptors);
            let [tasks, mappings, peek] = others
                .map(|other| other.join().unwrap_or_else(|_| Walk(Err("its loader has failed".to_owned()))));
            (tasks, descriptors, mappings, peek)
        });
        Ok(Self {
            tasks,
            descriptors,
            mappings,
            peek,
            requests: loaded.map("REQUESTS")?,
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

    /// Bytes of the kernel's memory, at most [`PEEK_BYTES`](fdtrace_common::holders::PEEK_BYTES) at each address; `None`
    /// where they cannot be read. Memory that nobody holds may be given back and filled anew between two of them.
    ///
    /// # Errors
    /// Why there is no such program on this kernel, or what the kernel answers.
    pub fn read(&self, wanted: &[(u64, usize)]) -> io::Result<Vec<Option<Vec<u8>>>> {
        let mut all = Vec::with_capacity(wanted.len());
        for part in wanted.chunks(PEEK_REQUESTS as usize) {
            let request =
                |(address, length): &(u64, usize)| Request { address: *address, length: *length as u64 };
            let answers = self.peek(part.iter().map(request))?;
            let mut found = vec![None; part.len()];
            records::memory(&answers, |index, bytes| {
                if let Some(place) = found.get_mut(index) {
                    *place = Some(bytes.to_vec());
                }
            });
            all.append(&mut found);
        }
        Ok(all)
    }

    /// What lies at addresses that should be handles. What cannot be one is left out, and so is one without references.
    ///
    /// # Errors
    /// As above.
    pub fn describe(&self, handles: &[u64]) -> io::Result<Vec<File>> {
        let mut all = Vec::with_capacity(handles.len());
        for part in handles.chunks(PEEK_REQUESTS as usize) {
            let answers = self.peek(part.iter().map(|address| Request { address: *address, length: 0 }))?;
            records::files(&answers, |file| all.extend(Some(*file).filter(|file| self.is_alive(file.count))));
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

    fn peek(&self, requests: impl Iterator<Item = Request>) -> io::Result<Vec<u8>> {
        let program = self.peek.0.as_ref().map_err(|reason| io::Error::other(reason.clone()))?;
        let mut all = vec![Request::default(); PEEK_REQUESTS as usize];
        all.iter_mut().zip(requests).for_each(|(place, request)| *place = request);
        bpf::fill(self.requests.as_fd(), &all)?;
        let mut answers = Vec::new();
        bpf::iterate(program.as_fd(), Some(self.requests.as_fd()))?.read_to_end(&mut answers)?;
        Ok(answers)
    }
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

fn bytes_of(fields: &Fields) -> &[u8] {
    // SAFETY: `Fields` is `repr(C)`, made of integers of one size, and so has no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(fields).cast(), size_of::<Fields>()) }
}
