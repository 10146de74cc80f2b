use std::{
    collections::HashMap,
    io::{self, Write},
    sync::Arc,
};

use fdtrace_common::descriptor;

use super::{
    Damage, End, Error, Header, HookState, Progress, Reader, Writer,
    block::{FRAME, Frame},
    format::{BLOCK, EPOCH, PREAMBLE, kind},
    writer::Limits,
};
use crate::{
    handles::Fold,
    model::{Identity, KernelFrame, Kind, Origin, Runtime, UserFrame},
    stream::{
        Acquired, Alloc, AllocError, Call, Cause, Cut, Described, Event, Existing, Fact, FdLookup, ImageKey,
        Leaving, Mapped, Moment, Open, Release, ShortLived, Site, Stats, UserStack,
    },
};

/// A xorshift.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.word() >> 11) % limit
    }

    fn small(&mut self, limit: u32) -> u32 {
        u32::try_from(self.below(limit.into())).unwrap()
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap()
    }

    fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }

    /// Mostly what is likely, now and then anything.
    fn number(&mut self, likely: u64) -> u64 {
        match self.below(20) {
            0 => self.word(),
            1 => [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, 1 << 32][self.index(6)],
            _ => self.below(likely),
        }
    }

    fn short(&mut self, likely: u64) -> u32 {
        u32::try_from(self.number(likely) & 0xffff_ffff).unwrap()
    }

    fn text(&mut self) -> String {
        match self.below(6) {
            0 => String::new(),
            1 => "\u{fffd}ø\0\n".repeat(self.index(5)),
            _ => format!("/usr/lib/{}", self.below(9)),
        }
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.one_in(3) { None } else { Some(make(self)) }
    }

    fn name(&mut self) -> [u8; 16] {
        [*b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0", [0; 16], [0xff; 16], *b"a\0b\0\0\0\0\0\0\0\0\0\0\0\0\0"]
            [self.index(4)]
    }

    fn call(&mut self) -> Call {
        if self.one_in(50) {
            return Call::default();
        }
        let which = self.below(12);
        Call {
            user_stack: if which.is_multiple_of(4) {
                0
            } else {
                (which / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            },
            kernel_stack: if which.is_multiple_of(3) { 0 } else { which },
            detail: self.short(2),
            syscall: self.maybe(|random| u16::try_from(random.below(3) * 32_767).unwrap()),
            kernel_task: self.one_in(5),
            acquired: self.one_in(5),
        }
    }
}

/// Makes events that are as wild as events can be.
struct Wild {
    random: Random,
    time: u64,
    /// What was allocated once.
    handles: Vec<(u64, u64, u32)>,
}

impl Wild {
    fn new(seed: u64) -> Self {
        Self { random: Random(seed | 1), time: 0, handles: Vec::new() }
    }

    fn list(seed: u64, length: usize) -> Vec<Event> {
        let mut wild = Self::new(seed);
        (0..length).map(|_| wild.event()).collect()
    }

    fn now(&mut self) -> u64 {
        match self.random.below(100) {
            0 => self.random.word(),
            1..8 => self.time.wrapping_sub(self.random.below(1000)),
            _ => {
                self.time = self.time.wrapping_add(self.random.below(5000));
                self.time
            }
        }
    }

    fn alloc(&mut self) -> Alloc {
        let tgid = self.random.small(6);
        let tid = if self.random.one_in(4) { self.random.short(9) } else { tgid };
        let handle = match self.random.below(50) {
            0 => self.random.word(),
            _ => 0xffff_8881_0000_0000 + self.random.below(40) * 232,
        };
        let generation = if self.random.one_in(20) { 1 } else { self.now() };
        self.handles.push((handle, generation, tgid));
        Alloc { handle, generation, tgid, tid, call: self.random.call() }
    }

    fn acquired(&mut self) -> Acquired {
        let alloc = self.alloc();
        let handle = descriptor::key(0xffff_8881_0000_0000 + self.random.below(4) * 64, self.random.short(9));
        self.handles.push((handle, alloc.generation, alloc.tgid));
        let call = Call { acquired: true, ..alloc.call };
        Acquired { alloc: Alloc { handle, call, ..alloc }, of: alloc.handle }
    }

    /// One that was allocated lately, or long ago, or never.
    fn handle(&mut self) -> (u64, u64, u32) {
        let length = self.handles.len();
        match self.random.below(10) {
            0 => (self.random.number(9), self.random.number(9), self.random.short(6)),
            1 if length > 0 => self.handles[self.random.index(length)],
            _ if length > 0 => self.handles[length - 1 - self.random.index(length.min(40))],
            _ => (8, 1, 1),
        }
    }

    fn release(&mut self) -> Release {
        let (handle, generation, tgid) = self.handle();
        Release {
            handle,
            generation,
            time: self.now(),
            tgid: if self.random.one_in(3) { self.random.short(6) } else { tgid },
            cause: Cause::from_wire(u8::try_from(self.random.below(7)).unwrap()).unwrap(),
            never_opened: self.random.one_in(4),
            unaccounted: self.random.one_in(4),
        }
    }

    fn event(&mut self) -> Event {
        let time = self.now();
        let tgid = self.random.short(6);
        match self.random.below(28) {
            25 | 26 => Event::Acquired(self.acquired()),
            27 => {
                let call = Call { acquired: true, ..self.random.call() };
                Event::Refused(Alloc { handle: 0, generation: time, tgid, tid: tgid, call })
            }
            0..7 => Event::Alloc(self.alloc()),
            7..14 => Event::Release(self.release()),
            14 => Event::FoundLive(self.alloc()),
            15 => {
                let (handle, generation, _) = self.handle();
                Event::FoundGone { time, handle, generation }
            }
            16 => self.mapped(time, tgid),
            17 => Event::Fork {
                time,
                parent: tgid,
                child: self.random.short(6),
                shares: self.random.one_in(2),
                comm: self.random.name(),
            },
            18 => Event::Exec { time, tgid, comm: self.random.name(), path: self.random.text().into_bytes() },
            19 => Event::Exit {
                time,
                tgid,
                how: Leaving { signal: 9, status: 3, limit: self.random.short(4096).into() },
            },
            22 => Event::Open(Open {
                handle: self.random.number(9),
                generation: self.random.number(9),
                time,
                tgid,
                fd: self.random.short(70_000),
                moment: if self.random.short(2) == 0 { Moment::Exit } else { Moment::Exec },
                close_on_exec: self.random.short(2) == 0,
                socket_state: 8,
                deleted: self.random.short(2) == 0,
                waiting: self.random.short(40),
                of_thread: self.random.one_in(2).then(|| self.random.short(6)),
            }),
            23 => Event::Cut(Cut {
                time,
                tid: self.random.short(70_000),
                began: self.random.number(9),
                syscall: self.random.one_in(2).then_some(3),
            }),
            20 => Event::Failure(AllocError {
                time,
                tgid,
                errno: self.random.short(40).cast_signed(),
                times: self.random.short(40),
                limit: 1024,
            }),
            21 => match self.random.below(3) {
                0 => Event::Gap { time, events: self.random.number(9) },
                1 => Event::ShortLived(ShortLived {
                    site: self.random.maybe(|random| random.number(5)),
                    handles: self.random.number(9),
                    never_opened: self.random.number(9),
                }),
                _ => Event::Sample(Box::new(self.stats(time))),
            },
            _ => Event::Fact(Box::new(self.fact())),
        }
    }

    fn mapped(&mut self, time: u64, tgid: u32) -> Event {
        let (handle, generation, _) = self.handle();
        Event::Mapped(Mapped {
            handle,
            generation,
            time,
            tgid,
            tid: self.random.short(9),
            address: self.random.number(1 << 47),
            length: self.random.number(1 << 20),
            inode: self.random.word(),
            call: self.random.call(),
        })
    }

    fn stats(&mut self, time: u64) -> Stats {
        let mut stats = Stats { time, ..Stats::default() };
        for figure in super::format::figures(&mut stats) {
            *figure = self.random.number(1000);
        }
        stats
    }

    fn image(&mut self) -> ImageKey {
        ImageKey { tgid: self.random.short(6), since: self.random.number(3) }
    }

    fn fact(&mut self) -> Fact {
        match self.random.below(5) {
            0 => {
                let [comm, exe, cgroup] = [(); 3].map(|()| self.random.text());
                Fact::Identity(self.image(), Arc::new(Identity { comm, exe, cgroup }))
            }
            1 => Fact::Site(Arc::new(self.site())),
            2 => Fact::Belongs { image: self.image(), call: self.random.call(), site: self.random.number(5) },
            3 => {
                let (handle, generation, _) = self.handle();
                Fact::Described(Described {
                    handle,
                    generation,
                    kind: Kind::ALL[self.random.index(Kind::ALL.len())],
                    name: self.random.maybe(|random| random.text().into()),
                    descriptor: match self.random.below(3) {
                        0 => FdLookup::NotYet,
                        1 => FdLookup::Nothing,
                        _ => FdLookup::Found(self.random.short(6), self.random.short(99)),
                    },
                })
            }
            _ => Fact::Existing(Existing {
                handle: self.handle().0,
                tgid: self.random.short(6),
                fd: self.random.maybe(|random| random.short(9)),
            }),
        }
    }

    fn site(&mut self) -> Site {
        let random = &mut self.random;
        let kernel =
            (0..random.index(5)).map(|_| KernelFrame { symbol: random.text(), offset: random.number(9) });
        let kernel = kernel.collect();
        let frames = (0..random.index(5)).map(|_| {
            let runtime = random.one_in(3).then_some(Runtime::Cpython);
            Arc::new(UserFrame {
                runtime,
                symbol: random.maybe(Random::text),
                module: random.maybe(Random::text),
                build_id: random.maybe(Random::text),
                offset: random.number(5000),
                file: random.maybe(Random::text),
                line: random.maybe(|random| random.short(900)),
                column: runtime.and_then(|_| random.maybe(|random| random.short(90))),
                inlined: random.one_in(2),
                perf_map: random.one_in(2),
            })
        });
        let frames = frames.collect();
        Site {
            id: random.number(5),
            origin: Origin::ALL[random.index(Origin::ALL.len())],
            kernel,
            user: UserStack { frames, complete: random.one_in(2) },
        }
    }
}

fn header() -> Header {
    Header {
        fdtrace: "0.1.0".to_owned(),
        kernel: "6.12.1".to_owned(),
        hooks: vec![HookState { role: "allocation".to_owned(), ..HookState::default() }],
        offsets: [("file.f_inode".to_owned(), 32)].into(),
        command: vec!["make".to_owned(), "-j2".to_owned()],
        start_ns: u64::MAX,
        ..Header::default()
    }
}

const ORDINARY: Limits = Limits { block: BLOCK, epoch: EPOCH };
const TIGHT: Limits = Limits { block: 300, epoch: 3000 };

fn written(events: &[Event], limits: Limits) -> Vec<u8> {
    let mut writer = Writer::with_limits(Vec::new(), &header(), limits).unwrap();
    for some in events.chunks(97) {
        assert_eq!(writer.write(some).unwrap(), Progress::All);
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> (Vec<Event>, End) {
    let mut reader = Reader::new(bytes).unwrap();
    let mut events = Vec::new();
    let mut position = reader.position();
    while reader.read_batch(&mut events).unwrap() {
        assert!(reader.position() >= position);
        position = reader.position();
    }
    (events, *reader.end().unwrap())
}

/// Puts the names of the first calls of events in place of those of the others, if they are consistent.
#[derive(Default)]
struct Renaming {
    to_read: HashMap<Call, Call>,
    to_written: HashMap<Call, Call>,
}

impl Renaming {
    fn call(&mut self, written: Call, read: &mut Call) {
        assert_eq!(*self.to_read.entry(written).or_insert(*read), *read, "{written:?} has one name");
        assert_eq!(*self.to_written.entry(*read).or_insert(written), written, "{read:?} is one call");
        assert_eq!(
            (read.user_stack == 0, read.kernel_stack == 0),
            (written.user_stack == 0, written.kernel_stack == 0)
        );
        (read.user_stack, read.kernel_stack) = (written.user_stack, written.kernel_stack);
    }

    fn event(&mut self, written: &Event, read: &mut Event) {
        match (written, read) {
            (Event::Alloc(written), Event::Alloc(read))
            | (Event::FoundLive(written), Event::FoundLive(read)) => self.call(written.call, &mut read.call),
            (Event::Acquired(written), Event::Acquired(read)) => {
                self.call(written.alloc.call, &mut read.alloc.call);
            }
            (Event::Refused(written), Event::Refused(read)) => self.call(written.call, &mut read.call),
            (Event::Mapped(written), Event::Mapped(read)) => self.call(written.call, &mut read.call),
            (Event::Fact(written), Event::Fact(read)) => {
                if let (Fact::Belongs { call: written, .. }, Fact::Belongs { call: read, .. }) =
                    (&**written, &mut **read)
                {
                    self.call(*written, read);
                }
            }
            _ => {}
        }
    }

    fn same(&mut self, written: &[Event], mut read: Vec<Event>) {
        assert_eq!(written.len(), read.len());
        for (index, (written, read)) in written.iter().zip(&mut read).enumerate() {
            self.event(written, read);
            assert_eq!(written, read, "event {index}");
        }
    }
}

#[test]
fn what_was_written_is_read() {
    for seed in 1..40 {
        let events = Wild::list(seed * 0x1234_5677, 1500);
        let (read, end) = read(&written(&events, ORDINARY));
        assert_eq!(end, End::Complete);
        Renaming::default().same(&events, read);
    }
}

#[test]
fn small_blocks_and_many_beginnings_change_nothing() {
    for seed in 1..20 {
        let events = Wild::list(seed * 0x7654_3211, 2000);
        let (read, end) = read(&written(&events, TIGHT));
        assert_eq!(end, End::Complete);
        // Calls may get another name here: what nobody has named for long is forgotten.
        for (index, (written, mut read)) in events.iter().zip(read).enumerate() {
            Renaming::default().event(written, &mut read);
            assert_eq!(*written, read, "event {index}");
        }
    }
}

#[test]
fn a_program_that_runs_keeps_the_names_of_its_calls() {
    let call = |which| Call { user_stack: which, kernel_stack: 1, ..Call::default() };
    let alloc = |tgid, which, time| {
        Event::Alloc(Alloc { handle: time * 8, generation: time, tgid, tid: tgid, call: call(which) })
    };
    let release = |time| {
        let (handle, generation) = (time * 8, time);
        let (tgid, cause, never_opened, unaccounted) = (0, Cause::Close, false, false);
        Event::Release(Release { handle, generation, time, tgid, cause, never_opened, unaccounted })
    };
    let mut events = vec![alloc(7, 99, 1), release(1)];
    for time in 2..5000 {
        events.extend([alloc(9, time, time), release(time)]);
        if time % 10 == 0 {
            let comm = [0; 16];
            events.push(Event::Exec { time, tgid: 9, comm, path: Vec::new() });
        }
    }
    events.extend([
        alloc(7, 99, 6000),
        Event::Exit { time: 6001, tgid: 7, how: Leaving::default() },
        alloc(9, 2, 6002),
    ]);
    let mut writer = Writer::with_limits(Vec::new(), &header(), TIGHT).unwrap();
    writer.write(&events).unwrap();
    let (handles, (groups, calls, processes)) = writer.remembered();
    assert!(handles < 200 && groups < 600 && calls < 600 && processes == 2, "{handles} {groups} {calls}");
    let (read, end) = read(&writer.finish().unwrap());
    assert_eq!(end, End::Complete);
    let ours = |event: &Event| match event {
        Event::Alloc(alloc) if alloc.tgid == 7 => Some(alloc.call),
        _ => None,
    };
    let calls: Vec<Call> = read.iter().filter_map(ours).collect();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0], calls[1]);
    Renaming::default().same(&events[..events.len() - 1], read[..read.len() - 1].to_vec());
}

#[test]
fn stacks_and_what_is_no_handle_are_left_out() {
    let frames = [1, 2].into();
    let stack = crate::stream::Stack {
        hash: 3,
        side: crate::stream::Side::User,
        tgid: 1,
        frames,
        complete: false,
        submitter: 0,
    };
    let nothing = Alloc { handle: 0, generation: 1, tgid: 2, tid: 2, call: Call::default() };
    let kept = [
        Event::Exit { time: 1, tgid: 2, how: Leaving::default() },
        Event::Exit { time: 2, tgid: 2, how: Leaving::default() },
    ];
    let [first, last] = kept.clone();
    let (read, end) = read(&written(&[first, Event::Stack(stack), Event::Alloc(nothing), last], ORDINARY));
    assert_eq!((read.as_slice(), end), (kept.as_slice(), End::Complete));
}

#[test]
fn long_texts_are_cut_between_characters() {
    let comm = format!("x{}", "ø".repeat(4000));
    let identity = Identity { comm, ..Identity::default() };
    let event = Event::Fact(Box::new(Fact::Identity(ImageKey { tgid: 1, since: 2 }, Arc::new(identity))));
    let (read, _) = read(&written(&[event], ORDINARY));
    let Event::Fact(fact) = &read[0] else { panic!("{read:?}") };
    let Fact::Identity(_, identity) = &**fact else { panic!("{fact:?}") };
    assert_eq!(identity.comm, format!("x{}", "ø".repeat(2047)));
}

#[test]
fn the_header_comes_back_and_a_later_versions_fields_do_no_harm() {
    let bytes = written(&[], ORDINARY);
    assert_eq!(*Reader::new(bytes.as_slice()).unwrap().header(), header());
    let read: Header = serde_json::from_str(r#"{"kernel": "7.1", "later": {"a": [1]}}"#).unwrap();
    assert_eq!(read, Header { kernel: "7.1".to_owned(), ..Header::default() });
}

#[test]
fn what_is_flushed_can_be_read_though_the_file_does_not_end() {
    let events = Wild::list(5, 300);
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    writer.write(&events[..200]).unwrap();
    writer.flush().unwrap();
    writer.flush().unwrap();
    writer.write(&events[200..]).unwrap();
    let whole = writer.written();
    let bytes = writer.finish().unwrap();
    let (read, end) = read(&bytes[..usize::try_from(whole).unwrap()]);
    assert_eq!(end, End::Cut { at: whole });
    Renaming::default().same(&events[..200], read);
}

#[test]
fn a_file_that_is_cut_anywhere_gives_what_is_whole() {
    let events = Wild::list(77, 200);
    let bytes = written(&events, Limits { block: 700, epoch: 3000 });
    let whole = read(&bytes).0;
    let begin = usize::try_from(Reader::new(bytes.as_slice()).unwrap().position()).unwrap();
    let mut most = 0;
    for length in 0..bytes.len() {
        if length < begin {
            assert!(matches!(Reader::new(&bytes[..length]), Err(Error::Cut { at }) if at == length as u64));
            continue;
        }
        let (some, end) = read(&bytes[..length]);
        assert!(matches!(end, End::Cut { at } if at <= length as u64), "{length}: {end:?}");
        assert_eq!(some, whole[..some.len()]);
        assert!(some.len() >= most, "more bytes, more events");
        most = some.len();
    }
    assert_eq!(most, whole.len());
}

/// Changes some bytes.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.index(bytes.len());
        let byte = random.word().to_le_bytes()[7];
        match random.below(5) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.insert(at, byte),
            2 => bytes[at] ^= 1 << (byte % 8),
            3 => {
                let to = (at + random.index(9)).min(bytes.len());
                bytes[at..to].fill(if byte > 128 { 0xff } else { 0 });
            }
            _ => bytes[at] = byte,
        }
    }
}

