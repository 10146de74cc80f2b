//! Reads a trace file back into the views that it would have given live.

use std::{
    io::Read,
    time::{Duration, SystemTime},
};

use crate::{
    handles::{Fold, Snapshot},
    stream::Event,
    trace::{End, Error, Header, Reader},
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
    looked: bool,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more.
    More,
    /// Somebody looked at this moment, when the trace was recorded.
    Look,
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
            survivors_ns: header.min_age_ns,
        };
        Ok(Self {
            view: View::new(session, selection),
            now: header.start_ns,
            reader,
            fold: Fold::default(),
            batch: Vec::new(),
            until,
            looked: false,
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

    /// The view, with its history up to here.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// All that is known at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.fold, self.now, self.view.selection().min_age_ns)
    }

    /// Reads some more, at most to the next look.
    ///
    /// # Errors
    /// When the file cannot be read. Wrong bytes are no error: see [`Self::end`].
    pub fn step(&mut self) -> std::io::Result<Step> {
        if self.batch.is_empty() && !self.reader.read_batch(&mut self.batch)? {
            self.finish();
            return Ok(Step::Done);
        }
        let late = self.batch.iter().position(|event| event.time().is_some_and(|time| time > self.until));
        if let Some(late) = late {
            self.batch.truncate(late);
        }
        let look = self.batch.iter().position(|event| matches!(event, Event::Look(_)));
        let rest = look.map(|look| self.batch.split_off(look + 1));
        if let Some(time) = self.batch.iter().rev().find_map(Event::time) {
            self.now = self.now.max(time);
        }
        self.looked &= self.batch.iter().all(|event| matches!(event, Event::Fact(_)));
        self.fold.apply_all(&mut self.batch);
        if let Some(rest) = rest {
            self.batch = rest;
            self.looked = true;
            self.view.look(&Snapshot::brief(&self.fold, self.now));
            return Ok(Step::Look);
        }
        if late.is_some() {
            self.finish();
            return Ok(Step::Done);
        }
        Ok(Step::More)
    }

    /// A trace that was cut off, or is not wanted whole, ends between two looks.
    fn finish(&mut self) {
        if !self.looked {
            self.view.look(&Snapshot::brief(&self.fold, self.now));
            self.looked = true;
        }
    }
}
