//! Writing and reading traces: two synthetic loads, through the writer into memory and back through the reader and the
//! fold.

use std::time::Duration;

use fdtrace::{
    handles::Fold,
    stream::{Alloc, Call, Cause, Event, Fact, ImageKey, Leaving, Mapped, Release},
    trace::{End, Header, Progress, Reader, Writer},
};
use serde::Serialize;

use super::sample::cpu_time;

/// Events that are generated before they are timed.
const CHUNK: usize = 4096;
const EVENTS: usize = 20_000_000;

#[derive(Serialize)]
pub(crate) struct Result {
    /// Two threads that open and close one file each.
    storm: Figures,
    /// Thirty processes at a time, each of which starts, maps, opens, closes and ends.
    build: Figures,
}

#[derive(Serialize)]
struct Figures {
    events: usize,
    bytes_per_event: f64,
    /// Nanoseconds of processor time for an event.
    write_ns: f64,
    read_ns: f64,
    read_and_fold_ns: f64,
}

pub(crate) fn run() -> anyhow::Result<Result> {
    Ok(Result { storm: measure(&mut Storm::new())?, build: measure(&mut Build::new())? })
}

trait Load {
    fn fill(&mut self, events: &mut Vec<Event>);
}

fn measure(load: &mut dyn Load) -> anyhow::Result<Figures> {
    let mut writer = Writer::new(Vec::new(), &Header::default())?;
    let (mut events, mut time, mut sum) = (Vec::new(), Duration::ZERO, 0);
    while sum < EVENTS {
        events.clear();
        while events.len() < CHUNK {
            load.fill(&mut events);
        }
        let start = cpu_time();
        anyhow::ensure!(writer.write(&events)? == Progress::All, "no limit was set");
        time += cpu_time() - start;
        sum += events.len();
    }
    let bytes = writer.finish()?;
    let read = read(&bytes, sum, &mut |events| events.clear())?;
    let mut fold = Fold::default();
    let folded = self::read(&bytes, sum, &mut |events| fold.apply_all(events))?;
    anyhow::ensure!(fold.loss().unmatched == 0, "handles went missing");
    Ok(Figures {
        events: sum,
        bytes_per_event: ratio(bytes.len() as u128, sum),
        write_ns: ratio(time.as_nanos(), sum),
        read_ns: ratio(read.as_nanos(), sum),
        read_and_fold_ns: ratio(folded.as_nanos(), sum),
    })
}

fn read(bytes: &[u8], expected: usize, take: &mut dyn FnMut(&mut Vec<Event>)) -> anyhow::Result<Duration> {
    let start = cpu_time();
    let mut reader = Reader::new(bytes)?;
    let (mut events, mut sum) = (Vec::new(), 0);
    while reader.read_batch(&mut events)? {
        sum += events.len();
        take(&mut events);
    }
    anyhow::ensure!(reader.end() == Some(&End::Complete) && sum == expected, "the trace is not whole");
    Ok(cpu_time() - start)
}

#[expect(clippy::cast_precision_loss, reason = "times and sizes of one run")]
fn ratio(whole: u128, parts: usize) -> f64 {
    whole as f64 / parts as f64
}

/// A xorshift, and a clock.
struct Chance {
    random: u64,
    time: u64,
}

impl Chance {
    const fn new() -> Self {
        Self { random: 0x9e37_79b9_7f4a_7c15, time: 1 << 40 }
    }

    const fn word(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    const fn below(&mut self, limit: u64) -> u64 {
        (self.word() >> 11) % limit
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }

    /// Time goes on by about so many nanoseconds: near them for a quick path, now and then far more.
    const fn after_about(&mut self, ns: u64) -> u64 {
        let spread = ns / 4;
        let wave = self.below(spread) + self.below(spread) + self.below(spread);
        let rare = if self.below(200) == 0 { self.below(20 * ns) } else { 0 };
        self.time += ns - spread + wave + rare;
        self.time
    }

    /// Time goes on by what is between events that know nothing of each other.
    const fn after_up_to(&mut self, ns: u64) -> u64 {
        let doublings = self.below(4);
        self.time += self.below(ns << doublings) / 4;
        self.time
    }
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

impl Load for Storm {
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

/// Call chains of a program, and handles that a process makes of each on average.
const CHAINS: u64 = 12;
const OPENS: u64 = 60;

struct Process {
    tgid: u32,
    since: u64,
    left: u64,
    /// What tells its call chains from those of others: each has its own layout.
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

impl Load for Build {
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
