//! Takes a census.

use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use super::{
    Census, Counted, backing,
    child::{self, Ending, Stage},
    decode::Decoder,
    directories, ends, linked,
    memory::half,
    namespaces, pidfds, queues, rings,
    samples::{Range, Samples},
    segments, stand_in, trees, unseen, users,
};
use crate::{
    kernel::{CensusPrograms, Error, FileNr, HandleCounter, system},
    process::around,
};

/// Takes a census of the whole system: by the kernel's iterators, or from `/proc` where they cannot be had.
///
/// To be called while this process has one thread.
///
/// # Errors
/// When there is nothing to read at all.
pub fn take(deadline: Duration) -> io::Result<Census> {
    let (begun, uptime) = (Instant::now(), around::uptime_ns());
    let mut census = match CensusPrograms::load() {
        Ok(programs) => settled(&programs, deadline)?,
        Err(error) => by_proc(&error)?,
    };
    // What the walk did not come to is not out of its sight.
    if !census.unfinished.contains(&"descriptors") {
        unseen::find(&mut census, uptime);
    }
    census.took = begun.elapsed();
    Ok(census)
}

/// How many references each of these handles has now; one that is gone is left out.
///
/// # Errors
/// When the kernel's memory cannot be read.
pub fn references(handles: &[u64]) -> Result<Vec<(u64, u64)>, Error> {
    CensusPrograms::load()?.references(handles).map_err(system("references cannot be counted"))
}

fn by_proc(error: &Error) -> io::Result<Census> {
    let mut census = stand_in::read();
    census.partial.insert(
        0,
        format!(
            "/proc stands in for the kernel's iterators, so a handle that two descriptors share counts twice, and what \
             is in flight or held by io_uring is not seen ({error})"
        ),
    );
    let counter = HandleCounter::new(None)?;
    let now = counter.file_nr()?;
    census.counted = Some(counted(now, &counter));
    Ok(census)
}

fn counted(now: u64, counter: &HandleCounter) -> Counted {
    Counted { last: now, min: now, max: now, exactness: counter.exactness, limit: limit() }
}

/// A walk that takes longer is not repeated.
const LONG: Duration = Duration::from_millis(500);

/// One walk; where handles come and go meanwhile a second one, and what both saw.
fn settled(programs: &CensusPrograms, deadline: Duration) -> io::Result<Census> {
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
    programs: &CensusPrograms,
    counter: &HandleCounter,
    deadline: Duration,
) -> io::Result<Census> {
    let mut taker = Taker {
        census: Census::default(),
        decoder: Decoder::new(),
        stage: None,
        no_mappings: None,
        no_segments: Vec::new(),
    };
    let (ending, child) =
        child::run(programs, counter, deadline, |stage, bytes| taker.take(stage, bytes, counter))?;
    taker.ended(ending, deadline);
    // The walk that would have said it was not done.
    if taker.census.counted.is_none()
        && let Ok(now) = counter.sample(programs)
    {
        taker.census.counted = Some(counted(now, counter));
    }
    let Taker { mut census, no_mappings, .. } = taker;
    let mut samples = Samples::new(programs, counter);
    let followed = follow(&mut census, programs, no_mappings, &mut samples);
    if ending == Ending::Whole {
        census.note(&samples);
        samples.wait_for_others(!census.has_moved());
        census.note(&samples);
    }
    drop(child);
    if let Err(error) = followed {
        census
            .partial
            .push(format!("files in flight, of io_uring and of segments are not all found: {error}"));
        segments::without_memory(&mut census);
    }
    Ok(census)
}

fn limit() -> u64 {
    FileNr::read().map_or(0, |found| found.limit)
}

/// The walks, in their order.
const WALKS: [&str; 4] = ["processes", "descriptors", "shared memory segments", "mappings"];

