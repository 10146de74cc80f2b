//! The names of code: functions, source lines, and what was inlined.
//!
//! The libraries read files that anybody may have written. Whatever they make of them, a frame that cannot be named with
//! certainty stays its module, its build-id and its offset.

mod file;
mod module;
mod process;

use std::{collections::HashMap, panic, sync::Arc};

pub(super) use self::module::hexadecimal;
pub use self::module::{FileId, Module, Reach};
use self::{
    file::{CodeFile, Name},
    module::Identity,
};
use crate::stream::UserFrame;

/// What one address stands for: the innermost inlined function first, the function that has the code last.
pub type Frames = Arc<[Arc<UserFrame>]>;

/// The most addresses whose frames are remembered; then the memory is emptied and filled again.
const MOST_FRAMES: usize = 10_000;

/// The most files that are kept open, with their symbols in memory, at once: a tracer of open files should hold few.
const MOST_FILES: usize = 32;

/// Names code, and remembers what it named.
#[derive(Default)]
pub struct CodeNames {
    frames: HashMap<(Module, u64), Frames>,
    files: HashMap<Identity, Kept>,
    /// Counts requests, so that the file that nobody asked for the longest can be told.
    clock: u64,
}

struct Kept {
    file: CodeFile,
    used: u64,
}

impl CodeNames {
    /// The frames of an offset in a module's file; of a return address the caller gives the byte before, which is of the
    /// call.
    pub fn frames(&mut self, module: &Module, offset: u64) -> Frames {
        self.known(module, offset).unwrap_or_else(|| {
            let name = self.names(module, &[offset]).pop();
            self.remember(module, offset, name.unwrap_or_default())
        })
    }

    /// The frames of many offsets in one module's file, in their order; the file is looked for only once.
    pub fn frames_of_all(&mut self, module: &Module, offsets: &[u64]) -> Vec<Frames> {
        let unknown: Vec<u64> =
            offsets.iter().copied().filter(|offset| self.known(module, *offset).is_none()).collect();
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
    /// perf maps name. They are not remembered: such code is replaced.
    pub fn without_file(&mut self, pid: u32, addresses: &[u64]) -> Vec<Arc<UserFrame>> {
        process::frames(pid, addresses)
    }

    /// The frame of an offset in the vDSO.
    pub(super) fn vdso(&mut self, offset: u64) -> Arc<UserFrame> {
        let nameless = || UserFrame { module: Some("[vdso]".to_owned()), offset, ..UserFrame::default() };
        let address = crate::process::vdso().map(|range| range.start + offset);
        let mut frames = address.map(|address| process::frames(std::process::id(), &[address]));
        frames.as_mut().and_then(Vec::pop).unwrap_or_else(|| Arc::new(nameless()))
    }

    fn known(&self, module: &Module, offset: u64) -> Option<Frames> {
        self.frames.get(&(module.without_reach(), offset)).cloned()
    }

    /// A frame without a name is not remembered: another process may be a way to its file.
    fn remember(&mut self, module: &Module, offset: u64, names: Vec<Name>) -> Frames {
        if names.is_empty() {
            return nameless(module, offset);
        }
        let frames: Frames = names.into_iter().map(|name| Arc::new(name.frame(module, offset))).collect();
        if self.frames.len() >= MOST_FRAMES {
            self.frames.clear();
        }
        self.frames.insert((module.without_reach(), offset), Arc::clone(&frames));
        frames
    }

    /// What the module's file says of offsets: nothing, where it cannot be had.
    fn names(&mut self, module: &Module, offsets: &[u64]) -> Vec<Vec<Name>> {
        let nothing = || vec![Vec::new(); offsets.len()];
        if offsets.is_empty() {
            return nothing();
        }
        let identity = module.identity();
        if !self.files.get(&identity).is_some_and(|kept| kept.file.is_unchanged()) {
            self.files.remove(&identity);
            let Some(file) = module.open().map(CodeFile::new) else { return nothing() };
            self.make_room();
            self.files.insert(identity.clone(), Kept { file, used: 0 });
        }
        self.clock += 1;
        let Some(kept) = self.files.get_mut(&identity) else { return nothing() };
        kept.used = self.clock;
        let names = offsets.iter().map(|offset| kept.file.names(*offset)).collect();
        // What was read while somebody wrote may be of neither version.
        if kept.file.is_unchanged() { names } else { nothing() }
    }

    fn make_room(&mut self) {
        while self.files.len() >= MOST_FILES {
            let oldest =
                self.files.iter().min_by_key(|(_, kept)| kept.used).map(|(identity, _)| identity.clone());
            let Some(oldest) = oldest else { return };
            self.files.remove(&oldest);
        }
    }
}

fn nameless(module: &Module, offset: u64) -> Frames {
    Arc::new([Arc::new(module.frame(offset))])
}

/// A library that panics on what it reads has nothing to say of it. `None` then.
fn unless_it_panics<T>(act: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(panic::AssertUnwindSafe(act)).ok()
}

#[cfg(test)]
mod tests;
