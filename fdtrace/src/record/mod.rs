//! Keeps a stream as a trace file: by size, in parts, readable to the last second whatever happens.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    collect::{Sink, Written},
    handles::Fold,
    stream::Event,
    trace::{self, Header, Progress, Writer},
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
    path: PathBuf,
    limits: Limits,
    /// The file is full, and what came since is not in it.
    full: bool,
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
        let mut writer = Writer::new(trace::create(path, force)?, &header)?;
        writer.set_max_size(limits.max_size);
        writer.flush()?;
        Ok(Self {
            writer: Some(writer),
            header,
            path: path.to_owned(),
            limits,
            full: false,
            flushed: Instant::now(),
        })
    }

    fn writer(&mut self) -> io::Result<&mut Writer<File>> {
        self.writer.as_mut().ok_or_else(|| io::Error::other("the trace has ended"))
    }

    /// Begins the next part with all that is known.
    fn rotate(&mut self, fold: &Fold) -> io::Result<()> {
        let file = trace::rotate(&self.path, self.limits.parts)?;
        let header = self.header.clone();
        self.writer()?.restart(file, &header)?;
        self.write_or_fail(&fold.restate())
    }

    fn write_or_fail(&mut self, events: &[Event]) -> io::Result<()> {
        match self.writer()?.write(events)? {
            Progress::All => Ok(()),
            Progress::Full { .. } => {
                Err(io::Error::other("what is alive does not fit into a file of --max-size"))
            }
        }
    }
}

impl Sink for Recording {
    fn write(&mut self, events: &[Event], fold: &Fold) -> io::Result<()> {
        if self.full {
            return Ok(());
        }
        if self.writer()?.write(events)? == Progress::All {
            // Nobody else need keep the time.
            return if self.flushed.elapsed() < FLUSH { Ok(()) } else { self.flush().map(drop) };
        }
        if self.limits.parts < 2 {
            self.full = true;
            return Ok(());
        }
        self.rotate(fold)?;
        // Some of them are in the part before as well; each part is read by itself.
        self.write_or_fail(events)
    }

    fn flush(&mut self) -> io::Result<Written> {
        self.flushed = Instant::now();
        let full = self.full;
        let writer = self.writer()?;
        writer.flush()?;
        Ok(Written { bytes: writer.written(), full })
    }

    fn finish(&mut self) -> io::Result<()> {
        match self.writer.take() {
            Some(writer) => writer.finish().map(drop),
            None => Ok(()),
        }
    }
}