/// Reads whatever it is and folds what comes.
fn survive(bytes: &[u8]) -> usize {
    let Ok(mut reader) = Reader::new(bytes) else { return 0 };
    let (mut events, mut fold, mut sum) = (Vec::new(), Fold::default(), 0);
    while reader.read_batch(&mut events).unwrap() {
        sum += events.len();
        fold.apply_all(&mut events);
    }
    assert!(reader.end().is_some() && reader.position() <= bytes.len() as u64);
    sum
}

#[test]
fn wrong_bytes_anywhere_do_no_harm() {
    let bytes = written(&Wild::list(99, 150), Limits { block: 500, epoch: 1500 });
    let mut random = Random(4711);
    for _ in 0..5000 {
        let mut wrong = bytes.clone();
        mutate(&mut wrong, &mut random);
        survive(&wrong);
    }
}

/// A file of one block that bears the right checksums.
fn sealed(raw: &[u8], events: u32) -> Vec<u8> {
    let mut bytes = written(&[], ORDINARY);
    bytes.truncate(usize::try_from(Reader::new(bytes.as_slice()).unwrap().position()).unwrap());
    let length = u32::try_from(raw.len()).unwrap();
    let checksum = crc32fast::hash(raw);
    let frame = Frame { kind: kind::EVENTS, flags: 3, stored: length, raw: length, events, checksum };
    bytes.extend(frame.to_bytes());
    bytes.extend(raw);
    bytes
}

