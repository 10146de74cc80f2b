//! One file with code: what its symbols and its debug information say.

use std::{
    fs::{File, Metadata},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer, source};

use super::{
    module::{Module, path_of},
    unless_it_panics,
};
use crate::stream::UserFrame;

/// An open file, with what was read of it so far.
///
/// Each has a symbolizer of its own, which keeps all that it has opened and read until it is dropped.
pub(super) struct CodeFile {
    symbolizer: Symbolizer,
    file: File,
    path: PathBuf,
    opened: Option<Version>,
    readable: Readable,
}

/// How much of a file can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readable {
    DebugInfo,
    /// Its debug information is broken.
    Symbols,
    /// It is no ELF file, or a broken one.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    size: u64,
    written: (i64, i64),
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

/// What is known of one frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Name {
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    inlined: bool,
}

impl Name {
    pub(super) fn frame(self, module: &Module, offset: u64) -> UserFrame {
        let Self { function, file, line, inlined } = self;
        UserFrame { symbol: function, file, line, inlined, ..module.frame(offset) }
    }

    fn new(function: &str, code: Option<&CodeInfo<'_>>, inlined: bool) -> Self {
        Self {
            function: Some(function).filter(|name| !name.is_empty()).map(str::to_owned),
            file: code.map(|code| code.to_path().to_string_lossy().into_owned()),
            line: code.and_then(|code| code.line),
            inlined,
        }
    }
}

impl CodeFile {
    pub(super) fn new(file: File) -> Self {
        // Without reloading, the symbolizer holds on to what it has opened at first: this very file.
        let symbolizer = Symbolizer::builder().enable_auto_reload(false).build();
        let (path, opened) = (path_of(&file), Version::of(&file));
        let mut this = Self { symbolizer, file, path, opened, readable: Readable::DebugInfo };
        let tries = [Readable::DebugInfo, Readable::Symbols];
        this.readable = tries.into_iter().find(|what| this.can_read(*what)).unwrap_or(Readable::Nothing);
        this
    }

    /// Whether nobody has written to it since it was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        self.opened.is_some() && Version::of(&self.file) == self.opened
    }

    /// The functions at an offset, innermost first; none where it has no name.
    pub(super) fn names(&mut self, offset: u64) -> Vec<Name> {
        let tries = [Readable::DebugInfo, Readable::Symbols];
        let first = tries.iter().position(|what| *what == self.readable).unwrap_or(tries.len());
        for what in &tries[first..] {
            match unless_it_panics(|| self.look_up(*what, offset)) {
                Some(names) if !names.is_empty() => return names,
                Some(_) => {}
                None => {
                    self.readable = Readable::Nothing;
                    break;
                }
            }
        }
        Vec::new()
    }

    fn can_read(&self, what: Readable) -> bool {
        let read = || self.symbolizer.symbolize(&self.source(what), Input::VirtOffset(&[])).is_ok();
        unless_it_panics(read).unwrap_or(false)
    }

    fn look_up(&self, what: Readable, offset: u64) -> Vec<Name> {
        match self.symbolizer.symbolize_single(&self.source(what), Input::FileOffset(offset)) {
            Ok(Symbolized::Sym(symbol)) => names(&symbol),
            Ok(Symbolized::Unknown(_)) | Err(_) => Vec::new(),
        }
    }

    fn source(&self, what: Readable) -> source::Source<'static> {
        let mut elf = source::Elf::new(&self.path);
        elf.debug_syms = what == Readable::DebugInfo;
        source::Source::Elf(elf)
    }
}

/// The library has the function itself first, then what is inlined into it, inwards.
fn names(symbol: &Sym<'_>) -> Vec<Name> {
    let inlined =
        symbol.inlined.iter().rev().map(|function| (&function.name, function.code_info.as_ref(), true));
    let itself = (&symbol.name, symbol.code_info.as_deref(), false);
    let names = inlined.chain([itself]).map(|(name, code, inlined)| Name::new(name, code, inlined));
    let names: Vec<_> = names.collect();
    if names.iter().all(|name| name.function.is_none()) { Vec::new() } else { names }
}
