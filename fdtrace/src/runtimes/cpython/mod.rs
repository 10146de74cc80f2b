//! CPython 3.6 to 3.14.

mod code;
mod kernel_side;
mod lines;
mod published;
mod stub;
mod text;
mod threads;
mod versions;

use serde::{Deserialize, Serialize};

pub(super) use self::kernel_side::frame_of;
use self::versions::{Layout, Version, table};
use super::{Image, Refusal, ScriptFrame, ScriptThread, Sighting, memory::Memory};

/// The evaluation loop, which there is from 3.6 on, and the one before.
const LOOP: &str = "_PyEval_EvalFrameDefault";
const OLD_LOOP: &str = "PyEval_EvalFrameEx";
/// The version as a number; from 3.11 on.
const VERSION: &str = "Py_Version";
/// All that is global; from 3.7 on.
const RUNTIME: &str = "_PyRuntime";
/// A function that returns the first interpreter, for 3.6.
const FIRST_INTERPRETER: &str = "PyInterpreterState_Head";
/// The type of code objects.
const CODE_TYPE: &str = "PyCode_Type";

/// What a file has to say where it has.
pub(super) const SYMBOLS: [&str; 6] = [LOOP, OLD_LOOP, VERSION, RUNTIME, FIRST_INTERPRETER, CODE_TYPE];

/// A CPython in a process, and how to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interpreter {
    /// Where all begins.
    runtime: u64,
    code_type: u64,
    layout: Layout,
}

/// Whether an image is a CPython, and which.
pub(super) fn recognise(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Sighting> {
    image.symbol(LOOP).or_else(|| image.symbol(OLD_LOOP))?;
    let mut version = version(image, memory);
    let found = locate(image, memory, &mut version);
    let found = found.and_then(|interpreter| interpreter.checked(memory));
    Some(Sighting {
        runtime: super::Runtime::Cpython,
        version: version.map(|version| version.to_string()),
        found: found.map(super::Interpreter::Cpython),
    })
}

/// The same by the file alone, with addresses as the file has them.
pub(super) fn recognise_file(image: &Image, file: &(impl Memory + ?Sized)) -> Option<Interpreter> {
    image.symbol(LOOP).or_else(|| image.symbol(OLD_LOOP))?;
    locate(image, file, &mut version(image, file)).ok()
}

/// The evaluation loop by its symbol; compilers put parts of it elsewhere (`.cold`, `.part.0`).
pub(super) fn is_loop(symbol: &[u8]) -> bool {
    symbol.strip_prefix(LOOP.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
}

fn version(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Version> {
    let said = image.symbol(VERSION).and_then(|symbol| memory.half(symbol, 0)).map(Version::from_hex);
    said.or_else(|| named(image.name()))
}

/// The version that a file's name has, as `libpython3.8.so.1.0` and `python3.8` do.
fn named(name: &str) -> Option<Version> {
    let (_, behind) = name.split_once("python")?;
    let mut numbers = behind.split(|one: char| !one.is_ascii_digit());
    Some(Version { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()?, micro: None })
}

/// Finds the runtime, and where this version has what.
fn locate(
    image: &Image,
    memory: &(impl Memory + ?Sized),
    version: &mut Option<Version>,
) -> Result<Interpreter, Refusal> {
    let known = version.ok_or(Refusal::UnknownVersion)?;
    let code_type = image.symbol(CODE_TYPE).ok_or(Refusal::NoSymbols)?;
    if known.series() == (3, 6) {
        let layout = table(known).ok_or(Refusal::UnknownVersion)?;
        let runtime = image.symbol(FIRST_INTERPRETER).and_then(|stub| stub::loaded_from(memory, stub));
        return Ok(Interpreter { runtime: runtime.ok_or(Refusal::NoSymbols)?, code_type, layout });
    }
    let runtime = image.symbol(RUNTIME).ok_or(Refusal::UnknownVersion)?;
    let layout = match table(known) {
        Some(layout) => layout,
        None if known >= Version::three(13) => {
            let (published, layout) = published::layout(memory, runtime)?;
            *version = Some(published);
            layout
        }
        None => return Err(Refusal::UnknownVersion),
    };
    Ok(Interpreter { runtime, code_type, layout })
}

/// Frames of a thread that are looked at to see whether they make sense, and how often.
const PROBED: usize = 4;
const LOOKS: usize = 5;
/// The most frames of a thread that are named: the recursion limit is 1,000.
const MAX_FRAMES: usize = 2048;

impl Interpreter {
    /// The same, if what is read by it makes sense: threads, and frames of code objects.
    fn checked(self, memory: &(impl Memory + ?Sized)) -> Result<Self, Refusal> {
        // It runs while it is read: what makes no sense once may do so the next time.
        if (1..LOOKS).any(|_| self.check(memory).is_ok()) {
            return Ok(self);
        }
        self.check(memory).map(|()| self)
    }

    fn check(&self, memory: &(impl Memory + ?Sized)) -> Result<(), Refusal> {
        let threads = self.threads(memory);
        if threads.is_empty() {
            return Err(Refusal::NotStarted);
        }
        let mut places = threads.iter().flat_map(|thread| self.places(memory, thread.state, PROBED));
        // A thread that waits in native code has none.
        if places.all(|place| self.is_code(memory, place.code)) { Ok(()) } else { Err(Refusal::Senseless) }
    }

    /// Its threads, each with the calls in progress, innermost first.
    pub(super) fn scripts(&self, memory: &(impl Memory + ?Sized), most: usize) -> Vec<ScriptThread> {
        let most = most.min(MAX_FRAMES);
        let frames = |state| {
            self.places(memory, state, most).into_iter().map_while(|place| self.frame(memory, &place))
        };
        let threads = self.threads(memory).into_iter();
        threads
            .map(|thread| ScriptThread {
                pthread: thread.pthread,
                native: thread.native,
                frames: frames(thread.state).collect::<Vec<ScriptFrame>>(),
            })
            .collect()
    }
}
