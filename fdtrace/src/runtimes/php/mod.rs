//! PHP 7.3 to 8.5, built without threads.

mod frames;
mod kernel_side;
mod versions;

use serde::{Deserialize, Serialize};

pub(super) use self::kernel_side::frame_of;
use self::versions::{Layout, table};
use super::{Image, Refusal, ScriptThread, Sighting, Version, memory::Memory};

/// The evaluation loop.
const LOOP: &str = "execute_ex";
/// All that is global while scripts run.
const GLOBALS: &str = "executor_globals";
/// Where a thread has them in builds with threads.
const THREADED: &str = "executor_globals_offset";

/// The class of generators.
const GENERATORS: &str = "zend_ce_generator";

/// What a file has to say where it has.
pub(super) const SYMBOLS: [&str; 4] = [LOOP, GLOBALS, THREADED, GENERATORS];
/// What the version follows in a file.
pub(super) const MARKER: &[u8] = b"X-Powered-By: PHP/";
/// How the kernel side sends functions: an instruction is a line.
pub(super) const FORMAT: u32 = 0x100;

/// A PHP in a process, and how to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interpreter {
    globals: u64,
    /// Where the class of generators is; 0 where that is not known.
    generators: u64,
    layout: Layout,
}

/// Whether the symbols of a file are those of a PHP.
pub(super) fn is_one(image: &Image) -> bool {
    image.symbol(LOOP).is_some() && (image.symbol(GLOBALS).is_some() || image.symbol(THREADED).is_some())
}

/// Whether an image is a PHP, and which.
pub(super) fn recognise(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Sighting> {
    if !is_one(image) {
        return None;
    }
    let found = locate(image).and_then(|interpreter| interpreter.checked(memory));
    Some(Sighting {
        runtime: super::Runtime::Php,
        version: version(image).map(|version| version.to_string()),
        found: found.map(super::Interpreter::Php),
    })
}

/// The same by the file alone, with addresses as the file has them.
pub(super) fn recognise_file(image: &Image) -> Option<Interpreter> {
    locate(image).ok().filter(|_| is_one(image))
}

/// The evaluation loop by its symbol; compilers put parts of it elsewhere (`.cold`, `.part.0`).
pub(super) fn is_loop(symbol: &[u8]) -> bool {
    symbol.strip_prefix(LOOP.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
}

fn version(image: &Image) -> Option<Version> {
    Version::parse(image.said.as_deref()?)
}

fn locate(image: &Image) -> Result<Interpreter, Refusal> {
    let Some(globals) = image.symbol(GLOBALS) else { return Err(Refusal::ThreadSafe) };
    let layout = version(image).and_then(table).ok_or(Refusal::UnknownVersion)?;
    Ok(Interpreter { globals, generators: image.symbol(GENERATORS).unwrap_or(0), layout })
}

/// Frames that are looked at to see whether they make sense, and how often.
const PROBED: usize = 4;
const LOOKS: usize = 5;

impl Interpreter {
    /// The same, if what is read by it makes sense.
    fn checked(self, memory: &(impl Memory + ?Sized)) -> Result<Self, Refusal> {
        // It runs while it is read: what makes no sense once may do so the next time.
        if (1..LOOKS).any(|_| self.frames(memory, PROBED).is_ok()) {
            return Ok(self);
        }
        self.frames(memory, PROBED).map(|_| self)
    }

    /// Its one thread, with the calls in progress, innermost first.
    pub(super) fn scripts(&self, memory: &(impl Memory + ?Sized), most: usize) -> Vec<ScriptThread> {
        let frames = self.frames(memory, most).unwrap_or_default();
        vec![ScriptThread { pthread: 0, native: None, frames }]
    }
}
