//! Writing and reading traces: two synthetic loads, through the writer into memory and back through the reader and the
//! fold.

use super::{chance::Chance, notes::note};
use divan::{Bencher, counter::ItemsCount};
use fdtrace::{
    handles::Fold,
    stream::{Alloc, Call, Cause, Event, Fact, ImageKey, Leaving, Mapped, Release},
    trace::{End, Header, Progress, Reader, Writer},
};

/// Events that are written or applied together.
const CHUNK: usize = 4096;
const EVENTS: usize = 1_000_000;

/// What is written and read.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Two threads that open and close one file each.
    Storm,
    /// Thirty processes at a time, each of which starts, maps, opens, closes and ends.
    Build,
}

const KINDS: [Kind; 2] = [Kind::Storm, Kind::Build];

/// Into memory; each item is an event.
#[divan::bench(args = KINDS, sample_size = 1, sample_count = 20)]
fn write(bencher: Bencher<'_, '_>, kind: Kind) {
    let events = kind.events();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| written(&events).len());
}

#[divan::bench(args = KINDS, sample_size = 1, sample_count = 20)]
fn read(bencher: Bencher<'_, '_>, kind: Kind) {
    let bytes = written(&kind.events());
    note(format!("{kind:?}: {:.2} bytes an event", bytes.len() as f64 / EVENTS as f64));
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| read_back(&bytes, &mut Vec::clear));
}

#[divan::bench(args = KINDS, sample_size = 1, sample_count = 20)]
fn read_and_fold(bencher: Bencher<'_, '_>, kind: Kind) {
    let bytes = written(&kind.events());
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut fold = Fold::default();
        read_back(&bytes, &mut |events| fold.apply_all(events));
        assert_eq!(fold.loss().unmatched, 0, "handles went missing");
        fold
    });
}

impl Kind {
    fn events(self) -> Vec<Event> {
        let (mut storm, mut build) = (Storm::new(), Build::new());
        let mut events = Vec::with_capacity(EVENTS + CHUNK);
        while events.len() < EVENTS {
            match self {
                Self::Storm => storm.fill(&mut events),
                Self::Build => build.fill(&mut events),
            }
        }
        events.truncate(EVENTS);
        events
    }
}

fn written(events: &[Event]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &Header::default()).expect("room in memory");
    for chunk in events.chunks(CHUNK) {
        let progress = writer.write(chunk).expect("room in memory");
        assert_eq!(progress, Progress::All, "no limit was set");
    }
    writer.finish().expect("room in memory")
}

fn read_back(bytes: &[u8], take: &mut dyn FnMut(&mut Vec<Event>)) {
    let mut reader = Reader::new(bytes).expect("a trace");
    let (mut events, mut sum) = (Vec::new(), 0);
    while reader.read_batch(&mut events).expect("a trace") {
        sum += events.len();
        take(&mut events);
    }
    assert!(reader.end() == Some(&End::Complete) && sum == EVENTS, "the trace is not whole");
}

/// Addresses that are given out again after a while, in batches in another order, as RCU has it.
struct Slab {
    free: Vec<u64>,
    later: Vec<u64>,
}

impl Slab {
    fn new(size: u64) -> Self {
        Self { free: (0..size).map(|index| 0xffff_8881_0000_0000 + index * 232).collect(), later: Vec::new() }
    }

    fn allocate(&mut self) -> u64 {
        if self.free.is_empty() {
            std::mem::swap(&mut self.free, &mut self.later);
        }
        self.free.pop().unwrap_or(8)
    }

    fn release(&mut self, address: u64) {
        self.later.push(address);
    }
}

const fn call(user_stack: u64, kernel_stack: u64) -> Call {
    Call {
        user_stack,
        kernel_stack,
        detail: 0x8_0000,
        syscall: Some(257),
        kernel_task: false,
        acquired: false,
    }
}

fn release(handle: u64, generation: u64, time: u64, tgid: u32, cause: Cause) -> Event {
    let (never_opened, unaccounted) = (false, false);
    Event::Release(Release { handle, generation, time, tgid, cause, never_opened, unaccounted })
}

struct Storm {
    chance: Chance,
    slab: Slab,
    open: [Option<(u64, u64)>; 2],
}

impl Storm {
    fn new() -> Self {
        Self { chance: Chance::new(), slab: Slab::new(500), open: [None; 2] }
    }
}

