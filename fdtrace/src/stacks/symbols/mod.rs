//! The names of code: functions, source lines, and what was inlined.
//!
//! The libraries read files that anybody may have written. Whatever they make of them, a frame that cannot be named with
//! certainty stays its module, its build-id and its offset.

mod debug_file;
mod demangle;
mod elf;
mod file;
mod files;
mod guard;
mod memory;
mod module;
mod perf_map;
mod process;
mod worker;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

pub use self::module::{FileId, Module, Reach};
pub(super) use self::module::{hexadecimal, open_regular};
use self::{file::Name, module::Identity, worker::Worker};
use crate::stream::UserFrame;

/// What one address stands for: the innermost inlined function first, the function that has the code last.
pub type Frames = Arc<[Arc<UserFrame>]>;

/// The most addresses whose frames are remembered; then the memory is emptied and filled again.
const MOST_FRAMES: usize = 10_000;

/// Names code, and remembers what it named. The files are read by a thread of its own.
#[derive(Default)]
pub struct CodeNames {
    frames: HashMap<(Module, u64), Frames>,
    worker: Worker,
    /// Files that the thread did not come back from.
    hopeless: HashSet<Identity>,
}

impl CodeNames {
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
        let names = self.names(module, &unknown);
        let new: HashMap<u64, Frames> = unknown
            .into_iter()
            .zip(names)
            .map(|(offset, name)| (offset, self.remember(module, offset, name)))
            .collect();
        let frames = |offset: &u64| new.get(offset).cloned().or_else(|| self.known(module, *offset));
        offsets.iter().map(|offset| frames(offset).unwrap_or_else(|| nameless(module, *offset))).collect()
    }

    /// The frames of addresses of a process that lie in no file: in the vDSO, or in code that was made at run time, which
    /// perf maps name. They are not remembered: such code is replaced. Each call reads the perf map: ask for all at once.
    pub fn without_file(&mut self, pid: u32, addresses: &[u64]) -> Vec<Arc<UserFrame>> {
        let wanted = addresses.to_vec();
        let frames = self.worker.ask(move |_| process::frames(pid, &wanted));
        frames.unwrap_or_else(|| addresses.iter().map(|address| Arc::new(process::at(*address))).collect())
    }

    /// The frame of an offset in the vDSO.
    pub(super) fn vdso(&mut self, offset: u64) -> Arc<UserFrame> {
        let nameless = || UserFrame { module: Some("[vdso]".to_owned()), offset, ..UserFrame::default() };
        let address = crate::process::vdso(std::process::id()).map(|range| range.start + offset);
        let mut frames = address.map(|address| process::frames(std::process::id(), &[address]));
        frames.as_mut().and_then(Vec::pop).unwrap_or_else(|| Arc::new(nameless()))
    }

    fn known(&self, module: &Module, offset: u64) -> Option<Frames> {
        self.frames.get(&(module.without_reach(), offset)).cloned()
    }

    /// A frame without a name is not remembered: another process may be a way to its file. Nor is one of a file without
    /// a build-id, which can be written anew and be the same inode.
    fn remember(&mut self, module: &Module, offset: u64, names: Vec<Name>) -> Frames {
        if names.is_empty() {
            return nameless(module, offset);
        }
        let frames: Frames = names.into_iter().map(|name| Arc::new(name.frame(module, offset))).collect();
        if module.build_id.is_none() {
            return frames;
        }
        if self.frames.len() >= MOST_FRAMES {
            self.frames.clear();
        }
        self.frames.insert((module.without_reach(), offset), Arc::clone(&frames));
        frames
    }

    fn names(&mut self, module: &Module, offsets: &[u64]) -> Vec<Vec<Name>> {
        let identity = module.identity();
        if offsets.is_empty() || self.hopeless.contains(&identity) {
            return vec![Vec::new(); offsets.len()];
        }
        let (wanted, of) = (offsets.to_vec(), module.clone());
        self.worker.ask(move |files| files.names(&of, &wanted)).unwrap_or_else(|| {
            self.hopeless.insert(identity);
            vec![Vec::new(); offsets.len()]
        })
    }
}

fn nameless(module: &Module, offset: u64) -> Frames {
    Arc::new([Arc::new(module.frame(offset))])
}

#[cfg(test)]
mod tests;