/// A reader of an earlier version skips acquisitions as records that it does not know: all else must mean the same to it.
#[test]
fn acquisitions_are_skipped_without_harm() {
    let events = Wild::list(321, 800);
    let mut encoder = super::encode::Encoder::default();
    encoder.begin_epoch();
    events.iter().for_each(|event| encoder.event(event));
    let mut raw = Vec::new();
    let count = encoder.take(&mut raw);
    let mut columns = super::bytes::Bytes(&raw);
    let lengths: Vec<usize> = (0..columns.count().unwrap()).map(|_| columns.count().unwrap()).collect();
    let start = raw.len() - lengths.iter().sum::<usize>();
    let tags = &mut raw[start..start + lengths[0]];
    tags.iter_mut().filter(|tag| **tag == super::format::record::ACQUIRED).for_each(|tag| *tag = 120);
    let is_new = |event: &Event| matches!(event, Event::Acquired(_) | Event::Refused(_));
    let others: Vec<Event> = events.iter().filter(|event| !is_new(event)).cloned().collect();
    assert!(others.len() < events.len());
    let (read, _) = read(&sealed(&raw, count));
    Renaming::default().same(&others, read);
}

/// One of a later runtime is read as well: its function and line say enough.
#[test]
fn frames_without_a_known_runtime_are_native() {
    let runtime = |end: &[u8]| {
        let mut dictionary = super::facts::Dictionary::default();
        let frame = [&[0, 0, 0, 0, 0, 7, 13], end].concat();
        dictionary.define_user_frame(super::bytes::Bytes(&frame)).unwrap();
        dictionary.user_frame(0).unwrap().runtime
    };
    assert_eq!([runtime(&[]), runtime(&[1]), runtime(&[200])], [None, Some(Runtime::Cpython), None]);
}