impl Storm {
    fn fill(&mut self, events: &mut Vec<Event>) {
        let thread = self.chance.index(2);
        let tid = [1000, 1001][thread];
        let time = self.chance.after_about(400);
        events.push(if let Some((handle, generation)) = self.open[thread].take() {
            self.slab.release(handle);
            release(handle, generation, time, 1000, Cause::Close)
        } else {
            let handle = self.slab.allocate();
            self.open[thread] = Some((handle, time));
            Event::Alloc(Alloc { handle, generation: time, tgid: 1000, tid, call: call(11, 12) })
        });
    }
}

/// Stacks of a program, and handles that a process makes of each on average.
const CHAINS: u64 = 12;
const OPENS: u64 = 60;

struct Process {
    tgid: u32,
    since: u64,
    left: u64,
    /// What tells its stacks from those of others: each has its own layout.
    layout: u64,
    told: u64,
    open: Vec<(u64, u64)>,
}

struct Build {
    chance: Chance,
    slab: Slab,
    next: u32,
    processes: Vec<Process>,
}

impl Build {
    fn new() -> Self {
        let mut build =
            Self { chance: Chance::new(), slab: Slab::new(3000), next: 2000, processes: Vec::new() };
        for _ in 0..30 {
            let process = build.start(&mut Vec::new());
            build.processes.push(process);
        }
        build
    }

    fn start(&mut self, events: &mut Vec<Event>) -> Process {
        let tgid = self.next;
        self.next = if tgid > 4_000_000 { 2000 } else { tgid + 1 + u32::from(self.chance.below(3) == 0) };
        let parent = tgid - 1;
        let time = self.chance.after_up_to(20_000);
        events.push(Event::Fork {
            time,
            parent,
            child: tgid,
            shares: false,
            comm: *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        });
        let since = self.chance.after_up_to(20_000);
        let path = b"/usr/bin/cc1".to_vec();
        events.push(Event::Exec { time: since, tgid, comm: *b"cc1\0\0\0\0\0\0\0\0\0\0\0\0\0", path });
        let (left, layout) = (OPENS / 2 + self.chance.below(OPENS), self.chance.word());
        Process { tgid, since, left, layout, told: 0, open: Vec::new() }
    }

    fn end(&mut self, index: usize, events: &mut Vec<Event>) {
        let new = self.start(events);
        let old = std::mem::replace(&mut self.processes[index], new);
        events.push(Event::Exit {
            time: self.chance.after_up_to(20_000),
            tgid: old.tgid,
            how: Leaving::default(),
        });
        for (handle, generation) in old.open {
            self.slab.release(handle);
            events.push(release(handle, generation, self.chance.after_about(500), old.tgid, Cause::Exit));
        }
    }

    fn open(&mut self, index: usize, events: &mut Vec<Event>) {
        let (handle, time) = (self.slab.allocate(), self.chance.after_up_to(20_000));
        let chain = self.chance.below(CHAINS).min(self.chance.below(CHAINS));
        let process = &mut self.processes[index];
        let tgid = process.tgid;
        let call = call(process.layout.wrapping_add(chain) | 1, 12 + chain % 3);
        process.left -= 1;
        process.open.push((handle, time));
        events.push(Event::Alloc(Alloc { handle, generation: time, tgid, tid: tgid, call }));
        if process.told & (1 << chain) == 0 {
            process.told |= 1 << chain;
            let image = ImageKey { tgid, since: process.since };
            let site = 0x1234_5678_9abc_def1 * (chain + 1);
            events.push(Event::Fact(Box::new(Fact::Belongs { image, call, site })));
        }
        if chain == 3 {
            let address = 0x7f00_0000_0000 | ((process.layout >> 24) & 0xff_ffff_f000);
            let (time, length) = (self.chance.after_about(2000), 1 << (12 + self.chance.below(9)));
            let mapped =
                Mapped { handle, generation: 0, time, tgid, tid: tgid, address, length, inode: 0, call };
            events.push(Event::Mapped(Mapped { generation: self.last(index), ..mapped }));
        }
    }

    fn last(&self, index: usize) -> u64 {
        self.processes[index].open.last().map_or(0, |(_, generation)| *generation)
    }
}

impl Build {
    fn fill(&mut self, events: &mut Vec<Event>) {
        let index = self.chance.index(self.processes.len());
        let process = &mut self.processes[index];
        if process.left == 0 {
            self.end(index, events);
        } else if process.open.len() > 2 && self.chance.below(8) != 0 {
            let (handle, generation) = process.open.swap_remove(self.chance.index(process.open.len()));
            let tgid = process.tgid;
            self.slab.release(handle);
            events.push(release(handle, generation, self.chance.after_up_to(20_000), tgid, Cause::Close));
        } else {
            self.open(index, events);
        }
    }
}
