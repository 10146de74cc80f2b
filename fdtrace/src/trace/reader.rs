use std::io::{self, Read};

use zstd::bulk::Decompressor;

use super::{
    allowance,
    block::{FRAME, Frame, matches},
    bytes::Damage,
    decode::{Columns, Decoder},
    format::{COLUMNS, MAGIC, MAX_HEADER, PREAMBLE, VERSION, column, flag, kind},
    header::Header,
};
use crate::stream::Event;

/// Events of one batch, at most: few enough to stay in the processor's cache.
const BATCH: usize = 512;

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read from.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a trace: byte {at} is not what a trace has there")]
    NotATrace {
        /// The first byte that is wrong.
        at: u64,
    },
    /// It was written by a later version.
    #[error("a trace of format version {version}; this fdtrace reads versions up to {reads}")]
    Newer {
        /// The file's version.
        version: u32,
        /// The newest that this build reads.
        reads: u32,
    },
    /// It ends before the first event could come.
    #[error("the trace is cut off at byte {at}, inside its header")]
    Cut {
        /// Its length.
        at: u64,
    },
    /// Its header is not one.
    #[error("the trace's header, at byte {at}: {why}")]
    Header {
        /// Where the header begins.
        at: u64,
        /// What is wrong.
        why: String,
    },
}

/// How a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As its writer meant it to.
    Complete,
    /// Before that: the writer was stopped, or still writes. Everything whole was delivered.
    Cut {
        /// Where what is not whole begins.
        at: u64,
    },
    /// With wrong bytes in it. What is before them was delivered.
    Damaged {
        /// Where the first block that is wrong begins.
        at: u64,
        /// What is wrong with it.
        why: Damage,
        /// Events that were not delivered, as far as the blocks' frames tell.
        lost: u64,
        /// Whether events behind the damage were delivered; an [`Event::Gap`] comes before them.
        resumed: bool,
    },
}

/// Reads a trace, block by block. It trusts nothing in the file: memory is bounded whatever the bytes are.
pub struct Reader<R> {
    source: R,
    header: Header,
    /// Bytes of whole blocks that were read.
    position: u64,
    stored: Vec<u8>,
    raw: Vec<u8>,
    decompressor: Decompressor<'static>,
    decoder: Decoder,
    /// Bytes that were unpacked.
    unpacked: u64,
    block: Option<Block>,
    damage: Option<(u64, Damage)>,
    /// Events lost to damage, and those of them that no gap tells of yet.
    lost: u64,
    untold: u64,
    /// Tables are wrong until a block begins with empty ones.
    astray: bool,
    resumed: bool,
    end: Option<End>,
}

/// The block that events are taken of.
#[derive(Clone, Copy)]
struct Block {
    at: u64,
    /// How much of its columns is left.
    left: [usize; COLUMNS],
    events: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the source cannot be read, is no trace, is one of a later version, or has no whole header.
    pub fn new(source: R) -> Result<Self, Error> {
        let mut reader = Self {
            source,
            header: Header::default(),
            position: 0,
            stored: Vec::new(),
            raw: Vec::new(),
            decompressor: Decompressor::new()?,
            decoder: Decoder::default(),
            unpacked: 0,
            block: None,
            damage: None,
            lost: 0,
            untold: 0,
            astray: false,
            resumed: false,
            end: None,
        };
        reader.preamble()?;
        reader.read_header()?;
        Ok(reader)
    }

    /// What the trace says about itself.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the source that were read, in whole blocks.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// How the file ended; `None` before [`Self::read_batch`] said that there is no more.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Adds some events to `events`; false when there are no more.
    ///
    /// # Errors
    /// When the source cannot be read. Wrong bytes are no error: see [`End`].
    pub fn read_batch(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        let before = events.len();
        while events.len() == before {
            if self.end.is_some() {
                return Ok(false);
            }
            match self.block.take() {
                Some(block) => self.take_events(block, events),
                None => self.next_block(events)?,
            }
        }
        Ok(true)
    }

    fn preamble(&mut self) -> Result<(), Error> {
        let whole = self.fill(PREAMBLE)?;
        let differs = self.stored.iter().zip(MAGIC).position(|(byte, magic)| *byte != magic);
        if let Some(at) = differs {
            return Err(Error::NotATrace { at: at as u64 });
        }
        let Some((_, version)) = self.stored.split_first_chunk::<{ MAGIC.len() }>().filter(|_| whole) else {
            return Err(Error::Cut { at: self.stored.len() as u64 });
        };
        let version = version.iter().rev().fold(0, |sum, byte| (sum << 8) | u32::from(*byte));
        match version {
            0 => Err(Error::NotATrace { at: MAGIC.len() as u64 }),
            1..=VERSION => Ok(()),
            _ => Err(Error::Newer { version, reads: VERSION }),
        }?;
        self.position = PREAMBLE as u64;
        Ok(())
    }

    fn read_header(&mut self) -> Result<(), Error> {
        let at = self.position;
        let wrong = |why: String| Error::Header { at, why };
        let frame = match self.frame()? {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(Error::Cut { at: at + self.stored.len() as u64 }),
            Err(damage) => return Err(wrong(damage.to_string())),
        };
        if frame.kind != kind::HEADER || frame.raw > MAX_HEADER || frame.stored > MAX_HEADER {
            return Err(wrong("it is no header".to_owned()));
        }
        if !self.fill(frame.stored as usize)? {
            return Err(Error::Cut { at: at + (FRAME + self.stored.len()) as u64 });
        }
        self.unpack(&frame).map_err(|damage| wrong(damage.to_string()))?;
        self.header = serde_json::from_slice(&self.raw).map_err(|error| wrong(error.to_string()))?;
        self.position = at + (FRAME + self.stored.len()) as u64;
        Ok(())
    }

