//! Takes a walk.

use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use super::{
    Counted, HolderSnapshot, backing,
    child::{self, Ending, Stage},
    decode::Decoder,
    directories, ends, linked,
    memory::half,
    namespaces, pidfds, procfs_fallback, queues, rings,
    samples::{Range, Samples},
    segments, trees, unseen, users,
};
use crate::{
    kernel::{Error, FileNr, HandleCounter, HolderWalk, system},
    process::around,
};

/// Takes a walk of the whole system: by the kernel's iterators, or from `/proc` where they cannot be had.
///
/// To be called while this process has one thread.
///
/// # Errors
/// When there is nothing to read at all.
pub fn take(deadline: Duration) -> io::Result<HolderSnapshot> {
    let (begun, uptime) = (Instant::now(), around::uptime_ns());
    let mut snapshot = match HolderWalk::load() {
        Ok(programs) => settled(&programs, deadline)?,
        Err(error) => by_proc(&error)?,
    };
    // What the walk did not come to is not out of its sight.
    if !snapshot.unfinished.contains(&"descriptors") {
        unseen::find(&mut snapshot, uptime);
    }
    snapshot.took = begun.elapsed();
    Ok(snapshot)
}

/// How many references each of these handles has now; one that is gone is left out.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub fn references(handles: &[u64]) -> Result<Vec<(u64, u64)>, Error> {
    HolderWalk::load()?.references(handles).map_err(system("references cannot be counted"))
}

fn by_proc(error: &Error) -> io::Result<HolderSnapshot> {
    let mut snapshot = procfs_fallback::read();
    snapshot.partial.insert(
        0,
        format!(
            "/proc stands in for the kernel's iterators, so a handle that two descriptors share counts twice, and what \
             is in flight or held by io_uring is not seen ({error})"
        ),
    );
    let counter = HandleCounter::new(None)?;
    let now = counter.file_nr()?;
    snapshot.counted = Some(counted(now, &counter));
    Ok(snapshot)
}

fn counted(now: u64, counter: &HandleCounter) -> Counted {
    Counted { last: now, min: now, max: now, exactness: counter.exactness, limit: limit() }
}

/// A walk that takes longer is not repeated.
const LONG: Duration = Duration::from_millis(500);

/// One walk; where handles come and go meanwhile a second one, and what both saw.
fn settled(programs: &HolderWalk, deadline: Duration) -> io::Result<HolderSnapshot> {
    let counter = HandleCounter::new(Some(programs))?;
    let begun = Instant::now();
    let first = by_iterators(programs, &counter, deadline)?;
    let took = begun.elapsed();
    if !first.has_moved() || !first.unfinished.is_empty() || took > LONG || programs.forget().is_err() {
        return Ok(first);
    }
    let mut second = by_iterators(programs, &counter, deadline.saturating_sub(took))?;
    if !second.unfinished.is_empty() {
        return Ok(first);
    }
    second.compare(&first, std::process::id());
    Ok(second)
}

fn by_iterators(
    programs: &HolderWalk,
    counter: &HandleCounter,
    deadline: Duration,
) -> io::Result<HolderSnapshot> {
    let mut taker = Taker {
        snapshot: HolderSnapshot { partial: programs.remarks.clone(), ..HolderSnapshot::default() },
        decoder: Decoder::new(),
        stage: None,
        no_mappings: None,
        no_segments: Vec::new(),
    };
    let (ending, child) =
        child::run(programs, counter, deadline, |stage, bytes| taker.take(stage, bytes, counter))?;
    taker.ended(ending, deadline);
    // The walk that would have said it was not done.
    if taker.snapshot.counted.is_none()
        && let Ok(now) = counter.sample(programs)
    {
        taker.snapshot.counted = Some(counted(now, counter));
    }
    let Taker { mut snapshot, no_mappings, .. } = taker;
    let mut samples = Samples::new(programs, counter);
    let followed = follow(&mut snapshot, programs, no_mappings, &mut samples);
    if ending == Ending::Whole {
        snapshot.note(&samples);
        samples.wait_for_others(!snapshot.has_moved());
        snapshot.note(&samples);
    }
    drop(child);
    if let Err(error) = followed {
        snapshot
            .partial
            .push(format!("files in flight, of io_uring and of segments are not all found: {error}"));
        segments::without_memory(&mut snapshot);
    }
    Ok(snapshot)
}

fn limit() -> u64 {
    FileNr::read().map_or(0, |found| found.limit)
}

/// The walks, in their order.
const WALKS: [&str; 4] = ["processes", "descriptors", "shared memory segments", "mappings"];

struct Taker {
    snapshot: HolderSnapshot,
    decoder: Decoder,
    stage: Option<Stage>,
    /// Why there is no walk over mappings.
    no_mappings: Option<String>,
    /// The IPC namespaces whose segments could not be read, and why.
    no_segments: Vec<String>,
}

