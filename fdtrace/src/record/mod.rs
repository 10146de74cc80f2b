//! Keeps a stream as a trace file: by size, in parts, readable to the last second whatever happens. A file that can be
//! written no further, because the disk is full, ends there, and what is traced goes on.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    collect::{Sink, Written},
    files::TraceFile,
    handles::Fold,
    stream::Event,
    trace::{Header, Progress, Writer},
};

/// What a recording may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub max_size: Option<u64>,
    /// How many files of that size; 0 when the recording ends with the first.
    pub parts: u32,
}

/// A trace file that is being written.
pub struct Recording {
    writer: Option<Writer<File>>,
    header: Header,
    place: TraceFile,
    limits: Limits,
    written: Written,
    /// When all that was taken was last made readable.
    flushed: Instant,
}

/// How much of a recording a power cut may take.
const FLUSH: Duration = Duration::from_secs(1);

impl Recording {
    /// Begins a trace file.
    ///
    /// # Errors
    /// When there is a file already and `force` is not set, or it cannot be created or written.
    pub fn create(path: &Path, force: bool, header: Header, limits: Limits) -> io::Result<Self> {
        let place = TraceFile::at(path)?;
        if let Some(part) = place.older_part(limits.parts)?.filter(|_| !force) {
            let there = format!("{}.{part} is there already", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, there));
        }
        let mut writer = Writer::new(place.create(force)?, &header)?;
        writer.set_max_size(limits.max_size);
        writer.flush()?;
        Ok(Self {
            writer: Some(writer),
            header,
            place,
            limits,
            written: Written::default(),
            flushed: Instant::now(),
        })
    }

    fn writer(&mut self) -> io::Result<&mut Writer<File>> {
        self.writer.as_mut().ok_or_else(|| io::Error::other("the trace has ended"))
    }

    fn take(&mut self, events: &[Event], fold: &Fold) -> io::Result<()> {
        if self.writer()?.write(events)? == Progress::All {
            // Nobody else need keep the time.
            return if self.flushed.elapsed() < FLUSH { Ok(()) } else { self.make_readable() };
        }
        if self.limits.parts < 2 {
            self.written.full = true;
            return Ok(());
        }
        self.rotate(fold)?;
        // Some of them are in the part before as well; each part is read by itself.
        self.write_or_fail(events)
    }

    fn make_readable(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        let writer = self.writer()?;
        writer.flush()?;
        self.written.bytes = writer.written();
        Ok(())
    }

    /// Begins the next part with all that is known.
    fn rotate(&mut self, fold: &Fold) -> io::Result<()> {
        let file = self.place.rotate(self.limits.parts)?;
        let header = self.header.clone();
        self.writer()?.restart(file, &header)?;
        self.write_or_fail(&fold.checkpoint())
    }

    fn write_or_fail(&mut self, events: &[Event]) -> io::Result<()> {
        match self.writer()?.write(events)? {
            Progress::All => Ok(()),
            Progress::Full { .. } => {
                Err(io::Error::other("what is alive does not fit into a file of --max-size"))
            }
        }
    }

    /// After an error the file ends where it is whole, and nothing more is written.
    fn unless_failed(&mut self, result: io::Result<()>) {
        let Err(error) = result else { return };
        self.written.failure = Some(error.to_string());
        if let Some(writer) = self.writer.take() {
            self.written.bytes = writer.written();
            // Without an end it is read as one that is cut off there.
            drop(writer.cut());
        }
    }
}

impl Sink for Recording {
    fn write(&mut self, events: &[Event], fold: &Fold) {
        if self.writer.is_some() && !self.written.full {
            let taken = self.take(events, fold);
            self.unless_failed(taken);
        }
    }

    fn flush(&mut self) -> Written {
        if self.writer.is_some() {
            let readable = self.make_readable();
            self.unless_failed(readable);
        }
        self.written.clone()
    }

    fn finish(&mut self) -> Written {
        self.flush();
        if let Some(writer) = self.writer.take() {
            let ended = writer.finish().map(drop);
            self.unless_failed(ended);
        }
        self.written.clone()
    }
}