/// Five files of one line, recorded by the last build of version 1.
#[test]
fn a_file_of_version_1_is_read() {
    let (events, end) = read(include_bytes!("version-1.trace"));
    assert_eq!(end, End::Complete);
    let opened = events.iter().filter(|event| matches!(event, Event::Alloc(_))).count();
    let site = events.iter().find_map(|event| match event {
        Event::Fact(fact) => match &**fact {
            Fact::Site(site) => Some(site),
            _ => None,
        },
        _ => None,
    });
    let frames = &site.expect("a site").user.frames;
    let is_loop = |frame: &Arc<UserFrame>| frame.symbol.as_deref() == Some("_PyEval_EvalFrameDefault");
    assert_eq!(opened, 5);
    assert!(frames.iter().any(is_loop) && frames.iter().all(|frame| frame.runtime.is_none()), "{frames:?}");
}

#[test]
fn wrong_bytes_under_right_checksums_do_no_harm() {
    let events = Wild::list(123, 150);
    let mut encoder = super::encode::Encoder::default();
    encoder.begin_epoch();
    events.iter().for_each(|event| encoder.event(event));
    let mut raw = Vec::new();
    let count = encoder.take(&mut raw);
    assert_eq!(survive(&sealed(&raw, count)), events.len());
    let mut random = Random(815);
    let mut delivered = 0;
    for _ in 0..5000 {
        let mut wrong = raw.clone();
        mutate(&mut wrong, &mut random);
        delivered += survive(&sealed(&wrong, count));
    }
    assert!(delivered > 50_000, "the decoder was reached: {delivered}");
}

