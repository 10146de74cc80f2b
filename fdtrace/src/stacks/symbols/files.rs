//! The files that are open, with what was read of them.

use std::collections::HashMap;

use super::{
    file::{CodeFile, Name},
    module::{Identity, Module},
};

/// The most files that are kept open, with their symbols in memory, at once: a tracer of open files should hold few.
pub(super) const MOST_FILES: usize = 32;

/// The most bytes of unpacked sections of all of them.
const MOST_UNPACKED: u64 = 256 << 20;

/// Open files by what code they are.
#[derive(Default)]
pub(super) struct Files {
    open: HashMap<Identity, Kept>,
    /// Counts requests, so that the file that nobody asked for the longest can be told.
    clock: u64,
}

struct Kept {
    file: CodeFile,
    used: u64,
}

impl Files {
    /// What the module's file says of offsets: nothing, where it cannot be had.
    pub(super) fn names(&mut self, module: &Module, offsets: &[u64]) -> Vec<Vec<Name>> {
        let nothing = || vec![Vec::new(); offsets.len()];
        let identity = module.identity();
        if !self.open.get(&identity).is_some_and(|kept| kept.file.is_unchanged()) {
            self.open.remove(&identity);
            let Some(file) = CodeFile::of(module) else { return nothing() };
            self.make_room(file.weight());
            self.open.insert(identity.clone(), Kept { file, used: 0 });
        }
        self.clock += 1;
        let Some(kept) = self.open.get_mut(&identity) else { return nothing() };
        kept.used = self.clock;
        let names = offsets.iter().map(|offset| kept.file.names(*offset)).collect();
        // What was read while somebody wrote may be of neither version.
        if kept.file.is_unchanged() { names } else { nothing() }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn make_room(&mut self, weight: u64) {
        let kept = |files: &Self| files.open.values().map(|kept| kept.file.weight()).sum::<u64>();
        while self.open.len() >= MOST_FILES || (kept(self) + weight > MOST_UNPACKED && !self.open.is_empty())
        {
            let oldest =
                self.open.iter().min_by_key(|(_, kept)| kept.used).map(|(identity, _)| identity.clone());
            let Some(oldest) = oldest else { return };
            self.open.remove(&oldest);
        }
    }
}
