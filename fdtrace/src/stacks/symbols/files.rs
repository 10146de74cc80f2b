//! The files that are open, with their debug files.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    os::unix::fs::MetadataExt as _,
};

use super::{
    debug_file,
    module::{Identity, Module},
};
use crate::stacks::reader::Reader;

/// The most files that are kept open at once: a tracer of open files should hold few.
pub(super) const MAX_FILES: usize = 32;

/// Open files by what code they are.
#[derive(Default)]
pub(super) struct Files {
    open: HashMap<Identity, Kept>,
    /// Counts requests, so that the file that nobody asked for the longest can be reported.
    clock: u64,
}

struct Kept {
    file: CodeFile,
    used: u64,
}

/// A file with code, and the separate file with its debug information.
pub(super) struct CodeFile {
    itself: Opened,
    debug: Option<Opened>,
}

/// An open file, as it was when it was opened.
struct Opened {
    file: File,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    size: u64,
    written: (i64, i64),
}

impl Files {
    /// The module's file, if it is the same as when it was opened.
    pub(super) fn get(&mut self, module: &Module, reader: &mut Reader) -> Option<&CodeFile> {
        let identity = module.identity();
        if !self.open.get(&identity).is_some_and(|kept| kept.file.is_unchanged()) {
            self.open.remove(&identity);
            let file = CodeFile::of(module, reader)?;
            self.make_room();
            self.open.insert(identity.clone(), Kept { file, used: 0 });
        }
        self.clock += 1;
        let kept = self.open.get_mut(&identity)?;
        kept.used = self.clock;
        Some(&kept.file)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn make_room(&mut self) {
        while self.open.len() >= MAX_FILES {
            let oldest =
                self.open.iter().min_by_key(|(_, kept)| kept.used).map(|(identity, _)| identity.clone());
            let Some(oldest) = oldest else { return };
            self.open.remove(&oldest);
        }
    }
}

impl CodeFile {
    /// Opens a module's file, and looks for the one with its debug information.
    fn of(module: &Module, reader: &mut Reader) -> Option<Self> {
        let file = module.open(reader)?;
        let identity = reader.identify(&file, false)?;
        let debug = if identity.has_debug_info { None } else { debug_file::find(module, &identity, reader) };
        Some(Self { itself: Opened::of(file)?, debug: debug.and_then(Opened::of) })
    }

    /// Whether nobody has written to it since it was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        self.itself.is_unchanged() && self.debug.as_ref().is_none_or(Opened::is_unchanged)
    }

    /// The file, and the one with its debug information.
    pub(super) fn files(&self) -> Vec<&File> {
        [Some(&self.itself), self.debug.as_ref()].into_iter().flatten().map(|opened| &opened.file).collect()
    }
}

impl Opened {
    fn of(file: File) -> Option<Self> {
        Some(Self { version: Version::of(&file)?, file })
    }

    fn is_unchanged(&self) -> bool {
        Version::of(&self.file) == Some(self.version)
    }
}

impl Version {
    fn of(file: &File) -> Option<Self> {
        let of = |metadata: Metadata| Self {
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
        };
        file.metadata().ok().map(of)
    }
}
