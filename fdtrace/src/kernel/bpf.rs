//! `bpf()` commands that aya does not offer, or not for programs of another loader: batch look-up, iterators, single runs and
//! missed runs of a program.

use std::{
    ffi::CStr,
    fs::File,
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_info, bpf_prog_type};

/// How many elements one batch look-up asks for; doubled when a bucket is longer.
const BATCH: usize = 4096;

/// Every element of a hash map that is there for the whole call, each once; elements that come or go meanwhile may or
/// may not be among them. Needs Linux 5.6.
///
/// # Errors
/// What the kernel answers.
pub(super) fn elements<K: Copy, V: Copy>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>> {
    let mut found = Vec::new();
    each_element(map, |key, value| found.push((key, value)))?;
    Ok(found)
}

/// Calls `each` for every element; a table of a million handles need not be held in memory to find a few of them.
///
/// # Errors
/// What the kernel answers.
pub(super) fn each_element<K: Copy, V: Copy>(
    map: BorrowedFd<'_>,
    mut each: impl FnMut(K, V),
) -> io::Result<()> {
    visit(bpf_cmd::BPF_MAP_LOOKUP_BATCH, map, 1, |key, values: &[V]| each(key, values[0]))
}

/// The first elements of an array map. Needs Linux 5.6.
///
/// # Errors
/// What the kernel answers.
pub(super) fn first_elements<V: Copy>(map: BorrowedFd<'_>, count: usize) -> io::Result<Vec<V>> {
    let mut found = Vec::with_capacity(count);
    let each = &mut |_: u32, values: &[V]| found.push(values[0]);
    batch(bpf_cmd::BPF_MAP_LOOKUP_BATCH, map, None, (count, 1), each)?;
    Ok(found)
}

/// Runs a program for a raw tracepoint once, on this CPU, with these arguments. Needs Linux 5.10.
///
/// # Errors
/// What the kernel answers.
pub(super) fn run(program: BorrowedFd<'_>, arguments: &[u64]) -> io::Result<()> {
    let mut attributes = empty_attributes();
    // SAFETY: all variants of the union are plain integers, and the union was zeroed.
    let request = unsafe { &mut attributes.test };
    request.prog_fd = program.as_raw_fd().cast_unsigned();
    request.ctx_in = arguments.as_ptr() as u64;
    request.ctx_size_in = u32::try_from(size_of_val(arguments)).map_err(io::Error::other)?;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attributes).map(drop)
}

/// The same of a map with a value on each of `cpus` CPUs: all possible ones, as the kernel counts them.
///
/// # Errors
/// What the kernel answers.
pub(super) fn cpu_elements<K: Copy, V: Copy>(
    map: BorrowedFd<'_>,
    cpus: usize,
    each: impl FnMut(K, &[V]),
) -> io::Result<()> {
    visit(bpf_cmd::BPF_MAP_LOOKUP_BATCH, map, cpus, each)
}

/// Writes the first elements of an array map. Needs Linux 5.6.
///
/// # Errors
/// What the kernel answers.
pub(super) fn fill<V: Copy>(map: BorrowedFd<'_>, values: &[V]) -> io::Result<()> {
    let count = u32::try_from(values.len()).map_err(io::Error::other)?;
    let keys: Vec<u32> = (0..count).collect();
    let mut attributes = empty_attributes();
    // SAFETY: all variants of the union are plain integers, and the union was zeroed.
    let request = unsafe { &mut attributes.batch };
    request.keys = keys.as_ptr() as u64;
    request.values = values.as_ptr() as u64;
    request.count = count;
    request.map_fd = map.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attributes).map(drop)
}

/// Empties a hash map; what comes meanwhile may stay.
///
/// # Errors
/// What the kernel answers.
pub(super) fn clear<K: Copy, V: Copy>(map: BorrowedFd<'_>) -> io::Result<()> {
    visit(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH, map, 1, |_: K, _: &[V]| ())
}

/// Removes an element of a hash map.
///
/// # Errors
/// What the kernel answers; ENOENT where there is none.
pub(super) fn remove<K: Copy>(map: BorrowedFd<'_>, key: K) -> io::Result<()> {
    let mut attributes = empty_attributes();
    // SAFETY: all variants of the union are plain integers, and the union was zeroed.
    let request = unsafe { &mut attributes.__bindgen_anon_2 };
    request.map_fd = map.as_raw_fd().cast_unsigned();
    request.key = (&raw const key) as u64;
    bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attributes).map(drop)
}

