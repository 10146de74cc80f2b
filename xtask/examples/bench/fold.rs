//! Decoding and folding, from the bytes of the wire to the table of live handles.
//!
//! Handles come and go at random, made by calls and processes at random: nothing that the fold remembers of the event
//! before helps it.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fdtrace::{
    handles::Fold,
    stream::{Event, Record, decode},
};
use fdtrace_common::{
    hash,
    unwind::end,
    wire::{Alloc, Cause, Release, Side, StackHeader, Tag},
};
use serde::Serialize;

/// Events that are decoded before they are applied together, as in the collector.
const BATCH: usize = 128;
/// Events that are generated before they are timed: few enough to stay in the processor's cache.
const CHUNK: usize = 8 * BATCH;
const FEW: usize = 1000;
const MANY: usize = 1_000_000;
const ROUNDS: usize = 15;
/// Chunks of one size before it is the other's turn.
const CHUNKS: usize = 300;

/// Processes, and call chains of each.
const PROCESSES: u64 = 32;
const CALLS: u64 = 16;
const FRAMES: u16 = 20;

#[derive(Serialize)]
pub(crate) struct Result {
    /// Nanoseconds for an event, with [`FEW`] handles alive; one value for each round.
    few_ns: Vec<f64>,
    /// The same with [`MANY`].
    many_ns: Vec<f64>,
    /// Resident bytes that each of [`MANY`] live handles takes.
    bytes_per_handle: f64,
}

pub(crate) fn run() -> anyhow::Result<Result> {
    let mut many = Bench::new(MANY);
    let before = resident_bytes()?;
    many.populate()?;
    let grown = resident_bytes()?.saturating_sub(before);
    let mut few = Bench::new(FEW);
    few.populate()?;
    let (mut few_ns, mut many_ns) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        few_ns.push(few.round()?);
        many_ns.push(many.round()?);
    }
    Ok(Result { few_ns, many_ns, bytes_per_handle: ratio(grown, MANY as u64) })
}

/// A fold with a constant number of live handles.
struct Bench {
    fold: Fold,
    traffic: Traffic,
    chunk: Chunk,
    batch: Vec<Event>,
}

impl Bench {
    fn new(live: usize) -> Self {
        Self {
            fold: Fold::default(),
            traffic: Traffic::new(live),
            chunk: Chunk::new(),
            batch: Vec::with_capacity(BATCH),
        }
    }

    /// Makes the handles that are alive at the start.
    fn populate(&mut self) -> anyhow::Result<()> {
        for first in (0..self.traffic.live.len()).step_by(CHUNK) {
            self.chunk.clear();
            self.traffic.begin(first, &mut self.chunk);
            self.feed()?;
        }
        anyhow::ensure!(self.fold.table().len() == self.traffic.live.len(), "handles went missing");
        Ok(())
    }

    /// Nanoseconds for an event.
    fn round(&mut self) -> anyhow::Result<f64> {
        let (mut time, mut events) = (Duration::ZERO, 0);
        for _ in 0..CHUNKS {
            self.chunk.clear();
            self.traffic.turn_over(&mut self.chunk);
            let start = Instant::now();
            self.feed()?;
            time += start.elapsed();
            events += self.chunk.ends.len();
        }
        let loss = self.fold.loss();
        anyhow::ensure!((loss.phantoms, loss.unmatched) == (0, 0), "the fold found a loss: {loss:?}");
        Ok(ratio(u64::try_from(time.as_nanos())?, events as u64))
    }

    fn feed(&mut self) -> anyhow::Result<()> {
        let mut start = 0;
        for batch in self.chunk.ends.chunks(BATCH) {
            for end in batch {
                if let Record::Event(event) = decode(&self.chunk.bytes[start..*end])? {
                    self.batch.push(event);
                }
                start = *end;
            }
            self.fold.apply_all(&mut self.batch);
        }
        Ok(())
    }
}

