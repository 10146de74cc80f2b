//! The collector's thread.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use fdtrace_common::{
    counters::{Counter, Counters, ShortLivedCount},
    descriptor,
};

use super::{
    acquired::Acquisitions,
    alloc_errors::AllocErrors,
    monotonic_ns,
    preexisting::Preexisting,
    requests::{Request, Sample, Sink, Written},
    resync::Resync,
    stacks::PendingStacks,
    sweep::Sweep,
    waker::Waker,
    what,
    work_queues::watch_queues,
};
use crate::{
    handles::{Fold, FreshGroup, Handle, Snapshot},
    kernel::{self, Capabilities, FileNr, Symbols, Tracer},
    stacks::{Modules, Readers, Recogniser},
    stream::{Event, Fact, Record, Stats, decode},
};

/// How long the ring may fill before somebody looks; the kernel wakes the collector earlier when half of it is full, and
/// so does everybody who asks it something.
const IDLE_INTERVAL: Duration = Duration::from_millis(50);

/// The same while a preexisting is under way that somebody waits for.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Until a record is looked for again that is being written.
const BLINK: Duration = Duration::from_millis(1);

/// The longest that the end of a trace waits for records that are being written.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest that it waits for the next stack to be completed, and for all of them: the tables of a large program are read in
/// a second, where other programs do not need the processors.
const NEXT_STACK: Duration = Duration::from_secs(10);
const ALL_STACKS: Duration = Duration::from_secs(30);

/// The longest that the end of a trace waits for what skipped releases have left: a suspect is proven in a second.
const CONCLUDING: Duration = Duration::from_secs(3);

/// Between two searches for that.
const SEARCH: Duration = Duration::from_millis(20);

/// How often the counters are read for losses.
const LOSS_CHECK: Duration = Duration::from_millis(100);

/// How often the tables of descriptors are compared with what was acquired.
const COMPARISON: Duration = Duration::from_millis(500);

/// Events that are decoded before they are applied together.
const BATCH: usize = 128;

/// How often a fact about a handle is tried that has not come through the ring.
const MAX_TRIES: u32 = 8;

/// Stacks that are remembered before the kernel side is told to send all anew.
const MAX_STACKS: usize = 16_384;

/// What the thread is started with.
pub struct Setup {
    /// The attached programs.
    pub tracer: Tracer,
    /// The kernel preempts itself: missed probes may have been allocations.
    pub kernel_preempts: bool,
    /// Min-age filter: the age from which handles are spoken of, in ns; 0 for all.
    pub min_age_ns: u64,
    /// Where the files are noted that stacks lead through.
    pub modules: Arc<Modules>,
    /// Who reads those files.
    pub readers: Readers,
    /// Who knows which of them are interpreters.
    pub recogniser: Recogniser,
    /// Kernel functions, which tell what a handle is.
    pub symbols: Arc<Symbols>,
    /// The trace file, if there is one.
    pub sink: Option<Box<dyn Sink>>,
    /// What the threads keep of what they may.
    pub kept: Capabilities,
}

/// The thread's state.
pub(super) struct Worker {
    tracer: Tracer,
    fold: Fold,
    symbols: Arc<Symbols>,
    resync: Resync,
    preexisting: Preexisting,
    stacks: PendingStacks,
    modules: Arc<Modules>,
    readers: Readers,
    waker: Waker,
    news: Arc<Notify>,
    sweep: Option<Sweep>,
    alloc_errors: AllocErrors,
    acquisitions: Acquisitions,
    counters: Counters,
    batch: Vec<Event>,
    sink: Option<Box<dyn Sink>>,
    /// Facts about handles that have not come through the ring yet, and how often they were tried.
    early: Vec<(Fact, u32)>,
    /// Records that were no events.
    malformed: u64,
    next_check: Instant,
    kept: Capabilities,
    next_comparison: Instant,
}

impl Worker {
    pub(super) fn new(mut setup: Setup, waker: Waker, news: Arc<Notify>) -> kernel::Result<Self> {
        let sweep = match setup.min_age_ns {
            0 => None,
            age => Some(Sweep::new(setup.tracer.sweeper(), age)),
        };
        Ok(Self {
            resync: Resync::new(setup.tracer.phantom_finder()?, setup.kernel_preempts),
            preexisting: Preexisting::start(setup.tracer.existing(), setup.kept),
            stacks: PendingStacks::start(
                setup.tracer.rules()?,
                Arc::clone(&setup.modules),
                &setup.readers,
                setup.recogniser,
                setup.kept,
            )?,
            modules: setup.modules,
            readers: setup.readers,
            symbols: setup.symbols,
            sweep,
            alloc_errors: AllocErrors::default(),
            acquisitions: Acquisitions::new(setup.tracer.acquired()?),
            next_comparison: Instant::now(),
            waker,
            news,
            tracer: setup.tracer,
            fold: Fold::watched(),
            counters: Counters::default(),
            batch: Vec::with_capacity(BATCH),
            sink: setup.sink,
            early: Vec::new(),
            malformed: 0,
            next_check: Instant::now(),
            kept: setup.kept,
        })
    }