#[test]
fn damage_costs_what_is_up_to_the_next_beginning() {
    let events = Wild::list(31, 3000);
    let bytes = written(&events, TIGHT);
    let whole = read(&bytes).0;
    let start = usize::try_from(Reader::new(bytes.as_slice()).unwrap().position()).unwrap();
    let mut wrong = bytes.clone();
    wrong[start + FRAME + 3] ^= 1;
    let (some, end) = read(&wrong);
    let End::Damaged { at, why: Damage::Checksum, lost, resumed: true } = end else { panic!("{end:?}") };
    assert_eq!(at, start as u64);
    assert!(lost > 0 && lost < 1000, "{lost}");
    let lost = usize::try_from(lost).unwrap();
    assert!(matches!(some[0], Event::Gap { events, .. } if events == lost as u64));
    assert_eq!(some[1..], whole[lost..]);

    let mut wrong = bytes.clone();
    wrong[start + 2] ^= 1;
    let (some, end) = read(&wrong);
    assert_eq!(end, End::Damaged { at: start as u64, why: Damage::Framing, lost: 0, resumed: false });
    assert!(some.is_empty());

    let mut longer = bytes;
    let length = longer.len() as u64;
    longer.push(0);
    let (some, end) = read(&longer);
    assert_eq!(end, End::Damaged { at: length, why: Damage::Behind, lost: 0, resumed: false });
    assert_eq!(some, whole);
}