    /// Reads so many bytes, or as many as there are; says whether there were enough. Memory is taken as bytes come.
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        self.stored.clear();
        let read = (&mut self.source).take(length as u64).read_to_end(&mut self.stored)?;
        Ok(read == length)
    }

    /// What stands before a block; `None` when the file ends in it.
    fn frame(&mut self) -> io::Result<Result<Option<Frame>, Damage>> {
        if !self.fill(FRAME)? {
            return Ok(Ok(None));
        }
        let bytes = self.stored.first_chunk::<FRAME>().ok_or(Damage::Short);
        Ok(bytes.and_then(Frame::from_bytes).map(Some))
    }

    fn next_block(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let at = self.position;
        let frame = match self.frame()? {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.finish(End::Cut { at });
                return Ok(());
            }
            Err(damage) => {
                self.damaged(at, damage, 0);
                self.finish(End::Cut { at });
                return Ok(());
            }
        };
        if !self.fill(frame.stored as usize)? {
            self.finish(End::Cut { at });
            return Ok(());
        }
        self.position += (FRAME + self.stored.len()) as u64;
        match frame.kind {
            kind::EVENTS => self.enter(at, &frame, events),
            kind::END => self.end_block(at, &frame)?,
            // A later version's.
            _ => {}
        }
        Ok(())
    }

    /// Makes ready to take events of the block that was read.
    fn enter(&mut self, at: u64, frame: &Frame, events: &mut Vec<Event>) {
        let key = frame.flags & flag::KEY != 0;
        if self.astray && !key {
            self.lose(frame.events.into());
            return;
        }
        if let Err(damage) = self.unpack(frame) {
            self.damaged(at, damage, frame.events.into());
            return;
        }
        if std::mem::take(&mut self.astray) {
            self.resumed = true;
            let lost = std::mem::take(&mut self.untold);
            events.push(Event::Gap { time: self.decoder.time(), events: lost });
        }
        if key {
            self.decoder.begin_epoch();
        }
        self.decoder.begin_block();
        match Columns::split(&self.raw) {
            Ok(columns) => {
                self.block = Some(Block { at, left: columns.left(), events: frame.events.into() });
            }
            Err(damage) => self.damaged(at, damage, frame.events.into()),
        }
    }

    /// Checks and decompresses the block that was read.
    fn unpack(&mut self, frame: &Frame) -> Result<(), Damage> {
        if !matches(&self.stored, frame.checksum) {
            return Err(Damage::Checksum);
        }
        self.unpacked += u64::from(frame.raw);
        if self.unpacked > allowance::unpacked(self.position + u64::from(frame.stored)) {
            return Err(Damage::Unjustified);
        }
        self.raw.clear();
        if frame.flags & flag::STORED != 0 {
            self.raw.extend_from_slice(&self.stored);
        } else {
            self.raw.reserve_exact(frame.raw as usize);
            let decompressed = self.decompressor.decompress_to_buffer(&self.stored, &mut self.raw);
            decompressed.map_err(|_| Damage::Compression)?;
        }
        if self.raw.len() == frame.raw as usize { Ok(()) } else { Err(Damage::Compression) }
    }

    fn take_events(&mut self, mut block: Block, events: &mut Vec<Event>) {
        let before = events.len();
        let Ok(columns) = Columns::split(&self.raw) else { return };
        let mut columns = columns.resume(block.left);
        let result = self.decoder.events(&mut columns, events, BATCH);
        block.events = block.events.saturating_sub((events.len() - before) as u64);
        match result {
            Err(damage) => self.damaged(block.at, damage, block.events),
            Ok(()) if self.weight() > allowance::memory(self.position) => {
                self.damaged(block.at, Damage::Unjustified, block.events);
                self.decoder = Decoder::default();
            }
            Ok(()) => {
                block.left = columns.left();
                self.block = Some(block).filter(|block| block.left[column::TAGS] > 0);
            }
        }
    }

    fn end_block(&mut self, at: u64, frame: &Frame) -> io::Result<()> {
        if let Err(damage) = self.unpack(frame) {
            self.damaged(at, damage, 0);
            return Ok(());
        }
        if self.fill(1)? {
            self.damaged(self.position, Damage::Behind, 0);
        }
        self.finish(End::Complete);
        Ok(())
    }

    /// Bytes of memory that it needs to go on.
    pub(crate) fn weight(&self) -> u64 {
        self.decoder.weight()
    }

    /// Reads no further: what was made of what is read so far is more than it justifies.
    pub(crate) fn refuse(&mut self) {
        let lost = self.block.take().map_or(0, |block| block.events);
        self.damaged(self.position, Damage::Unjustified, lost);
        self.finish(End::Cut { at: self.position });
    }

    /// Notes that a block is wrong; only the first one is reported.
    fn damaged(&mut self, at: u64, why: Damage, lost: u64) {
        self.damage.get_or_insert((at, why));
        self.astray = true;
        self.lose(lost);
    }

    const fn lose(&mut self, events: u64) {
        self.lost = self.lost.saturating_add(events);
        self.untold = self.untold.saturating_add(events);
    }

    fn finish(&mut self, end: End) {
        self.end = Some(match self.damage {
            Some((at, why)) => End::Damaged { at, why, lost: self.lost, resumed: self.resumed },
            None => end,
        });
    }
}