/// Takes one element out of a hash map: what it was, or `None` when there was none.
///
/// # Errors
/// What the kernel answers.
pub(super) fn take<K: Copy, V: Copy + Default>(map: BorrowedFd<'_>, key: K) -> io::Result<Option<V>> {
    let mut value = V::default();
    // Before 5.14 a hash map cannot do both at once.
    for command in [bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, bpf_cmd::BPF_MAP_LOOKUP_ELEM] {
        let mut attributes = empty_attributes();
        // SAFETY: all variants of the union are plain integers, and the union was zeroed.
        let request = unsafe { &mut attributes.__bindgen_anon_2 };
        request.map_fd = map.as_raw_fd().cast_unsigned();
        request.key = (&raw const key) as u64;
        request.__bindgen_anon_1.value = (&raw mut value) as u64;
        match bpf(command, &mut attributes) {
            Ok(_) if command == bpf_cmd::BPF_MAP_LOOKUP_ELEM => {
                bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attributes)?;
                return Ok(Some(value));
            }
            Ok(_) => return Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) if command == bpf_cmd::BPF_MAP_LOOKUP_ELEM => return Err(error),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Calls `each` for every key and its `width` values, by one of the batch commands.
fn visit<K: Copy, V: Copy>(
    command: bpf_cmd,
    map: BorrowedFd<'_>,
    width: usize,
    mut each: impl FnMut(K, &[V]),
) -> io::Result<()> {
    // The kernel pads the values of each CPU to 8 bytes.
    debug_assert!(width == 1 || size_of::<V>().is_multiple_of(8));
    let mut room = BATCH;
    let mut position: Option<u32> = None;
    loop {
        match batch::<K, V>(command, map, position, (room, width), &mut each) {
            Ok(Some(next)) => position = Some(next),
            Ok(None) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < 1 << 24 => room *= 2,
            Err(error) => return Err(error),
        }
    }
}

/// One batch of at most `room` elements: says where to go on, `None` at the end.
fn batch<K: Copy, V: Copy>(
    command: bpf_cmd,
    map: BorrowedFd<'_>,
    position: Option<u32>,
    (room, width): (usize, usize),
    each: &mut impl FnMut(K, &[V]),
) -> io::Result<Option<u32>> {
    let mut keys: Vec<K> = Vec::with_capacity(room);
    let mut values: Vec<V> = Vec::with_capacity(room * width);
    let mut next = 0u32;
    let mut attributes = empty_attributes();
    // SAFETY: all variants of the union are plain integers, and the union was zeroed.
    let request = unsafe { &mut attributes.batch };
    request.in_batch = position.as_ref().map_or(0, |start| std::ptr::from_ref(start) as u64);
    request.out_batch = std::ptr::from_mut(&mut next) as u64;
    request.keys = keys.as_mut_ptr() as u64;
    request.values = values.as_mut_ptr() as u64;
    request.count = u32::try_from(room).unwrap_or(u32::MAX);
    request.map_fd = map.as_raw_fd().cast_unsigned();
    let result = bpf(command, &mut attributes);
    let ended = match &result {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(_) => return result.map(|_| None),
    };
    // SAFETY: as above; the kernel wrote how many elements it filled in.
    let count = (unsafe { attributes.batch.count } as usize).min(room);
    // SAFETY: the kernel has filled the first `count` keys; a `K` is made of integers.
    unsafe { keys.set_len(count) };
    // SAFETY: as above, of the values, of which each key has `width`.
    unsafe { values.set_len(count * width) };
    for (key, values) in keys.into_iter().zip(values.chunks_exact(width)) {
        each(key, values);
    }
    Ok((!ended).then_some(next))
}

/// A file that runs an iterator program when it is read; over the elements of `map` where one is given.
///
/// # Errors
/// What the kernel answers.
pub(super) fn iterate(program: BorrowedFd<'_>, map: Option<BorrowedFd<'_>>) -> io::Result<File> {
    /// `union bpf_iter_link_info`, as long as kernels since 5.9 know it.
    #[repr(C)]
    struct LinkInfo {
        map_fd: u32,
    }
    let info = LinkInfo { map_fd: map.map_or(0, |map| map.as_raw_fd().cast_unsigned()) };
    let mut attributes = empty_attributes();
    // SAFETY: all variants of the union are plain integers, and the union was zeroed.
    let request = unsafe { &mut attributes.link_create };
    request.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    request.attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
    if map.is_some() {
        request.__bindgen_anon_3.__bindgen_anon_1.iter_info = (&raw const info) as u64;
        request.__bindgen_anon_3.__bindgen_anon_1.iter_info_len = length_of::<LinkInfo>();
    }
    let link = owned(bpf(bpf_cmd::BPF_LINK_CREATE, &mut attributes)?);
    let mut attributes = empty_attributes();
    // SAFETY: as above.
    let request = unsafe { &mut attributes.iter_create };
    request.link_fd = link.as_raw_fd().cast_unsigned();
    Ok(owned(bpf(bpf_cmd::BPF_ITER_CREATE, &mut attributes)?).into())
}

/// Writes the only element of a map of constants, and freezes it: the verifier then knows its value.
///
/// # Errors
/// What the kernel answers.
pub(super) fn write_constants(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let key = 0u32;
    let mut attributes = empty_attributes();
    // SAFETY: all variants of the union are plain integers, and the union was zeroed.
    let request = unsafe { &mut attributes.__bindgen_anon_2 };
    request.map_fd = map.as_raw_fd().cast_unsigned();
    request.key = (&raw const key) as u64;
    request.__bindgen_anon_1.value = value.as_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes)?;
    let mut attributes = empty_attributes();
    // SAFETY: as above.
    let request = unsafe { &mut attributes.__bindgen_anon_2 };
    request.map_fd = map.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attributes).map(drop)
}