#[test]
fn blocks_and_records_of_later_versions_are_passed_over() {
    // One exit, and among its columns a record that nobody knows.
    let raw = [&[9, 2, 0, 0, 0, 0, 0, 0, 0, 7, 100, 20, 3, 1, 2, 3, 2, 10, 4][..]].concat();
    let mut bytes = sealed(&raw, 1);
    let unknown =
        Frame { kind: 77, flags: 0, stored: 4, raw: 4, events: 0, checksum: crc32fast::hash(b"what") };
    bytes.extend(unknown.to_bytes());
    bytes.extend(b"what");
    let (events, end) = read(&bytes);
    assert_eq!(events, [Event::Exit { time: 5, tgid: 2, how: Leaving::default() }]);
    assert_eq!(end, End::Cut { at: bytes.len() as u64 });
}

#[test]
fn other_files_are_told_from_traces() {
    assert!(matches!(Reader::new(&b"\x7fELF"[..]), Err(Error::NotATrace { at: 0 })));
    assert!(matches!(Reader::new(&b"\x89FDT\n\x1a\n"[..]), Err(Error::NotATrace { at: 4 })));
    assert!(matches!(Reader::new(&b""[..]), Err(Error::Cut { at: 0 })));
    let mut newer = written(&[], ORDINARY);
    newer[PREAMBLE - 4] = 3;
    let Err(error) = Reader::new(newer.as_slice()) else { panic!("read") };
    assert_eq!(error.to_string(), "a trace of format version 3; this fdtrace reads versions up to 2");
}