    pub(super) fn run(mut self, inbox: &Receiver<Request>) {
        // Less is always allowed.
        let _ = self.kept.keep_only();
        loop {
            self.tracer.wait(IDLE_INTERVAL, Some(self.waker.as_fd()));
            self.drain();
            watch_queues(&mut self.tracer, &self.modules, &self.readers);
            self.count_existing();
            self.check_losses();
            if self.fold.has_fresh() {
                self.news.notify_one();
            }
            self.waker.silence();
            loop {
                match inbox.try_recv() {
                    Ok(Request::Stop) | Err(TryRecvError::Disconnected) => return,
                    Ok(request) => self.answer(request),
                    Err(TryRecvError::Empty) => break,
                }
            }
        }
    }

    fn answer(&mut self, request: Request) {
        // Whoever asked may have gone.
        match request {
            Request::Sample(min_age_ns, reply) => drop(reply.send(self.sample(min_age_ns))),
            Request::Sweep => self.sweep(),
            Request::CatchUp(reply) => {
                self.catch_up();
                let _ = reply.send(());
            }
            Request::Settle(reply) => {
                self.settle();
                let _ = reply.send(());
            }
            Request::Conclude(reply) => {
                self.conclude();
                let _ = reply.send(());
            }
            Request::Prepare(program, reply) => self.stacks.prepare(program, reply),
            Request::WatchQueues(reply) => {
                watch_queues(&mut self.tracer, &self.modules, &self.readers);
                let _ = reply.send(());
            }
            Request::Fresh(reply) => drop(reply.send(self.fresh())),
            Request::Oldest(most, reply) => drop(reply.send(self.oldest(most))),
            Request::Unfollow(pid, reply) => {
                self.tracer.unfollow(pid);
                let _ = reply.send(());
            }
            Request::Tell(facts) => self.hear(facts),
            Request::WatchDescriptors(reply) => drop(reply.send(self.tracer.watch_descriptors())),
            Request::Flush(reply) => drop(reply.send(self.flush())),
            Request::Finish(reply) => drop(reply.send(self.finish())),
            // Without CAP_SYS_ADMIN the cost stays unknown, and is shown as that.
            Request::TimePrograms(on) => drop(self.tracer.time_programs(on)),
            Request::Stop => {}
        }
    }

    fn sample(&mut self, min_age_ns: u64) -> Sample {
        while self.preexisting.is_pending() {
            self.tracer.wait(POLL_INTERVAL, Some(self.waker.as_fd()));
            self.drain();
            self.count_existing();
        }
        self.next_check = Instant::now();
        self.next_comparison = self.next_check;
        self.check_losses();
        self.drain();
        self.count_short_lived();
        self.count_alloc_errors();
        let stats = self.stats();
        self.feed(vec![Event::Sample(Box::new(stats))]);
        Sample { snapshot: Snapshot::of(&self.fold, stats.time, min_age_ns), costs: self.tracer.costs() }
    }

    /// Reads the ring up to where it is written now, resyncs what was lost, and finds which acquired descriptors are closed.
    fn catch_up(&mut self) {
        let until = self.tracer.written();
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        self.drain();
        while !self.tracer.has_read(until) && Instant::now() < deadline {
            self.tracer.wait(BLINK, None);
            self.drain();
        }
        self.next_check = Instant::now();
        self.check_losses();
        if !self.acquisitions.is_empty() {
            let closed = self.acquisitions.closed_by_now(monotonic_ns(), || std::thread::sleep(BLINK));
            self.feed(closed);
        }
    }

    /// Waits until no stack is under way that somebody completes.
    fn settle(&mut self) {
        let began = Instant::now();
        let (mut left, mut changed) = (0, began);
        loop {
            self.drain();
            if left != self.stacks.under_way() {
                (left, changed) = (self.stacks.under_way(), Instant::now());
            }
            if left == 0 || changed.elapsed() > NEXT_STACK || began.elapsed() > ALL_STACKS {
                return;
            }
            self.tracer.wait(POLL_INTERVAL, Some(self.waker.as_fd()));
        }
    }

    /// Before the last sample: stacks are complete, and what skipped releases may have left has been looked for.
    fn conclude(&mut self) {
        self.settle();
        self.stacks.give_up_all();
        let deadline = Instant::now() + CONCLUDING;
        self.find_phantoms();
        let until = self.resync.skips.seen();
        while !self.resync.skips.is_checked(until) && Instant::now() < deadline {
            self.tracer.wait(SEARCH, Some(self.waker.as_fd()));
            self.drain();
            self.find_phantoms();
        }
    }

