//! One file with code: what its symbols and its debug information say.

use std::{
    fs::{File, Metadata},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer, source};

use super::{
    debug_file,
    demangle::demangled,
    elf::Layout,
    guard::guarded,
    memory::{forget_pages, map_little},
    module::{Module, path_of},
};
use crate::stream::UserFrame;

/// The longest name or path; more tells nothing.
const LONGEST: usize = 4096;

/// The most functions that are one in the other at one address.
const DEEPEST: usize = 64;

/// A symbol that does not say where it ends is not believed further than this: written by hand, it is short.
const SIZELESS: usize = 4096;

/// An open file, and the separate file with its debug information.
pub(super) struct CodeFile {
    itself: Part,
    debug: Option<Part>,
}

/// One open file, with what was read of it so far.
///
/// Each has a symbolizer of its own, which keeps all that it has opened and read until it is dropped.
struct Part {
    symbolizer: Symbolizer,
    layout: Layout,
    file: File,
    path: PathBuf,
    opened: Option<Version>,
    readable: Readable,
}

/// How much of a file can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readable {
    DebugInfo,
    /// It has no debug information, or one that is broken or too large.
    Symbols,
    /// It is broken, or was changed.
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
            function: Some(demangled(function)).filter(|name| !name.is_empty()).map(clipped),
            file: code.map(|code| clipped(code.to_path().to_string_lossy().into_owned())),
            line: code.and_then(|code| code.line),
            inlined,
        }
    }
}

impl CodeFile {
    /// Opens a module's file, and looks for the one with its debug information.
    pub(super) fn of(module: &Module) -> Option<Self> {
        let file = module.open()?;
        let layout = Layout::read(&file)?;
        let found = (!layout.has_debug_info).then(|| debug_file::find(module, &layout)).flatten();
        let debug = found.map(|(file, layout)| Part::new(file, layout));
        Some(Self { itself: Part::new(file, layout), debug })
    }

    /// Whether nobody has written to it since it was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        self.itself.is_unchanged() && self.debug.as_ref().is_none_or(Part::is_unchanged)
    }

    /// What it has mapped is read from the file again where it is needed.
    pub(super) fn forget_pages(&self) {
        self.debug.iter().chain([&self.itself]).for_each(|part| forget_pages(&part.file));
    }

    /// The functions at an offset, innermost first; none where it has no name.
    pub(super) fn names(&mut self, offset: u64) -> Vec<Name> {
        let Some(address) = self.itself.layout.address(offset) else { return Vec::new() };
        let parts = self.debug.iter_mut().chain([&mut self.itself]);
        parts.map(|part| part.names(address)).find(|names| !names.is_empty()).unwrap_or_default()
    }
}

impl Part {
    fn new(file: File, layout: Layout) -> Self {
        // Without reloading, the symbolizer holds on to what it has opened at first: this very file.
        let symbolizer = Symbolizer::builder().enable_auto_reload(false).enable_demangling(false).build();
        let (path, opened) = (path_of(&file), Version::of(&file));
        let mut this = Self { symbolizer, layout, file, path, opened, readable: Readable::Nothing };
        if !this.can_read(Readable::Symbols) {
            return this;
        }
        // The file is mapped now, and hardly read.
        map_little(&this.file);
        let has_more = this.can_read(Readable::DebugInfo);
        this.readable = if has_more { Readable::DebugInfo } else { Readable::Symbols };
        forget_pages(&this.file);
        this
    }

    fn is_unchanged(&self) -> bool {
        self.opened.is_some() && Version::of(&self.file) == self.opened
    }

    fn names(&mut self, address: u64) -> Vec<Name> {
        let tries = [Readable::DebugInfo, Readable::Symbols];
        let first = tries.iter().position(|what| *what == self.readable).unwrap_or(tries.len());
        for what in &tries[first..] {
            match guarded(|| self.look_up(*what, address)) {
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
        let layout = &self.layout;
        let bounded = layout.has_debug_info && !layout.leads_elsewhere && layout.unpacks_well(&self.file);
        if what == Readable::DebugInfo && !bounded {
            return false;
        }
        let read = || self.symbolizer.symbolize(&self.source(what), Input::VirtOffset(&[])).is_ok();
        guarded(read).unwrap_or(false)
    }

    fn look_up(&self, what: Readable, address: u64) -> Vec<Name> {
        match self.symbolizer.symbolize_single(&self.source(what), Input::VirtOffset(address)) {
            Ok(Symbolized::Sym(symbol)) if self.is_within(&symbol, address) => names(&symbol),
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// The library takes a symbol without a size for all that follows up to the next symbol. A function of several parts has
    /// no size in the debug information either, which has a line for each address.
    fn is_within(&self, symbol: &Sym<'_>, address: u64) -> bool {
        symbol.size.is_some()
            || symbol.code_info.is_some()
            || (symbol.offset < SIZELESS && self.layout.is_one_section(symbol.addr, address))
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
    let left_out = symbol.inlined.len().saturating_sub(DEEPEST);
    let all = inlined.skip(left_out).chain([itself]);
    let names: Vec<_> = all.map(|(name, code, inlined)| Name::new(name, code, inlined)).collect();
    if names.iter().all(|name| name.function.is_none()) { Vec::new() } else { names }
}

fn clipped(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

/// The same file, with a position of its own.
pub(super) fn reopen(file: &File) -> Option<File> {
    File::open(path_of(file)).ok()
}