/// Records behind one another, as they lie in the ring.
struct Chunk {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Chunk {
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(CHUNK * size_of::<Alloc>()), ends: Vec::with_capacity(CHUNK) }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push<T: Copy>(&mut self, record: &T, frames: &[u64]) {
        let start = std::ptr::from_ref(record).cast::<u8>();
        // SAFETY: the wire's records have no padding (their sizes are asserted), so every byte is initialized.
        let bytes = unsafe { std::slice::from_raw_parts(start, size_of::<T>()) };
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend(frames.iter().flat_map(|frame| frame.to_ne_bytes()));
        self.ends.push(self.bytes.len());
    }
}

/// Makes records. What it remembers is laid out in full at the start, so that it does not grow while memory is measured.
struct Traffic {
    /// Address and generation of each live handle.
    live: Vec<(u64, u64)>,
    /// Addresses without a handle.
    spare: Vec<u64>,
    /// The names of the call chains.
    stacks: Vec<u64>,
    time: u64,
    random: u64,
}

impl Traffic {
    fn new(live: usize) -> Self {
        let address = |index: usize| 0xffff_8881_0000_0000 + index as u64 * 232;
        Self {
            live: (0..live).map(|index| (address(index), 1)).collect(),
            spare: (live..live + live / 4).map(address).collect(),
            stacks: (0..PROCESSES * CALLS).map(|call| stack(call).0).collect(),
            time: 1,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Allocations of the handles from `first` on, and at the very start the call chains.
    fn begin(&mut self, first: usize, chunk: &mut Chunk) {
        if first == 0 {
            (0..PROCESSES * CALLS).for_each(|call| push_stack(call, chunk));
        }
        for index in first..self.live.len().min(first + CHUNK) {
            self.allocate(index, chunk);
        }
    }

    /// Random handles go, others come at random addresses; now and then a call chain is told again.
    fn turn_over(&mut self, chunk: &mut Chunk) {
        push_stack(self.below(PROCESSES * CALLS), chunk);
        while chunk.ends.len() + 2 <= CHUNK {
            let (gone, free) = (self.index(self.live.len()), self.index(self.spare.len()));
            self.release(gone, chunk);
            std::mem::swap(&mut self.live[gone].0, &mut self.spare[free]);
            self.allocate(gone, chunk);
        }
    }

    fn allocate(&mut self, index: usize, chunk: &mut Chunk) {
        self.time += 1000;
        self.live[index].1 = self.time;
        let (handle, generation) = self.live[index];
        let call = self.index(self.stacks.len());
        let user_stack = self.stacks[call];
        let tgid = process(call as u64);
        let tag = Tag::Alloc as u8;
        let record =
            Alloc { tag, syscall: 257, tid: tgid, handle, generation, user_stack, tgid, ..Alloc::default() };
        chunk.push(&record, &[]);
    }

    fn release(&mut self, index: usize, chunk: &mut Chunk) {
        self.time += 1000;
        let (handle, generation) = self.live[index];
        let (tag, cause) = (Tag::Release as u8, Cause::Close as u8);
        let record = Release { tag, cause, handle, generation, time: self.time, ..Release::default() };
        chunk.push(&record, &[]);
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// A xorshift: good enough to defeat caches, cheap enough not to matter.
    const fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }
}

fn process(call: u64) -> u32 {
    u32::try_from(1000 + call % PROCESSES).unwrap_or(0)
}

/// A call chain and its name.
fn stack(call: u64) -> (u64, Vec<u64>) {
    let frames: Vec<u64> =
        (0..u64::from(FRAMES)).map(|depth| 0x5555_0000_0000 + call * 4096 + depth * 64).collect();
    (hash::stack(&frames), frames)
}

fn push_stack(call: u64, chunk: &mut Chunk) {
    let (name, frames) = stack(call);
    let record = StackHeader {
        tag: Tag::Stack as u8,
        side: Side::User as u8,
        frames: FRAMES,
        tgid: process(call),
        hash: name,
        end: end::CUT,
        reserved: [0; 7],
    };
    chunk.push(&record, &frames);
}

fn resident_bytes() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}

#[expect(clippy::cast_precision_loss, reason = "times and sizes of one run")]
fn ratio(whole: u64, parts: u64) -> f64 {
    whole as f64 / parts as f64
}