struct Taker {
    census: Census,
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
                self.decoder.take(bytes, &mut self.census);
            }
            Stage::Segments => {
                let text = bytes.get(4..).unwrap_or_default();
                self.census.segments.extend(segments::parse(half(bytes, 0), text));
            }
            Stage::Counted => {
                if let Some(range) = Range::parse(bytes) {
                    self.census.counted = Some(range.counted(counter.exactness, limit()));
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
                self.census.partial.push(format!("descriptors are not listed: {reason}"));
            }
            _ => self.census.partial.push(format!("processes are not listed: {reason}")),
        }
    }

    fn ended(&mut self, ending: Ending, deadline: Duration) {
        self.decoder.begin();
        // A machine may have a thousand containers.
        if let [first, others @ ..] = self.no_segments.as_slice() {
            let more =
                if others.is_empty() { String::new() } else { format!(", nor of {} others", others.len()) };
            self.census.partial.push(format!("shared memory segments are not listed {first}{more}"));
        }
        let (what, stage) = match ending {
            Ending::Whole => {
                if self.decoder.malformed > 0 {
                    let bytes = self.decoder.malformed;
                    self.census
                        .partial
                        .push(format!("{bytes} bytes of the kernel's answer were not understood"));
                }
                return;
            }
            Ending::Deadline(stage) => (format!("was not done after {deadline:?} (--deadline)"), stage),
            Ending::Died(stage) => ("ended before its time".to_owned(), stage),
        };
        let (done, last) = match stage {
            Stage::Mappings => (3, self.census.spaces.last().map(|owner| owner.tgid)),
            Stage::Segments => (2, None),
            Stage::Descriptors | Stage::Counted => (1, self.census.tables.last().map(|owner| owner.tgid)),
            _ => (0, self.census.tasks.last().map(|task| task.tgid)),
        };
        let walk = WALKS[done];
        self.census.unfinished = WALKS[done..].to_vec();
        let after = last.map(|tgid| format!("; it stood behind process {tgid}")).unwrap_or_default();
        self.census.partial.push(format!("the walk over {walk} {what}{after}"));
    }
}

/// What is to be found by following pointers.
fn follow(
    census: &mut Census,
    programs: &CensusPrograms,
    no_mappings: Option<String>,
    samples: &mut Samples<'_>,
) -> io::Result<()> {
    let mut memory = programs;
    samples.take(0);
    let chase = &programs.chase;
    if let Some(reason) = no_mappings {
        match &chase.tree {
            Some(layout) => trees::find(census, &mut memory, layout)?,
            None => census.partial.push(format!("mappings are not listed: {reason}")),
        }
    }
    if let Some(offset) = chase.ring_descriptors {
        rings::descriptors(census, &mut memory, offset)?;
    }
    if chase.queue.is_none() {
        census
            .partial
            .push("files in flight are not looked up: this kernel's sockets are unknown".to_owned());
    }
    let (mut sockets, mut rings) = (HashSet::new(), HashSet::new());
    loop {
        // A ring may hold a socket, and a ring may be in flight.
        let before = census.handles.len();
        rings::find(census, &mut memory, chase.ring, &mut rings)?;
        samples.take(0);
        if let Some(layout) = &chase.queue {
            queues::find(census, &mut memory, layout, &mut sockets)?;
            samples.take(0);
        }
        if let Some(layout) = chase.socket {
            linked::peers(census, &mut memory, layout)?;
        }
        if census.handles.len() == before {
            break;
        }
    }
    ends::find(census, &mut memory, chase.peer)?;
    if let Some(layout) = &chase.bpf {
        linked::bpf(census, &mut memory, layout)?;
    }
    users::find(census, &mut memory, &chase.user)?;
    backing::find(census, &mut memory)?;
    if let Some(layout) = chase.pid.filter(|_| !around::is_inside_pid_namespace()) {
        pidfds::name(census, &mut memory, layout)?;
    }
    if let Some(layout) = &chase.path {
        directories::find(census, &mut memory, layout)?;
    }
    if let Some(layout) = chase.requests {
        rings::requests(census, &mut memory, layout)?;
    }
    if let Some(layout) = &chase.namespace {
        namespaces::find(census, &mut memory, layout)?;
    }
    segments::find(census, &mut memory, chase.segment)
}
