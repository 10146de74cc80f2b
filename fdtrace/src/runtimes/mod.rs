//! Runtimes of languages, in whose processes a call site is a line of a script: one folder for each.
//!
//! A runtime is recognised by symbols of a mapped file ([`symbols`]), and read in the process's memory ([`Memory`]) by offsets
//! that are data of its folder. In a process that is traced the kernel side reads it, by the same offsets ([`Program`]). All that stands there is a stranger's: reads are bounded, and happen in a process that can do
//! nothing else (`stacks::reader`). To add a runtime: a folder, an arm in [`recognise`], one in [`Interpreter`].

mod code_object;
mod cpython;
#[doc(hidden)]
pub mod fuzz;
mod hotspot;
mod libuv;
mod memory;
mod perl;
mod php;
mod program;
mod ruby;
mod v8;
mod version;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

pub use self::code_object::{CodeObject, RawText};
use self::version::Version;
pub(crate) use self::{
    hotspot::begins_virtual_thread,
    libuv::{WorkQueue, works_for_another},
    memory::Memory,
    program::{
        Placed, Program, Unplaced, filled_table, frame, is_loop, keeps_frame_pointers, loaded_later,
        recognise_file, unnamed_loop, unplaced,
    },
    v8::{Build, Map, MapAt, Place},
};
pub(crate) use crate::model::Runtime;

/// A file that a process has mapped as code.
pub(crate) struct Image {
    /// Its path, as the process sees it.
    pub(crate) path: String,
    /// Where its symbols are in the process, of those that were asked for.
    pub(crate) symbols: HashMap<&'static str, u64>,
    /// What it has behind [`marker`].
    pub(crate) said: Option<Vec<u8>>,
}

impl Image {
    fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get(name).copied()
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// A runtime that was recognised, and how to read it, or why it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sighting {
    pub(crate) runtime: Runtime,
    /// As far as it is known.
    pub(crate) version: Option<String>,
    pub(crate) found: Result<Interpreter, Refusal>,
}

/// Why a runtime's scripts cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refusal {
    #[error("this version is not known")]
    UnknownVersion,
    #[error("its free-threaded build keeps its frames in another way")]
    FreeThreaded,
    #[error("its thread-safe build keeps its globals in another way")]
    ThreadSafe,
    #[error("its symbols are missing")]
    NoSymbols,
    #[error("it has not started, or it has ended")]
    NotStarted,
    #[error("its memory cannot be read")]
    Unreadable,
    #[error("what is read of it makes no sense: it is built in another way, or no such runtime at all")]
    Senseless,
}

/// How to read a process's scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Interpreter {
    Cpython(cpython::Interpreter),
    Php(php::Interpreter),
    Perl(perl::Interpreter),
    Ruby(ruby::Interpreter),
    V8(v8::Interpreter),
    Hotspot(hotspot::Interpreter),
}

/// A thread, and the calls of scripts that are in progress in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScriptThread {
    /// What `pthread_self` returns in it.
    pub(crate) pthread: u64,
    /// Its number to the kernel, in the thread's own namespace, where the runtime keeps it.
    pub(crate) native: Option<u64>,
    /// Innermost first.
    pub(crate) frames: Vec<ScriptFrame>,
}

/// A call in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScriptFrame {
    /// Qualified, where the runtime has that.
    pub(crate) function: String,
    pub(crate) file: String,
    /// Of the call; `None` for code that is of no line.
    pub(crate) line: Option<u32>,
}

/// The symbols that [`recognise`] wants to know of.
pub(crate) fn symbols() -> impl Iterator<Item = &'static str> {
    cpython::SYMBOLS
        .into_iter()
        .chain(php::SYMBOLS)
        .chain(perl::SYMBOLS)
        .chain(ruby::SYMBOLS)
        .chain(hotspot::SYMBOLS)
        .chain(v8::symbols())
        .chain(libuv::symbols())
}

/// What a file of these symbols has before its version, where no symbol leads there.
pub(crate) fn marker(image: &Image) -> Option<&'static [u8]> {
    let php = php::is_one(image).then_some(php::MARKER);
    php.or_else(|| v8::is_one(image).then_some(v8::MARKER))
}

/// The runtime that an image is; `None` for all other files.
pub(crate) fn recognise(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Sighting> {
    cpython::recognise(image, memory)
        .or_else(|| php::recognise(image, memory))
        .or_else(|| perl::recognise(image, memory))
        .or_else(|| ruby::recognise(image, memory))
        .or_else(|| v8::recognise(image, memory))
        .or_else(|| hotspot::recognise(image, memory))
}

impl Interpreter {
    /// Its threads with at most so many frames each.
    pub(crate) fn threads(&self, memory: &(impl Memory + ?Sized), most: usize) -> Vec<ScriptThread> {
        match self {
            Self::Cpython(interpreter) => interpreter.scripts(memory, most),
            Self::Php(interpreter) => interpreter.scripts(memory, most),
            Self::Perl(interpreter) => interpreter.scripts(memory, most),
            Self::Ruby(interpreter) => interpreter.scripts(),
            Self::V8(interpreter) => interpreter.scripts(),
            Self::Hotspot(interpreter) => interpreter.scripts(),
        }
    }
}
