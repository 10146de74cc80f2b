//! Reads a trace file back into the views that it would have given live.

use std::{
    io::Read,
    time::{Duration, SystemTime},
};

use crate::{
    handles::{Fold, Snapshot},
    stream::{Event, Fact},
    trace::{End, Error, Header, Reader, Unjustified, allowance},
    view::{Selection, Session, View},
};

/// A trace that is being read.
pub struct Replay<R> {
    reader: Reader<R>,
    fold: Fold,
    view: View,
    batch: Vec<Event>,
    /// The time of the last event.
    now: u64,
    /// No event later than this is wanted.
    until: u64,
    /// That moment has passed: what is found out later is still true of it, what happens later is not.
    passed: bool,
    sampled: bool,
    /// Groups that were looked at, each time that one was.
    seen: u64,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more.
    More,
    /// Somebody looked at this moment, when the trace was recorded.
    Sample,
    /// There is no more, or no more is wanted.
    Done,
}

impl<R: Read> Replay<R> {
    /// Begins to read a trace, up to a moment counted from its beginning.
    ///
    /// # Errors
    /// When it is no trace that this build reads.
    pub fn new(source: R, selection: Selection, until: Option<Duration>) -> Result<Self, Error> {
        let reader = Reader::new(source)?;
        let header = reader.header();
        let since = |until: Duration| u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        let until = until.map_or(u64::MAX, |until| header.start_ns.saturating_add(since(until)));
        let session = Session {
            start: humantime::parse_rfc3339(&header.start).unwrap_or(SystemTime::UNIX_EPOCH),
            start_ns: header.start_ns,
            backend: header.backend.clone(),
            kernel: header.kernel.clone(),
            min_age_ns: header.min_age_ns,
        };
        Ok(Self {
            view: View::new(session, selection),
            now: header.start_ns,
            reader,
            fold: Fold::default(),
            batch: Vec::new(),
            until,
            passed: false,
            sampled: false,
            seen: 0,
        })
    }

    /// What the trace says about itself.
    #[must_use]
    pub const fn header(&self) -> &Header {
        self.reader.header()
    }

    /// Bytes that were read.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.reader.position()
    }

    /// How the file ended; `None` when it was not read to its end.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        self.reader.end()
    }

    /// Whether the trace goes on behind the moment up to which it is read.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        self.passed
    }

    /// The time of the last event, `CLOCK_MONOTONIC` in ns.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// The live handles at this moment, one by one.
    #[must_use]
    pub const fn fold(&self) -> &Fold {
        &self.fold
    }

    /// The view, with its history up to here.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// All that is known at this moment.
    ///
    /// # Errors
    /// When a document of it would be larger than the bytes that were read justify.
    pub fn snapshot(&self) -> Result<Snapshot, Unjustified> {
        let snapshot = Snapshot::of(&self.fold, self.now, self.view.selection().min_age_ns);
        let bytes = self.position();
        match snapshot.weight_of_a_document() <= allowance::memory(bytes) {
            true => Ok(snapshot),
            false => Err(Unjustified { bytes }),
        }
    }

    /// Reads some more, at most to the next sample.
    ///
    /// # Errors
    /// When the file cannot be read. Wrong bytes are no error: see [`Self::end`].
    pub fn step(&mut self) -> std::io::Result<Step> {
        if self.batch.is_empty() && !self.reader.read_batch(&mut self.batch)? {
            self.finish();
            return Ok(Step::Done);
        }
        self.leave_out_what_is_late();
        let sample = self.batch.iter().position(|event| matches!(event, Event::Sample(_)));
        let rest = sample.map(|sample| self.batch.split_off(sample + 1));
        if let Some(time) = self.batch.iter().rev().find_map(Event::time) {
            self.now = self.now.max(time);
        }
        self.sampled &= self.batch.iter().all(is_finding);
        self.fold.apply_all(&mut self.batch);
        self.batch.extend(rest.into_iter().flatten());
        if self.fold.weight() + self.view.weight() + self.reader.weight() > allowance::memory(self.position())
        {
            self.reader.refuse();
            self.batch.clear();
        }
        if sample.is_some() && self.may_sample() {
            self.sampled = true;
            self.view.sample(&Snapshot::brief(&self.fold, self.now));
            return Ok(Step::Sample);
        }
        Ok(Step::More)
    }

    /// Whether the bytes that were read justify another sample. A history has fewer points without it.
    fn may_sample(&mut self) -> bool {
        self.seen = self.seen.saturating_add(self.fold.group_slots());
        self.seen <= allowance::looking(self.position())
    }

    fn leave_out_what_is_late(&mut self) {
        if self.until == u64::MAX {
            return;
        }
        let (until, passed) = (self.until, &mut self.passed);
        self.batch.retain(|event| {
            *passed |= event.time().is_some_and(|time| time > until);
            !*passed || is_finding(event)
        });
    }

    /// A trace that was cut off, or is not wanted whole, ends between two samples.
    fn finish(&mut self) {
        if !self.sampled {
            self.view.sample(&Snapshot::brief(&self.fold, self.now));
            self.sampled = true;
        }
    }
}