#[test]
fn a_file_does_not_outgrow_its_limit_and_the_next_one_stands_alone() {
    let events = Wild::list(8, 60_000);
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    let mut files = Vec::new();
    let mut rest = events.as_slice();
    writer.set_max_size(Some(200_000));
    while let Progress::Full { taken } = writer.write(rest).unwrap() {
        rest = &rest[taken..];
        assert_eq!(writer.write(rest).unwrap(), Progress::Full { taken: 0 });
        files.push(writer.restart(Vec::new(), &header()).unwrap());
    }
    files.push(writer.finish().unwrap());
    assert!(files.len() > 2);
    let mut all = Vec::new();
    for (index, file) in files.iter().enumerate() {
        assert!(file.len() <= 200_000, "{}", file.len());
        assert!(file.len() > 150_000 || index + 1 == files.len(), "{}", file.len());
        let (read, end) = read(file);
        assert_eq!(end, End::Complete);
        all.extend(read);
    }
    assert_eq!(events.len(), all.len());
    // A file that is full begins with empty tables again and again, and what nobody has named for long is forgotten.
    for (index, (written, mut read)) in events.iter().zip(all).enumerate() {
        Renaming::default().event(written, &mut read);
        assert_eq!(*written, read, "event {index}");
    }
}

/// A disk with little room.
struct Disk(Vec<u8>, usize);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (self.1 - self.0.len()).min(1000);
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(room);
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_and_what_is_whole_stays_so() {
    let events = Wild::list(8, 5000);
    let mut disk = Disk(Vec::new(), 20_000);
    let mut writer = Writer::with_limits(&mut disk, &header(), Limits { block: 3000, epoch: EPOCH }).unwrap();
    assert_eq!(writer.write(&events).unwrap_err().kind(), io::ErrorKind::StorageFull);
    let whole = writer.written();
    assert!(writer.write(&events[..1]).and_then(|_| writer.flush()).is_err());
    assert_eq!(writer.written(), whole);
    assert!(writer.finish().is_err());
    let (some, end) = read(&disk.0);
    assert_eq!(end, End::Cut { at: whole });
    assert!(some.len() > 500, "{}", some.len());
    Renaming::default().same(&events[..some.len()], some);
}
