use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write},
};

use zstd::bulk::Compressor;

use super::{
    block::{FRAME, Frame},
    bytes::put,
    encode::Encoder,
    format::{BLOCK, EPOCH, MAGIC, MAX_HEADER, MAX_RAW, PREAMBLE, VERSION, flag, kind},
    header::Header,
};
use crate::stream::Event;

/// The compressor's effort: more takes longer than it saves, see `cargo xtask bench record`.
const LEVEL: i32 = 1;
/// Bytes that are kept free below the largest size: for the end, and since one event's length is not known beforehand.
const RESERVE: u64 = 16 << 10;
/// A block that has less room than this is not begun.
const LEAST: u64 = 4 << 10;

/// How much of what was given was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All.
    All,
    /// The file would become larger than it may.
    Full {
        /// How many of the events were written; the others were not, and nothing will be until the writer is restarted.
        taken: usize,
    },
}

/// Writes a trace.
///
/// It keeps a block of 256 KB and what live handles, live programs and the last sixteen megabytes need to be named by
/// short numbers. What was not [flushed](Writer::flush) is lost when it is dropped without being
/// [finished](Writer::finish).
pub struct Writer<W> {
    sink: W,
    encoder: Encoder,
    compressor: Compressor<'static>,
    raw: Vec<u8>,
    stored: Vec<u8>,
    limits: Limits,
    max_size: Option<u64>,
    /// Bytes of whole blocks.
    written: u64,
    /// Bytes, before compression, since the tables were empty.
    epoch: usize,
    key: bool,
    /// Events in this file.
    events: u64,
    full: bool,
    broken: bool,
}

/// Sizes at which the writer begins something anew.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) block: usize,
    pub(super) epoch: usize,
}

impl<W: Write> Writer<W> {
    /// Begins a trace in an empty sink.
    ///
    /// # Errors
    /// When the sink does not take the header, or the header is longer than a megabyte.
    pub fn new(sink: W, header: &Header) -> io::Result<Self> {
        Self::with_limits(sink, header, Limits { block: BLOCK, epoch: EPOCH })
    }

    pub(super) fn with_limits(sink: W, header: &Header, limits: Limits) -> io::Result<Self> {
        let mut writer = Self {
            sink,
            encoder: Encoder::default(),
            compressor: Compressor::new(LEVEL)?,
            raw: Vec::new(),
            stored: Vec::new(),
            limits,
            max_size: None,
            written: 0,
            epoch: 0,
            key: true,
            events: 0,
            full: false,
            broken: false,
        };
        writer.begin(header)?;
        Ok(writer)
    }

    /// Sets the size in bytes that a file shall not exceed; below 64 KB nothing fits.
    pub const fn set_max_size(&mut self, max_size: Option<u64>) {
        self.max_size = max_size;
    }

    /// Bytes of the file that are whole: on an error, what is behind them is of no use.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Writes events. They may wait for more of them; [`Self::flush`] says that they shall not.
    ///
    /// # Errors
    /// When the sink does not take a block. The file is whole up to [`Self::written`], later calls fail as well.
    pub fn write(&mut self, events: &[Event]) -> io::Result<Progress> {
        for (taken, event) in events.iter().enumerate() {
            if self.is_full()? {
                return Ok(Progress::Full { taken });
            }
            self.encoder.event(event);
            if self.encoder.pending() >= self.limits.block || self.encoder.is_full() {
                self.end_block()?;
            }
        }
        Ok(Progress::All)
    }