    /// Handles that are pre-existing, once they are counted.
    fn count_existing(&mut self) {
        let found = self.preexisting.take();
        self.feed(found);
    }

    /// In the min-age filter: what has become old enough.
    fn sweep(&mut self) {
        let Some(mut sweep) = self.sweep.take() else { return };
        self.resync.begin();
        // What cannot be read now is read the next time.
        if let Ok(found) = sweep.sweep() {
            let absent = Resync::absent(&found, &self.fold);
            self.drain();
            let still = self.resync.still(absent);
            self.feed(still.into_iter().map(Event::Alloc).collect());
        }
        self.sweep = Some(sweep);
    }

    /// In the min-age filter: what was dropped as short-lived, and where.
    fn count_short_lived(&mut self) {
        if let Some(sweep) = &mut self.sweep
            && let Ok(short_lived) = self.tracer.short_lived()
        {
            let reported = sweep.tell(&short_lived);
            self.feed(reported);
        }
    }

    /// Errors that the kernel side has counted and not reported yet.
    fn count_alloc_errors(&mut self) {
        // A map that cannot be read now is read the next time.
        let table = self.tracer.failures().unwrap_or_default();
        let more = self.alloc_errors.in_table(&table, monotonic_ns());
        self.feed(more);
    }

    fn stats(&self) -> Stats {
        let count = |counter| self.counters.get(counter);
        let (missed_allocations, missed_releases) = self.tracer.skipped();
        let reported = self.sweep.as_ref().map_or(ShortLivedCount::default(), |sweep| sweep.sum);
        Stats {
            time: monotonic_ns(),
            allocated: count(Counter::Allocated),
            never_opened: count(Counter::NeverOpened),
            untraced_releases: count(Counter::ReleasedUnknown),
            own_allocations: count(Counter::Own),
            lost_events: count(Counter::LostEvents),
            lost_handles: count(Counter::LostHandles),
            lost_stacks: count(Counter::LostStacks)
                + count(Counter::OtherStacks)
                + self.fold.unknown_stacks()
                + self.stacks.lost,
            missed_allocations,
            missed_releases,
            missed_ends: self.tracer.missed_ends(),
            lost_ends: count(Counter::LostEnds),
            unfollowed: count(Counter::Unfollowed),
            cut_walks: count(Counter::CutWalks),
            lost_descriptors: count(Counter::LostDescriptors),
            unsynced: self.resync.unsynced,
            unchecked: self.resync.skips.unchecked(missed_releases),
            phantoms: count(Counter::Phantoms),
            malformed: self.malformed,
            file_nr: FileNr::read().map_or(0, |file_nr| file_nr.allocated),
            own_descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64,
            short_lived: count(Counter::ShortLived).saturating_sub(reported.handles),
            short_lived_never_opened: count(Counter::ShortLivedNeverOpened)
                .saturating_sub(reported.never_opened),
            young: self.young(),
        }
    }

    /// Handles in the kernel's table that the min-age filter has not spoken of.
    fn young(&self) -> u64 {
        if self.sweep.is_none() {
            return 0;
        }
        let count = |counter| self.counters.get(counter);
        // What is pre-existing was released, and never allocated.
        let made = count(Counter::Allocated) + self.fold.existing().released();
        made.saturating_sub(count(Counter::Released)).saturating_sub(self.fold.counts().live())
    }

    fn fresh(&mut self) -> Vec<FreshGroup> {
        self.drain();
        let fresh = self.fold.take_fresh();
        if self.fold.stacks() > MAX_STACKS && self.tracer.forget_stacks().is_ok() {
            self.fold.forget_stacks();
        }
        fresh
    }

    fn oldest(&self, most: usize) -> Vec<(u64, u64)> {
        let mut handles: Vec<(u64, u64)> =
            handles(&self.fold).map(|(address, handle)| (address, handle.generation)).collect();
        handles.sort_unstable_by_key(|(_, generation)| *generation);
        handles.truncate(most);
        handles
    }

    /// The kernel's table has a handle before its event is in the ring, and long before if the event is lost: a fact
    /// that comes too early is kept for a while.
    fn hear(&mut self, facts: Vec<Fact>) {
        self.drain();
        if let Some(sweep) = &mut self.sweep {
            sweep.note_sites(&facts);
        }
        let mut heard = std::mem::take(&mut self.early);
        heard.extend(facts.into_iter().map(|fact| (fact, 0)));
        let mut events = Vec::with_capacity(heard.len());
        for (fact, tries) in heard {
            if self.is_early(&fact) {
                if tries < MAX_TRIES {
                    self.early.push((fact, tries + 1));
                }
            } else {
                events.push(Event::Fact(Box::new(fact)));
            }
        }
        self.feed(events);
    }