/// What a program is loaded for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// An iterator; the number of its function in the kernel's BTF.
    Iterator(u32),
    /// The entry of a function of the kernel, by the number that it has in BTF.
    Entry(u32),
    /// None: it is [`run`] with arguments.
    Run,
}

/// Whether programs may exchange words of memory, with and without comparing them (`BPF_ATOMIC`, 5.12).
pub(super) fn has_exchanges() -> bool {
    /// `BPF_STX | BPF_MEM | BPF_DW` and `BPF_STX | BPF_ATOMIC | BPF_DW` (include/uapi/linux/bpf.h).
    const STORE: u8 = 0x7b;
    const ATOMIC: u8 = 0xdb;
    /// `BPF_XCHG` and `BPF_CMPXCHG`.
    const EXCHANGES: [i32; 2] = [0xe1, 0xf1];
    let on_stack = |code, imm| {
        // SAFETY: plain integers; zero is valid for all of them.
        let mut instruction: bpf_insn = unsafe { std::mem::zeroed() };
        instruction.set_dst_reg(10);
        (instruction.code, instruction.off, instruction.imm) = (code, -8, imm);
        instruction
    };
    EXCHANGES.iter().all(|exchange| {
        let [result, exit] = empty();
        load(&[result, on_stack(STORE, 0), on_stack(ATOMIC, *exchange), result, exit], c"GPL", Place::Run)
            .is_ok()
    })
}

/// The instructions of a program that does nothing.
fn empty() -> [bpf_insn; 2] {
    // SAFETY: plain integers; zero is valid for all of them.
    let [mut result, mut exit]: [bpf_insn; 2] = unsafe { std::mem::zeroed() };
    // `BPF_ALU64 | BPF_MOV | BPF_K` of 0 to the first register, and `BPF_JMP | BPF_EXIT` (include/uapi/linux/bpf.h).
    (result.code, exit.code) = (0xb7, 0x95);
    [result, exit]
}

/// Loads a program that does nothing.
///
/// # Errors
/// What the kernel answers.
pub(super) fn load_empty(place: Place) -> io::Result<OwnedFd> {
    load(&empty(), c"GPL", place)
}

/// Loads a program.
///
/// # Errors
/// What the kernel answers; EACCES when the verifier refuses it.
pub(super) fn load(instructions: &[bpf_insn], license: &CStr, place: Place) -> io::Result<OwnedFd> {
    let mut attributes = empty_attributes();
    // SAFETY: all variants of the union are plain integers, and the union was zeroed.
    let request = unsafe { &mut attributes.__bindgen_anon_3 };
    match place {
        Place::Iterator(function) => {
            request.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
            request.expected_attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
            request.attach_btf_id = function;
        }
        Place::Entry(function) => {
            request.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
            request.expected_attach_type = bpf_attach_type::BPF_TRACE_FENTRY as u32;
            request.attach_btf_id = function;
        }
        Place::Run => request.prog_type = bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT as u32,
    }
    request.insn_cnt = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    request.insns = instructions.as_ptr() as u64;
    request.license = license.as_ptr() as u64;
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attributes).map(owned)
}

/// What the kernel has counted of a program.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunCounts {
    /// Runs, while run statistics were on.
    pub(super) runs: u64,
    /// Nanoseconds in those runs.
    pub(super) time_ns: u64,
    /// Runs that the kernel skipped, because the program was active on that CPU (5.12).
    pub(super) skipped: u64,
    /// Instructions that the verifier looked at (5.16).
    pub(super) verified: u32,
}

/// Reads a program's counts. Fields that an old kernel does not know stay 0.
///
/// # Errors
/// What the kernel answers.
pub(super) fn run_counts(program: BorrowedFd<'_>) -> io::Result<RunCounts> {
    // SAFETY: plain integers and addresses; zero is valid for all of them.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attributes = empty_attributes();
    // SAFETY: all variants of the union are plain integers, and the union was zeroed.
    let request = unsafe { &mut attributes.info };
    request.bpf_fd = program.as_raw_fd().cast_unsigned();
    request.info_len = length_of::<bpf_prog_info>();
    request.info = std::ptr::from_mut(&mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(RunCounts {
        runs: info.run_cnt,
        time_ns: info.run_time_ns,
        skipped: info.recursion_misses,
        verified: info.verified_insns,
    })
}

/// As the kernel wants lengths; its structures are far shorter than 4 GB.
fn length_of<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}

fn empty_attributes() -> bpf_attr {
    // SAFETY: a union of integers, addresses and names; zero is what the kernel expects in unused parts.
    unsafe { std::mem::zeroed() }
}

fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<RawFd> {
    let length = size_of::<bpf_attr>();
    // SAFETY: the kernel reads and writes at most `length` bytes of the attributes and what they point to, all of which
    // outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_int, std::ptr::from_mut(attributes), length)
    };
    match RawFd::try_from(result) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}