    /// Ends the block, so that everything so far can be read, and flushes the sink.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.end_block()?;
        self.sink.flush()
    }

    /// Ends the file and begins another one, which can be read by itself: the caller tells again what lives
    /// ([`Event::FoundLive`]) and the facts about it. Gives back the old sink.
    ///
    /// # Errors
    /// As [`Self::write`], for either of the files.
    pub fn restart(&mut self, sink: W, header: &Header) -> io::Result<W> {
        self.end_file()?;
        let old = std::mem::replace(&mut self.sink, sink);
        self.written = 0;
        self.events = 0;
        self.full = false;
        self.begin(header)?;
        Ok(old)
    }

    /// Ends the file. Gives back the sink.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(mut self) -> io::Result<W> {
        self.end_file()?;
        Ok(self.sink)
    }

    fn begin(&mut self, header: &Header) -> io::Result<()> {
        self.begin_epoch();
        let json = serde_json::to_vec(header)?;
        if json.len() > MAX_HEADER as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the header is too long"));
        }
        let mut preamble = [0; PREAMBLE];
        preamble[..MAGIC.len()].copy_from_slice(&MAGIC);
        preamble[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
        self.raw = json;
        self.stored.clear();
        self.stored.extend_from_slice(&preamble);
        self.write_block(kind::HEADER, 0, 0)
    }

    fn begin_epoch(&mut self) {
        self.encoder.begin_epoch();
        self.epoch = 0;
        self.key = true;
    }

    /// Whether there is no room for another event. A block is ended when it might not fit if it cannot be compressed.
    fn is_full(&mut self) -> io::Result<bool> {
        let Some(max) = self.max_size else { return Ok(false) };
        if !self.full && self.written + self.encoder.pending() as u64 + FRAME as u64 + RESERVE > max {
            self.end_block()?;
            self.full = self.written + RESERVE + LEAST > max;
        }
        Ok(self.full)
    }

    fn end_file(&mut self) -> io::Result<()> {
        self.end_block()?;
        self.write_end()
    }

    fn write_end(&mut self) -> io::Result<()> {
        self.raw.clear();
        put(&mut self.raw, self.events);
        self.stored.clear();
        self.write_block(kind::END, 0, 0)?;
        self.sink.flush()
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.encoder.pending() == 0 {
            return if self.broken { Err(broken()) } else { Ok(()) };
        }
        let events = self.encoder.take(&mut self.raw);
        self.stored.clear();
        let flags = if std::mem::take(&mut self.key) { flag::KEY } else { 0 };
        self.write_block(kind::EVENTS, flags, events)?;
        self.events += u64::from(events);
        self.epoch += self.raw.len();
        if self.epoch >= self.limits.epoch || self.encoder.is_full() {
            self.begin_epoch();
        }
        Ok(())
    }

    /// Writes `raw` as a block, and before it what is in `stored`, all at once.
    fn write_block(&mut self, kind: u8, mut flags: u8, events: u32) -> io::Result<()> {
        if self.broken {
            return Err(broken());
        }
        // Until the block is whole.
        self.broken = true;
        let raw = length(&self.raw)?;
        let compressed = self.compressor.compress(&self.raw)?;
        let body = if compressed.len() < self.raw.len() {
            &compressed
        } else {
            flags |= flag::STORED;
            &self.raw
        };
        let frame =
            Frame { kind, flags, stored: length(body)?, raw, events, checksum: crc32fast::hash(body) };
        self.stored.extend_from_slice(&frame.to_bytes());
        self.stored.extend_from_slice(body);
        self.sink.write_all(&self.stored)?;
        self.written += self.stored.len() as u64;
        self.broken = false;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, (usize, usize, usize)) {
        self.encoder.remembered()
    }
}

impl Writer<File> {
    /// After an error: ends the file behind its last whole block. Events that are not in one are lost.
    ///
    /// # Errors
    /// When there is no room for the end either; the file is then one that is cut off behind that block.
    pub fn cut(mut self) -> io::Result<()> {
        self.cut_tail()?;
        self.broken = false;
        self.write_end().or_else(|error| self.cut_tail().and(Err(error)))
    }

    fn cut_tail(&mut self) -> io::Result<()> {
        self.sink.set_len(self.written)?;
        self.sink.seek(SeekFrom::Start(self.written)).map(drop)
    }
}

fn broken() -> io::Error {
    io::Error::other("the trace could not be written further")
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length <= MAX_RAW)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a block is too long"))
}
