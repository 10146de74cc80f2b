//! The files that are open, with what was read of them.

use std::collections::HashMap;

use super::{
    file::{CodeFile, Name},
    memory::{Resident, trim},
    module::{Identity, Module},
};

/// The most files that are kept open, with their symbols in memory, at once: a tracer of open files should hold few.
pub(super) const MOST_FILES: usize = 32;

/// So many addresses are looked up before memory is looked at.
const CHUNK: usize = 8;

/// The most memory that all files together may take; then all are closed.
const MOST_MEMORY: u64 = 192 << 20;

/// The most bytes of files that stay mapped: the kernel has them still, and maps them again where they are needed.
const MOST_PAGES: u64 = 64 << 20;

/// Open files by what code they are.
#[derive(Default)]
pub(super) struct Files {
    open: HashMap<Identity, Kept>,
    /// Memory that was taken since there were none.
    pub(super) grown: u64,
    /// Pages of files that were mapped since they were given back.
    touched: u64,
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
        offsets.chunks(CHUNK).flat_map(|some| self.names_of_some(module, some)).collect()
    }

    fn names_of_some(&mut self, module: &Module, offsets: &[u64]) -> Vec<Vec<Name>> {
        let nothing = || vec![Vec::new(); offsets.len()];
        let before = Resident::now();
        let Some(file) = self.file(module) else { return nothing() };
        let names = offsets.iter().map(|offset| file.names(*offset)).collect();
        let after = Resident::now();
        let touched = after.of_files.saturating_sub(before.of_files);
        // What was read while somebody wrote may be of neither version.
        let names = if file.is_unchanged() { names } else { nothing() };
        self.give_back_pages(touched);
        self.grown += after.anonymous.saturating_sub(before.anonymous);
        if self.grown > MOST_MEMORY {
            self.close_all();
        }
        names
    }

    fn give_back_pages(&mut self, touched: u64) {
        self.touched += touched;
        if self.touched > MOST_PAGES {
            self.open.values().for_each(|kept| kept.file.forget_pages());
            self.touched = 0;
        }
    }

    /// The module's file, if it is the same as when it was opened.
    fn file(&mut self, module: &Module) -> Option<&mut CodeFile> {
        let identity = module.identity();
        if !self.open.get(&identity).is_some_and(|kept| kept.file.is_unchanged()) {
            self.open.remove(&identity);
            let file = CodeFile::of(module)?;
            self.make_room();
            self.open.insert(identity.clone(), Kept { file, used: 0 });
        }
        self.clock += 1;
        let kept = self.open.get_mut(&identity)?;
        kept.used = self.clock;
        Some(&mut kept.file)
    }

    /// What was read has to be read again, in parts, if it is asked for again.
    fn close_all(&mut self) {
        self.open.clear();
        self.grown = 0;
        trim();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn make_room(&mut self) {
        while self.open.len() >= MOST_FILES {
            let oldest =
                self.open.iter().min_by_key(|(_, kept)| kept.used).map(|(identity, _)| identity.clone());
            let Some(oldest) = oldest else { return };
            self.open.remove(&oldest);
        }
    }
}