impl Taker {
    fn take(&mut self, stage: Stage, bytes: &[u8], counter: &HandleCounter) {
        match stage {
            Stage::Tasks | Stage::Descriptors | Stage::Mappings => {
                if self.stage != Some(stage) {
                    self.decoder.begin();
                    self.stage = Some(stage);
                }
                self.decoder.take(bytes, &mut self.snapshot);
            }
            Stage::Segments => {
                let text = bytes.get(4..).unwrap_or_default();
                self.snapshot.segments.extend(segments::parse(half(bytes, 0), text));
            }
            Stage::Counted => {
                if let Some(range) = Range::parse(bytes) {
                    self.snapshot.counted = Some(range.counted(counter.exactness, limit()));
                }
            }
            Stage::Missing => self.missing(bytes),
            Stage::End => {}
        }
    }

    fn missing(&mut self, bytes: &[u8]) {
        let reason = String::from_utf8_lossy(bytes.get(1..).unwrap_or_default()).into_owned();
        match bytes.first().copied().map(u32::from) {
            Some(stage) if stage == Stage::Mappings as u32 => self.no_mappings = Some(reason),
            Some(stage) if stage == Stage::Segments as u32 => {
                self.no_segments.push(reason);
            }
            Some(stage) if stage == Stage::Descriptors as u32 => {
                self.snapshot.partial.push(format!("descriptors are not listed: {reason}"));
            }
            _ => self.snapshot.partial.push(format!("processes are not listed: {reason}")),
        }
    }

    fn ended(&mut self, ending: Ending, deadline: Duration) {
        self.decoder.begin();
        // A machine may have a thousand containers.
        if let [first, others @ ..] = self.no_segments.as_slice() {
            let more =
                if others.is_empty() { String::new() } else { format!(", nor of {} others", others.len()) };
            self.snapshot.partial.push(format!("shared memory segments are not listed {first}{more}"));
        }
        let (what, stage) = match ending {
            Ending::Whole => {
                if self.decoder.malformed > 0 {
                    let bytes = self.decoder.malformed;
                    self.snapshot
                        .partial
                        .push(format!("{bytes} bytes of the kernel's answer were not understood"));
                }
                return;
            }
            Ending::Deadline(stage) => (format!("was not done after {deadline:?} (--timeout)"), stage),
            Ending::Died(stage) => ("ended before its time".to_owned(), stage),
        };
        let (done, last) = match stage {
            Stage::Mappings => (3, self.snapshot.spaces.last().map(|owner| owner.tgid)),
            Stage::Segments => (2, None),
            Stage::Descriptors | Stage::Counted => (1, self.snapshot.tables.last().map(|owner| owner.tgid)),
            _ => (0, self.snapshot.tasks.last().map(|task| task.tgid)),
        };
        let walk = WALKS[done];
        self.snapshot.unfinished = WALKS[done..].to_vec();
        let after = last.map(|tgid| format!("; it stood behind process {tgid}")).unwrap_or_default();
        self.snapshot.partial.push(format!("the walk over {walk} {what}{after}"));
    }
}

/// What is to be found by following pointers.
fn follow(
    snapshot: &mut HolderSnapshot,
    programs: &HolderWalk,
    no_mappings: Option<String>,
    samples: &mut Samples<'_>,
) -> io::Result<()> {
    let mut memory = programs;
    samples.take(0);
    let chase = &programs.chase;
    if let Some(reason) = no_mappings {
        match &chase.tree {
            Some(layout) => trees::find(snapshot, &mut memory, layout)?,
            None => snapshot.partial.push(format!("mappings are not listed: {reason}")),
        }
    }
    if let Some(offset) = chase.ring_descriptors {
        rings::descriptors(snapshot, &mut memory, offset)?;
    }
    if chase.queue.is_none() {
        snapshot
            .partial
            .push("files in flight are not looked up: this kernel's sockets are unknown".to_owned());
    }
    let (mut sockets, mut rings) = (HashSet::new(), HashSet::new());
    loop {
        // A ring may hold a socket, and a ring may be in flight.
        let before = snapshot.handles.len();
        rings::find(snapshot, &mut memory, chase.ring, &mut rings)?;
        samples.take(0);
        if let Some(layout) = &chase.queue {
            queues::find(snapshot, &mut memory, layout, &mut sockets)?;
            samples.take(0);
        }
        if let Some(layout) = chase.socket {
            linked::peers(snapshot, &mut memory, layout)?;
        }
        if snapshot.handles.len() == before {
            break;
        }
    }
    ends::find(snapshot, &mut memory, chase.peer)?;
    if let Some(layout) = &chase.bpf {
        linked::bpf(snapshot, &mut memory, layout)?;
    }
    users::find(snapshot, &mut memory, &chase.user)?;
    backing::find(snapshot, &mut memory)?;
    if let Some(layout) = chase.pid.filter(|_| !around::is_inside_pid_namespace()) {
        pidfds::name(snapshot, &mut memory, layout)?;
    }
    if let Some(layout) = &chase.path {
        directories::find(snapshot, &mut memory, layout)?;
    }
    if let Some(layout) = chase.requests {
        rings::requests(snapshot, &mut memory, layout)?;
    }
    if let Some(layout) = &chase.namespace {
        namespaces::find(snapshot, &mut memory, layout)?;
    }
    segments::find(snapshot, &mut memory, chase.segment)
}