    fn is_early(&self, fact: &Fact) -> bool {
        let Fact::Described(found) = fact else { return false };
        self.fold.table().get(found.handle).is_none_or(|handle| handle.generation != found.generation)
    }

    /// Takes all that waits in the ring, but no more than it can hold, so that a storm cannot keep it here for ever.
    fn drain(&mut self) {
        let mut left = self.tracer.ring_bytes() / 24;
        while left > 0 {
            let taken = self.drain_batch();
            if taken < BATCH {
                break;
            }
            left = left.saturating_sub(taken);
        }
        let completed = self.stacks.take();
        self.feed(completed);
    }

    fn drain_batch(&mut self) -> usize {
        let (batch, stacks, malformed) = (&mut self.batch, &mut self.stacks, &mut self.malformed);
        let (symbols, alloc_errors, acquisitions) =
            (&self.symbols, &mut self.alloc_errors, &mut self.acquisitions);
        let taken = self.tracer.drain(BATCH, |record| match decode(record) {
            Ok(Record::Event(event)) => {
                stacks.note_program(&event);
                if let Some(event) = alloc_errors.news_of(event) {
                    acquisitions.note(event, batch);
                }
            }
            Ok(Record::PartialStack(stack)) => stacks.begin(stack),
            Ok(Record::NativeStack(stack)) => batch.push(Event::Stack(stacks.with_calls(stack))),
            Ok(Record::ScriptCalls(calls)) => stacks.note_calls(calls),
            Ok(Record::CodeObject(code)) => stacks.note_code(code),
            Ok(Record::StackDump(dump)) => stacks.go_on(dump),
            Ok(Record::What(what)) => batch.push(Event::Fact(Box::new(what::described(&what, symbols)))),
            Err(_) => *malformed += 1,
        });
        self.stacks.tell_of_programs();
        let mut batch = std::mem::take(&mut self.batch);
        self.apply(&mut batch);
        self.batch = batch;
        taken
    }

    fn feed(&mut self, mut events: Vec<Event>) {
        self.apply(&mut events);
    }

    /// The one way of all events: to the trace file, and into the fold.
    fn apply(&mut self, events: &mut Vec<Event>) {
        if let Some(sink) = &mut self.sink {
            sink.write(events, &self.fold);
        }
        self.resync.note_releases(events);
        self.preexisting.note_releases(events);
        self.fold.apply_all(events);
    }

    fn flush(&mut self) -> Written {
        self.sink.as_mut().map_or_else(Written::default, |sink| sink.flush())
    }

    fn finish(&mut self) -> Written {
        self.sink.take().map_or_else(Written::default, |mut sink| sink.finish())
    }

    fn check_losses(&mut self) {
        let now = Instant::now();
        if now < self.next_check {
            return;
        }
        self.next_check = now + LOSS_CHECK;
        // A map that cannot be read now is read the next time.
        if let Ok(counters) = self.tracer.counters() {
            self.counters = counters;
        }
        let lost = self.resync.events_lost_since(self.counters.get(Counter::LostEvents));
        if lost > 0 {
            self.feed(vec![Event::Gap { time: monotonic_ns(), events: lost }]);
            self.resync();
        }
        self.find_phantoms();
        self.compare_descriptors(now);
    }

    fn find_phantoms(&mut self) {
        let gone = self.resync.find_phantoms(self.tracer.skipped(), &mut self.tracer, &self.fold);
        self.feed(gone);
    }

    /// Which acquired descriptors were closed.
    fn compare_descriptors(&mut self, now: Instant) {
        if now < self.next_comparison || self.acquisitions.is_empty() {
            return;
        }
        self.next_comparison = now + COMPARISON;
        let closed = self.acquisitions.closed(monotonic_ns());
        self.feed(closed);
    }

    /// Makes the fold equal to the kernel's table: what came and went unseen is resynced.
    fn resync(&mut self) {
        // An allocation that waits in the ring while its release has been lost would come in behind the comparison.
        self.drain();
        let young_after = self.sweep.as_ref().map_or(u64::MAX, Sweep::young_after);
        let Ok(truth) = self.tracer.handles() else { return };
        let difference = self.resync.compare(&truth, &self.fold, young_after);
        self.resync.begin();
        self.drain();
        let found = self.resync.finish(difference);
        self.feed(found);
        let acquired = self.acquisitions.resync(monotonic_ns());
        self.feed(acquired);
    }
}

/// The live handles, without descriptors.
fn handles(fold: &Fold) -> impl Iterator<Item = (u64, Handle)> {
    fold.table().iter().filter(|(address, _)| !descriptor::is_key(*address))
}
