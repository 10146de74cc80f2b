//! Decoding and folding, from the bytes of the wire to the table of live handles.
//!
//! Handles come and go at random, made by calls and processes at random: nothing that the fold remembers of the event
//! before helps it.

use super::{chance::Chance, memory, notes::note};
use divan::{Bencher, counter::ItemsCount};
use fdtrace::{
    handles::Fold,
    stream::{Event, Record, decode},
};
use fdtrace_common::{
    hash,
    unwind::end,
    wire::{Alloc, Cause, Release, Side, StackHeader, Tag},
};

/// Events that are decoded before they are applied together, as in the collector.
const BATCH: usize = 128;
/// Events that are generated before they are timed: few enough to stay in the processor's cache.
const CHUNK: usize = 8 * BATCH;
const FEW: usize = 1000;
const MANY: usize = 1_000_000;

/// Processes, and stacks of each.
const PROCESSES: u64 = 32;
const CALLS: u64 = 16;
const FRAMES: u16 = 20;

/// From the bytes of the wire to the table, beside so many live handles; each item is an event.
#[divan::bench(args = [FEW, MANY], sample_size = 1, sample_count = 4000)]
fn decode_and_fold(bencher: Bencher<'_, '_>, live: usize) {
    let (mut traffic, mut folder) = (Traffic::new(live), Folder::default());
    let before = memory::bytes("VmRSS");
    folder.populate(&mut traffic);
    if live == MANY {
        let grown = memory::bytes("VmRSS").saturating_sub(before);
        note(format!("resident memory for a live handle, of {MANY}: {} bytes", grown / MANY as u64));
    }
    let chunks = || {
        let mut chunk = Chunk::new();
        traffic.turn_over(&mut chunk);
        chunk
    };
    bencher
        .counter(ItemsCount::new(CHUNK - 1))
        .with_inputs(chunks)
        .bench_local_refs(|chunk| folder.feed(chunk));
    let loss = folder.fold.loss();
    assert_eq!((loss.phantoms, loss.unmatched), (0, 0), "the fold found a loss");
}

/// A fold with a constant number of live handles.
#[derive(Default)]
struct Folder {
    fold: Fold,
    batch: Vec<Event>,
}

impl Folder {
    /// Makes the handles that are alive at the start.
    fn populate(&mut self, traffic: &mut Traffic) {
        let mut chunk = Chunk::new();
        for first in (0..traffic.live.len()).step_by(CHUNK) {
            chunk.clear();
            traffic.begin(first, &mut chunk);
            self.feed(&chunk);
        }
        assert_eq!(self.fold.table().len(), traffic.live.len(), "handles went missing");
    }

    fn feed(&mut self, chunk: &Chunk) {
        let mut start = 0;
        for batch in chunk.ends.chunks(BATCH) {
            for end in batch {
                let record = decode(&chunk.bytes[start..*end]).expect("a record");
                if let Record::Event(event) = record {
                    self.batch.push(event);
                }
                start = *end;
            }
            self.fold.apply_all(&mut self.batch);
        }
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
    /// The names of the stacks.
    stacks: Vec<u64>,
    chance: Chance,
}

impl Traffic {
    fn new(live: usize) -> Self {
        let address = |index: usize| 0xffff_8881_0000_0000 + index as u64 * 232;
        Self {
            live: (0..live).map(|index| (address(index), 1)).collect(),
            spare: (live..live + live / 4).map(address).collect(),
            stacks: (0..PROCESSES * CALLS).map(|call| stack(call).0).collect(),
            chance: Chance::new(),
        }
    }

    /// Allocations of the handles from `first` on, and at the very start the stacks.
    fn begin(&mut self, first: usize, chunk: &mut Chunk) {
        if first == 0 {
            (0..PROCESSES * CALLS).for_each(|call| push_stack(call, chunk));
        }
        for index in first..self.live.len().min(first + CHUNK) {
            self.allocate(index, chunk);
        }
    }

    /// Random handles go, others come at random addresses; now and then a stack is reported again.
    fn turn_over(&mut self, chunk: &mut Chunk) {
        push_stack(self.chance.below(PROCESSES * CALLS), chunk);
        while chunk.ends.len() + 2 <= CHUNK {
            let (gone, free) = (self.chance.index(self.live.len()), self.chance.index(self.spare.len()));
            self.release(gone, chunk);
            std::mem::swap(&mut self.live[gone].0, &mut self.spare[free]);
            self.allocate(gone, chunk);
        }
    }

    fn allocate(&mut self, index: usize, chunk: &mut Chunk) {
        self.chance.time += 1000;
        self.live[index].1 = self.chance.time;
        let (handle, generation) = self.live[index];
        let call = self.chance.index(self.stacks.len());
        let user_stack = self.stacks[call];
        let tgid = process(call as u64);
        let tag = Tag::Alloc as u8;
        let record =
            Alloc { tag, syscall: 257, tid: tgid, handle, generation, user_stack, tgid, ..Alloc::default() };
        chunk.push(&record, &[]);
    }

    fn release(&mut self, index: usize, chunk: &mut Chunk) {
        self.chance.time += 1000;
        let (handle, generation) = self.live[index];
        let (tag, cause) = (Tag::Release as u8, Cause::Close as u8);
        let record = Release { tag, cause, handle, generation, time: self.chance.time, ..Release::default() };
        chunk.push(&record, &[]);
    }
}

fn process(call: u64) -> u32 {
    u32::try_from(1000 + call % PROCESSES).unwrap_or(0)
}

/// A stack and its name.
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
        has_calls: 0,
        reserved: [0; 6],
        submitter: 0,
    };
    chunk.push(&record, &frames);
}
