//! The names of code: functions, source lines, and what was inlined.
//!
//! The files are read by a [`Reader`], in a process that can do nothing else. Whatever it makes of them, a frame that cannot be
//! named with certainty stays its module, its build-id and its offset.

mod debug_file;
mod files;
mod module;
mod perf_map;
mod process;
mod script;

use std::{collections::HashMap, sync::Arc, time::Instant};

pub use self::module::{FileId, Module, Reach};
use self::{files::Files, module::Identity, script::Scripts};
pub(super) use self::{
    module::{open_regular, path_of},
    script::Located,
};
use super::reader::{Name, Reader, Readers};
use crate::{model::UserFrame, runtimes::Unplaced};

/// What one address stands for: the innermost inlined function first, the function that has the code last.
pub type Frames = Arc<[Arc<UserFrame>]>;

/// The most addresses whose frames are remembered; then the memory is emptied and filled again.
const MAX_FRAMES: usize = 10_000;

/// The most modules of which it is remembered that they cannot be read.
const MAX_POOR: usize = 4096;

/// Names code, and remembers what it named.
pub struct CodeNames {
    frames: HashMap<(Module, u64), Frames>,
    files: Files,
    reader: Reader,
    /// Modules of which not all could be read.
    poor: HashMap<Identity, (Readable, Option<Instant>)>,
    scripts: Scripts,
}

/// How much of a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readable {
    Lines,
    /// Its debug information is broken or too large.
    Symbols,
    Nothing,
}

impl CodeNames {
    /// Somebody who has the files read by a reader of its own.
    #[must_use]
    pub fn new(readers: &Readers) -> Self {
        Self {
            frames: HashMap::new(),
            files: Files::default(),
            reader: readers.reader(),
            poor: HashMap::new(),
            scripts: Scripts::default(),
        }
    }

    /// The frames of an offset in a module's file; of a return address the caller gives the byte before, which is of the
    /// call.
    pub fn frames(&mut self, module: &Module, offset: u64) -> Frames {
        self.frames_of_all(module, &[offset]).pop().unwrap_or_else(|| nameless(module, offset))
    }

    /// The frames of many offsets in one module's file, in their order; the file is looked for only once.
    pub fn frames_of_all(&mut self, module: &Module, offsets: &[u64]) -> Vec<Frames> {
        let mut unknown: Vec<u64> =
            offsets.iter().copied().filter(|offset| self.known(module, *offset).is_none()).collect();
        unknown.sort_unstable();
        unknown.dedup();
        let names = if unknown.is_empty() { None } else { self.names(module, &unknown) };
        let named = unknown.into_iter().zip(names.unwrap_or_default());
        let new: HashMap<u64, Frames> =
            named.map(|(offset, name)| (offset, self.remember(module, offset, name))).collect();
        let frames = |offset: &u64| new.get(offset).cloned().or_else(|| self.known(module, *offset));
        offsets.iter().map(|offset| frames(offset).unwrap_or_else(|| nameless(module, *offset))).collect()
    }

    /// The frames of addresses of a process that lie in no file: in the vDSO, or in code that was made at run time, which
    /// perf maps name. They are not remembered: such code is replaced. Each call asks for the map: ask for all at once.
    pub fn without_file(&mut self, pid: u32, addresses: &[u64]) -> Vec<Arc<UserFrame>> {
        process::frames(pid, addresses, &mut self.reader)
    }

    /// Where a call of a script is, by the text of its file as the process sees it.
    pub(super) fn located(&mut self, pid: u32, file: &str, unplaced: &Unplaced) -> Option<Located> {
        self.scripts.located(&mut self.reader, pid, file, unplaced)
    }

    /// The frame of an offset in the vDSO.
    pub(super) fn vdso(offset: u64) -> Arc<UserFrame> {
        Arc::new(process::vdso_frame(offset))
    }

    /// The reader, for whoever identifies files.
    pub(super) const fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// What was read of files is given up, if no code was named for a while; the names are kept.
    pub fn rest(&mut self) {
        self.reader.rest();
    }

    fn known(&self, module: &Module, offset: u64) -> Option<Frames> {
        self.frames.get(&(module.without_reach(), offset)).cloned()
    }

    /// What a file says of an offset, if it is nothing too. It is not remembered of a file without a build-id, which can be
    /// written anew and be the same inode.
    fn remember(&mut self, module: &Module, offset: u64, names: Vec<Name>) -> Frames {
        let frames: Frames = if names.is_empty() {
            nameless(module, offset)
        } else {
            names.into_iter().map(|name| Arc::new(frame(name, module, offset))).collect()
        };
        if module.build_id.is_none() {
            return frames;
        }
        if self.frames.len() >= MAX_FRAMES {
            self.frames.clear();
        }
        self.frames.insert((module.without_reach(), offset), Arc::clone(&frames));
        frames
    }

    fn readable(&self, identity: &Identity) -> Readable {
        readable_now(self.poor.get(identity), Instant::now())
    }

    /// `None` where the file cannot be read: another process may be a way to it.
    fn names(&mut self, module: &Module, offsets: &[u64]) -> Option<Vec<Vec<Name>>> {
        let identity = module.identity();
        let mut readable = self.readable(&identity);
        while readable != Readable::Nothing {
            let file = self.files.get(module, &mut self.reader)?;
            match self.reader.names(&file.files(), offsets, readable == Readable::Lines) {
                // What was read while somebody wrote may be of neither version.
                Ok(names) => return Some(names).filter(|_| file.is_unchanged()),
                Err(why) => {
                    readable = readable.less();
                    self.reader.remark(&module.path, why, readable.what_follows());
                    if self.poor.len() >= MAX_POOR {
                        self.poor.clear();
                    }
                    self.poor.insert(identity.clone(), (readable, why.again()));
                }
            }
        }
        None
    }
}

/// How much is to be read of a module that was too much once, and until when.
fn readable_now(known: Option<&(Readable, Option<Instant>)>, now: Instant) -> Readable {
    match known {
        Some((readable, again)) if again.is_none_or(|again| now < again) => *readable,
        _ => Readable::Lines,
    }
}

impl Readable {
    const fn less(self) -> Self {
        match self {
            Self::Lines => Self::Symbols,
            Self::Symbols | Self::Nothing => Self::Nothing,
        }
    }

    const fn what_follows(self) -> &'static str {
        match self {
            Self::Lines | Self::Symbols => "its frames have no lines",
            Self::Nothing => "its frames have no names",
        }
    }
}

fn frame(name: Name, module: &Module, offset: u64) -> UserFrame {
    let Name { function, file, line, inlined } = name;
    UserFrame { symbol: function, file, line, inlined, ..module.frame(offset) }
}

fn nameless(module: &Module, offset: u64) -> Frames {
    Arc::new([Arc::new(module.frame(offset))])
}

#[cfg(test)]
mod tests;
