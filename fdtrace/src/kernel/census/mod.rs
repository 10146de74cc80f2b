//! The programs of the census. They attach to nothing: the kernel runs them when their iterators are read.

mod layout;
pub(crate) mod records;

use std::{
    fs::File as FsFile,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::Map,
    programs::{Iter, ProgramError},
};
use aya_obj::btf::{BtfType, Func, FuncLinkage, Int, IntEncoding};
use fdtrace_common::census::{File, Layout, PEEK_REQUESTS, Request};

use super::{
    bpf,
    btf::KernelTypes,
    capabilities::Capabilities,
    error::{Error, Result, system},
    tracer::{Plain, object, raise_memlock},
};
pub use layout::{Chase, QueueLayout, RING_DESCRIPTORS, RingTable, TreeLayout};

/// The BPF object, built by `cargo xtask ebpf` and committed.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../fdtrace-ebpf/census.bpf.o"));

/// Each program, the iterator it is for, and since when there is one.
const TASKS: (&str, &str) = ("census_tasks", "task");
const DESCRIPTORS: (&str, &str) = ("census_descriptors", "task_file");
const MAPPINGS: (&str, &str) = ("census_mappings", "task_vma");
const PEEK: (&str, &str) = ("census_peek", "bpf_map_elem");

/// The loaded programs, each with the reason where it could not be loaded.
pub struct CensusPrograms {
    /// All threads.
    pub tasks: Walk,
    /// All descriptors.
    pub descriptors: Walk,
    /// All mappings (5.12).
    pub mappings: Walk,
    peek: Walk,
    requests: OwnedFd,
    counts_from_zero: bool,
    /// How to follow what no iterator shows.
    pub chase: Chase,
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

impl CensusPrograms {
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
        let layout = Plain(layout::of_iterators(&mut types)?);
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("LAYOUT", &layout, true)
            .load(OBJECT)
            .map_err(object)?;
        let targets = targets(&types);
        let mut walk = |(program, place)| Walk(load(&mut ebpf, program, place, &targets));
        let (tasks, descriptors, mappings, peek) =
            (walk(TASKS), walk(DESCRIPTORS), walk(MAPPINGS), walk(PEEK));
        let requests = match ebpf.map("REQUESTS") {
            Some(Map::Array(map)) => map.fd().as_fd().try_clone_to_owned(),
            _ => return Err(Error::Object("no map REQUESTS".to_owned())),
        };
        Ok(Self {
            tasks,
            descriptors,
            mappings,
            peek,
            requests: requests.map_err(system("a map cannot be shared"))?,
            counts_from_zero: types.offset("file", "f_count").is_none(),
            chase: layout::of_pointers(&mut types),
        })
    }

    /// Bytes of the kernel's memory, at most [`PEEK_BYTES`](fdtrace_common::census::PEEK_BYTES) at each address; `None`
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

fn load(
    ebpf: &mut Ebpf,
    program: &'static str,
    place: &'static str,
    targets: &Btf,
) -> std::result::Result<OwnedFd, String> {
    let found = ebpf.program_mut(program).ok_or("the object has no such program")?;
    let iterator: &mut Iter = found.try_into().map_err(|error: ProgramError| error.to_string())?;
    iterator.load(place, targets).map_err(|error| reason(place, &error))?;
    let descriptor = iterator.fd().map_err(|error| error.to_string())?;
    descriptor.as_fd().try_clone_to_owned().map_err(|error| error.to_string())
}

fn reason(place: &str, error: &ProgramError) -> String {
    match error {
        ProgramError::Btf(_) => format!("this kernel has no iterator {place}"),
        ProgramError::LoadError { io_error, .. } => {
            format!("the kernel refuses the iterator {place}: {io_error}")
        }
        other => format!("iterator {place}: {other}"),
    }
}

/// What aya needs to know of the kernel's types: the number of each iterator's function. Its own reading of all of them
/// takes longer than a census of twenty thousand descriptors.
fn targets(types: &KernelTypes) -> Btf {
    let mut functions: Vec<(u32, String)> = [TASKS, DESCRIPTORS, MAPPINGS, PEEK]
        .into_iter()
        .map(|(_, place)| format!("bpf_iter_{place}"))
        .filter_map(|name| Some((types.function(&name)?, name)))
        .collect();
    functions.sort_unstable();
    let mut btf = Btf::new();
    // Number 0 is there from the beginning.
    let mut next = 1;
    for (number, name) in functions {
        for _ in next..number {
            btf.add_type(BtfType::Int(Int::new(0, 1, IntEncoding::None, 0)));
        }
        let name = btf.add_string(&name);
        btf.add_type(BtfType::Func(Func::new(name, 0, FuncLinkage::Static)));
        next = number + 1;
    }
    btf
}

// SAFETY: `Layout` is `repr(C)`, made of integers of one size.
unsafe impl aya::Pod for Plain<Layout> {}