/// Whether an event says what something is, and not that something happened.
fn is_finding(event: &Event) -> bool {
    matches!(event, Event::Fact(fact) if !matches!(**fact, Fact::Existing(_)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::{
        model::{Identity, KernelFrame, Kind, Origin, UserFrame},
        stream::{
            Alloc, Call, Cause, Described, Existing, Fact, FdLookup, ImageKey, Leaving, Mapped, Release,
            ShortLived, Site, Stats, UserStack,
        },
        trace::Writer,
    };

    /// Xorshift: the same lists on every machine.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) % limit
        }

        fn pid(&mut self) -> u32 {
            u32::try_from(self.below(6)).unwrap_or(0) + 100
        }
    }

    /// A stream as a kernel and an enricher could give it, with all that goes wrong in one.
    struct Stream {
        random: Random,
        time: u64,
        live: Vec<(u64, u64)>,
        images: Vec<ImageKey>,
        events: Vec<Event>,
    }

    impl Stream {
        fn new(seed: u64) -> Self {
            let images = (100..106).map(|tgid| ImageKey { tgid, since: 0 }).collect();
            Self { random: Random(seed | 1), time: 1000, live: Vec::new(), images, events: Vec::new() }
        }

        fn call(&mut self) -> Call {
            let number = self.random.below(5);
            Call { user_stack: number + 1, kernel_stack: number % 2, syscall: Some(257), ..Call::default() }
        }

        fn any_handle(&mut self) -> (u64, u64) {
            match self.live.len() as u64 {
                0 => (8, 1),
                count => self.live[usize::try_from(self.random.below(count)).unwrap_or(0)],
            }
        }

        fn add(&mut self) {
            self.time += self.random.below(1_000_000);
            let time = self.time;
            let event = match self.random.below(24) {
                0..8 => self.alloc(),
                8..13 => self.release(),
                13 => self.mapped(),
                14 => self.fork_or_exec(),
                15 => Event::Exit { time, tgid: self.random.pid(), how: Leaving::default() },
                16 => Event::Fact(Box::new(self.site())),
                17 | 18 => Event::Fact(Box::new(self.belongs())),
                19 => Event::Fact(Box::new(self.described())),
                20 => Event::Fact(Box::new(self.other_fact())),
                21 => self.resynced(),
                22 => Event::ShortLived(ShortLived {
                    site: Some(self.random.below(4)).filter(|site| *site > 0),
                    handles: self.random.below(9),
                    never_opened: 0,
                }),
                _ => self.sample(),
            };
            self.events.push(event);
        }

        fn alloc(&mut self) -> Event {
            // Addresses are used again, and not always after a release.
            let handle = 8 * (self.random.below(40) + 1);
            let (tgid, call) = (self.random.pid(), self.call());
            self.live.push((handle, self.time));
            Event::Alloc(Alloc { handle, generation: self.time, tgid, tid: tgid, call })
        }

        fn release(&mut self) -> Event {
            let (handle, generation) = self.any_handle();
            Event::Release(Release {
                handle,
                generation,
                time: self.time,
                tgid: self.random.pid(),
                cause: if self.random.below(2) == 0 { Cause::Close } else { Cause::Exit },
                never_opened: self.random.below(4) == 0,
                unaccounted: false,
            })
        }

        fn mapped(&mut self) -> Event {
            let (handle, generation) = self.any_handle();
            let (tgid, call) = (self.random.pid(), self.call());
            Event::Mapped(Mapped {
                handle,
                generation,
                time: self.time,
                tgid,
                tid: tgid,
                address: self.random.below(1 << 40),
                length: 4096,
                inode: 0,
                call,
            })
        }

        fn fork_or_exec(&mut self) -> Event {
            let (time, tgid, comm) = (self.time, self.random.pid(), *b"program\0\0\0\0\0\0\0\0\0");
            self.images.push(ImageKey { tgid, since: time });
            match self.random.below(2) {
                0 => Event::Fork { time, parent: self.random.pid(), child: tgid, shares: false, comm },
                _ => Event::Exec { time, tgid, comm, path: b"/bin/program".to_vec() },
            }
        }

        fn image(&mut self) -> ImageKey {
            let count = self.images.len() as u64;
            self.images[usize::try_from(self.random.below(count)).unwrap_or(0)]
        }

        fn site(&mut self) -> Fact {
            let id = self.random.below(4) + 1;
            let frame = UserFrame {
                symbol: Some(format!("f{id}")),
                module: Some("/bin/program".to_owned()),
                build_id: Some("c0ffee".to_owned()),
                offset: id * 16,
                ..UserFrame::default()
            };
            Fact::Site(Arc::new(Site {
                id,
                origin: Origin::ALL[usize::try_from(id).unwrap_or(0)],
                kernel: vec![KernelFrame { symbol: "alloc_empty_file".to_owned(), offset: id }],
                user: UserStack { frames: vec![Arc::new(frame)], complete: id == 1 },
            }))
        }

        fn belongs(&mut self) -> Fact {
            Fact::Belongs { image: self.image(), call: self.call(), site: self.random.below(4) + 1 }
        }

        fn described(&mut self) -> Fact {
            let (handle, generation) = self.any_handle();
            Fact::Described(Described {
                handle,
                generation,
                kind: Kind::from_number(u8::try_from(self.random.below(11)).unwrap_or(0)),
                name: Some("/etc/passwd".into()).filter(|_| self.random.0 & 1 == 0),
                descriptor: if self.random.0 & 2 == 0 { FdLookup::Found(7, 3) } else { FdLookup::NotYet },
            })
        }

        fn other_fact(&mut self) -> Fact {
            if self.random.below(2) == 0 {
                let comm = format!("name{}", self.random.below(3));
                let identity = Identity { comm, exe: "/bin/program".to_owned(), cgroup: "/".to_owned() };
                return Fact::Identity(self.image(), Arc::new(identity));
            }
            let handle = 8 * (self.random.below(40) + 100);
            self.live.push((handle, 1));
            Fact::Existing(Existing { handle, tgid: self.random.pid(), fd: Some(3) })
        }

        fn resynced(&mut self) -> Event {
            let time = self.time;
            let (handle, generation) = self.any_handle();
            match self.random.below(3) {
                0 => Event::Gap { time, events: 5 },
                1 => Event::FoundGone { time, handle, generation },
                _ => match self.alloc() {
                    Event::Alloc(alloc) => Event::FoundLive(alloc),
                    other => other,
                },
            }
        }

        fn sample(&mut self) -> Event {
            Event::Sample(Box::new(Stats {
                time: self.time,
                file_nr: self.random.below(5000),
                lost_events: self.random.below(2),
                allocated: self.random.below(100_000),
                ..Stats::default()
            }))
        }
    }

    /// What a view shows live, from the same events.
    fn live(events: &[Event], header: &Header) -> Value {
        let session = Session {
            start: humantime::parse_rfc3339(&header.start).unwrap(),
            start_ns: header.start_ns,
            backend: header.backend.clone(),
            kernel: header.kernel.clone(),
            min_age_ns: 0,
        };
        let (mut fold, mut view, mut now) = (Fold::watched(), View::new(session, Selection::default()), 0);
        for event in events {
            now = now.max(event.time().unwrap_or(0));
            fold.apply(event.clone());
            // Who watches takes what is new; that must not matter.
            fold.take_fresh();
            if matches!(event, Event::Sample(_)) {
                view.sample(&Snapshot::of(&fold, now, 0));
            }
        }
        serde_json::to_value(view.document("x", &Snapshot::of(&fold, now, 0))).unwrap()
    }

    /// The path of the first value that differs, and both.
    fn difference(one: &Value, other: &Value, path: &str) -> Option<String> {
        match (one, other) {
            (Value::Object(ours), Value::Object(theirs)) if ours.len() == theirs.len() => {
                ours.iter().find_map(|(key, value)| difference(value, &theirs[key], &format!("{path}.{key}")))
            }
            (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => (0..)
                .zip(ours.iter().zip(theirs))
                .find_map(|(index, (one, other))| difference(one, other, &format!("{path}[{index}]"))),
            _ => (one != other).then(|| format!("{path}: {one} and {other}")),
        }
    }

    #[test]
    fn a_stream_shows_the_same_live_and_replayed() {
        let header = Header {
            start: "2026-01-02T03:04:05Z".to_owned(),
            start_ns: 500,
            backend: "kprobe".to_owned(),
            ..Header::default()
        };
        for seed in 0..200 {
            let mut stream = Stream::new(seed * 7919 + 1);
            (0..400).for_each(|_| stream.add());
            let last = stream.sample();
            stream.events.push(last);
            let mut writer = Writer::new(Vec::new(), &header).unwrap();
            for events in stream.events.chunks(37) {
                writer.write(events).unwrap();
                writer.flush().unwrap();
            }
            let file = writer.finish().unwrap();
            let mut replay = Replay::new(file.as_slice(), Selection::default(), None).unwrap();
            while replay.step().unwrap() != Step::Done {}
            assert_eq!(replay.end(), Some(&End::Complete));
            let replayed =
                serde_json::to_value(replay.view().document("x", &replay.snapshot().unwrap())).unwrap();
            let difference = difference(&live(&stream.events, &header), &replayed, "");
            assert_eq!(difference, None, "seed {seed}");
            assert!(!replayed["sites"].as_array().unwrap().is_empty());
        }
    }
}
