//! The collector: one thread that drains the ring into the fold and keeps it true to the kernel's own table.
//!
//! It owns the tracer. Others ask it for a [`Snapshot`] and tell it what handles are; nothing is shared, so nothing is
//! locked on the way from the ring to the table.

mod heal;
mod snapshot;

use std::{
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use fdtrace_common::counters::{Counter, Counters};

pub use snapshot::{GroupSnapshot, KIND_SLOTS, OldHandle, Snapshot, monotonic_ns};

use crate::{
    handles::Fold,
    kernel::{PhantomFinder, Tracer},
    stream::{Event, decode},
};

/// How long the ring may fill before somebody looks; the kernel wakes the collector earlier when half of it is full.
const PATIENCE: Duration = Duration::from_millis(40);

/// How often the counters are read for losses.
const LOSS_CHECK: Duration = Duration::from_millis(100);

/// Events that are decoded before they are applied together.
const BATCH: usize = 128;

/// How often a note about a handle is tried that has not come through the ring.
const MOST_TRIES: u32 = 8;

/// What a handle is, in the numbering of whoever asks.
#[derive(Clone, Copy, Debug)]
pub struct KindNote {
    /// Its address.
    pub handle: u64,
    /// Its generation.
    pub generation: u64,
    /// The kind's number, below [`KIND_SLOTS`].
    pub kind: u8,
}

enum Request {
    /// The age from which handles count as aged, in ns.
    Snapshot(u64, tokio::sync::oneshot::Sender<Snapshot>),
    Kinds(Vec<KindNote>),
    TimePrograms(bool),
    Stop,
}

/// A running collector.
pub struct Collector {
    requests: Sender<Request>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts the thread. On a kernel that preempts itself, skipped runs may have been allocations.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(tracer: Tracer, phantoms: PhantomFinder, kernel_preempts: bool) -> std::io::Result<Self> {
        let (requests, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("fdtrace-drain".to_owned())
            .spawn(move || Worker::new(tracer, phantoms, kernel_preempts).run(&inbox))?;
        Ok(Self { requests, thread: Some(thread) })
    }

    /// All that is known now; `None` when the collector is gone. Handles of at least `min_age_ns` are counted apart.
    pub async fn snapshot(&self, min_age_ns: u64) -> Option<Snapshot> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.requests.send(Request::Snapshot(min_age_ns, reply)).ok()?;
        answer.await.ok()
    }

    /// Tells what handles are.
    pub fn note_kinds(&self, kinds: Vec<KindNote>) {
        // A collector that is gone needs to know nothing.
        let _ = self.requests.send(Request::Kinds(kinds));
    }

    /// Turns the timing of BPF programs on or off.
    pub fn time_programs(&self, on: bool) {
        let _ = self.requests.send(Request::TimePrograms(on));
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.requests.send(Request::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

/// The thread's state.
struct Worker {
    tracer: Tracer,
    fold: Fold,
    healer: heal::Healer,
    counters: Counters,
    batch: Vec<Event>,
    /// Notes for handles that have not come through the ring yet, and how often they were tried.
    early_kinds: Vec<(KindNote, u32)>,
    /// Records that were no events.
    malformed: u64,
    next_check: Instant,
}

impl Worker {
    fn new(tracer: Tracer, phantoms: PhantomFinder, kernel_preempts: bool) -> Self {
        Self {
            healer: heal::Healer::new(phantoms, kernel_preempts),
            tracer,
            fold: Fold::default(),
            counters: Counters::default(),
            batch: Vec::with_capacity(BATCH),
            early_kinds: Vec::new(),
            malformed: 0,
            next_check: Instant::now(),
        }
    }

    fn run(mut self, inbox: &Receiver<Request>) {
        loop {
            self.tracer.wait(PATIENCE);
            self.drain();
            self.check_losses();
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
        match request {
            Request::Snapshot(min_age_ns, reply) => {
                self.next_check = Instant::now();
                self.check_losses();
                self.drain();
                // Whoever asked may have gone.
                let _ = reply.send(self.snapshot(min_age_ns));
            }
            Request::Kinds(kinds) => self.note_kinds(kinds),
            // Without CAP_SYS_ADMIN the cost stays unknown, and is shown as that.
            Request::TimePrograms(on) => drop(self.tracer.time_programs(on)),
            Request::Stop => {}
        }
    }

    /// The kernel's table has a handle before its event is in the ring, and long before if the event is lost: a note
    /// that comes too early is kept for a while.
    fn note_kinds(&mut self, kinds: Vec<KindNote>) {
        self.drain();
        let fold = &mut self.fold;
        let mut early = std::mem::take(&mut self.early_kinds);
        early.extend(kinds.into_iter().map(|note| (note, 0)));
        early.retain_mut(|(note, tries)| {
            *tries += 1;
            *tries <= MOST_TRIES && !fold.set_kind(note.handle, note.generation, note.kind)
        });
        self.early_kinds = early;
    }

    /// Takes all that waits in the ring, but no more than it can hold, so that a storm cannot keep it here for ever.
    fn drain(&mut self) {
        let mut left = self.tracer.ring_bytes() / 24;
        while left > 0 {
            let taken = self.drain_batch();
            if taken < BATCH {
                return;
            }
            left = left.saturating_sub(taken);
        }
    }

    fn drain_batch(&mut self) -> usize {
        let (batch, malformed) = (&mut self.batch, &mut self.malformed);
        let taken = self.tracer.drain(BATCH, |record| match decode(record) {
            Ok(event) => batch.push(event),
            Err(_) => *malformed += 1,
        });
        self.healer.note_releases(&self.batch);
        self.fold.apply_all(&mut self.batch);
        taken
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
        if self.healer.events_were_lost(self.counters.get(Counter::LostEvents)) {
            self.resync();
        }
        let skipped = self.tracer.skipped();
        self.healer.look_for_phantoms(skipped, &mut self.tracer, &mut self.fold);
    }

    /// Makes the fold equal to the kernel's table: what came and went unseen is put right.
    fn resync(&mut self) {
        let Ok(truth) = self.tracer.handles() else { return };
        let missing = self.healer.compare(&truth, &self.fold);
        self.drain();
        self.healer.finish(missing, &mut self.fold);
    }
}
