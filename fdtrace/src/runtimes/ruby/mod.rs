//! Ruby 2.6 to 3.4.

mod kernel_side;
mod stub;
mod versions;

use serde::{Deserialize, Serialize};

pub(super) use self::kernel_side::frame_of;
use self::{
    stub::ThreadLocal,
    versions::{Layout, Threads, table},
};
use super::{Image, Refusal, ScriptThread, Sighting, Version, memory::Memory};

/// The evaluation loop. Where it has no symbol, it is what both of two others end with.
const LOOP: &str = "rb_vm_exec";
const BEFORE_LOOP: [&str; 2] = ["rb_iseq_eval", "rb_iseq_eval_main"];
/// The version as a text.
const VERSION: &str = "ruby_version";
/// A function that begins with the current thread's context; from 3.0 on.
const CURRENT: &str = "rb_thread_current";
/// The context that runs, and what has all threads; to 2.7.
const RUNNING: &str = "ruby_current_execution_context_ptr";
const MACHINE: &str = "ruby_current_vm_ptr";

/// What a file has to say where it has.
pub(super) const SYMBOLS: [&str; 7] =
    [LOOP, BEFORE_LOOP[0], BEFORE_LOOP[1], VERSION, CURRENT, RUNNING, MACHINE];
/// How the kernel side sends instruction sequences: an instruction is a line.
pub(super) const FORMAT: u32 = 0x200;

/// The longest version that is read, with what ends it.
const VERSION_BYTES: usize = 8;
/// The most modules that have thread-local variables.
const MAX_MODULES: u64 = 1024;

/// A Ruby in a process, and how to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interpreter {
    context: Context,
    layout: Layout,
    /// The evaluation loop, where it has no symbol.
    unnamed_loop: Option<u64>,
}

/// What leads to a thread's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Context {
    Listed { running: u64, machine: u64 },
    Own(ThreadLocal),
}

/// Whether an image is a Ruby, and which.
pub(super) fn recognise(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Sighting> {
    let is_one = is_one(image);
    let version = version(image, memory).filter(|_| is_one);
    let found = locate(image, memory, version).and_then(|interpreter| interpreter.checked(memory));
    is_one.then(|| Sighting {
        runtime: super::Runtime::Ruby,
        version: version.map(|version| version.to_string()),
        found: found.map(super::Interpreter::Ruby),
    })
}

/// The same by the file alone, with addresses as the file has them.
pub(super) fn recognise_file(image: &Image, file: &(impl Memory + ?Sized)) -> Option<Interpreter> {
    locate(image, file, version(image, file)).ok().filter(|_| is_one(image))
}

/// The evaluation loop by its symbol; compilers put parts of it elsewhere (`.cold`, `.part.0`).
pub(super) fn is_loop(symbol: &[u8]) -> bool {
    symbol.strip_prefix(LOOP.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
}

fn is_one(image: &Image) -> bool {
    image.symbol(VERSION).is_some() && image.symbol(CURRENT).is_some()
}

fn version(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Version> {
    Version::parse(&memory.array::<VERSION_BYTES>(image.symbol(VERSION)?, 0)?)
}

fn locate(
    image: &Image,
    memory: &(impl Memory + ?Sized),
    version: Option<Version>,
) -> Result<Interpreter, Refusal> {
    let layout = version.and_then(table).ok_or(Refusal::UnknownVersion)?;
    let unnamed_loop = match image.symbol(LOOP) {
        Some(_) => None,
        None => Some(find_loop(image, memory).ok_or(Refusal::NoSymbols)?),
    };
    let context = find_context(image, memory, layout.threads).ok_or(Refusal::NoSymbols)?;
    Ok(Interpreter { context, layout, unnamed_loop })
}

fn find_loop(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<u64> {
    let [evaluate, main] = BEFORE_LOOP.map(|name| image.symbol(name));
    stub::both_end_with(memory, [evaluate?, main?])
}

fn find_context(image: &Image, memory: &(impl Memory + ?Sized), threads: Threads) -> Option<Context> {
    match threads {
        Threads::Listed => {
            Some(Context::Listed { running: image.symbol(RUNNING)?, machine: image.symbol(MACHINE)? })
        }
        Threads::Own => stub::thread_local(memory, image.symbol(CURRENT)?).map(Context::Own),
    }
}

impl Interpreter {
    /// The evaluation loop, where it has no symbol.
    pub(super) const fn unnamed_loop(&self) -> Option<u64> {
        self.unnamed_loop
    }

    /// The same, if what is read by it makes sense.
    fn checked(self, memory: &(impl Memory + ?Sized)) -> Result<Self, Refusal> {
        let (place, is_there): (u64, fn(u64) -> bool) = match self.context {
            Context::Listed { machine, .. } => (machine, |machine| machine != 0),
            Context::Own(ThreadLocal::Dynamic(module)) => {
                (module, |module| (1..MAX_MODULES).contains(&module))
            }
            Context::Own(ThreadLocal::Static(_)) => return Ok(self),
        };
        let found = memory.word(place, 0).ok_or(Refusal::Unreadable)?;
        if is_there(found) { Ok(self) } else { Err(Refusal::NotStarted) }
    }

    /// Its threads: none, for what leads to them is in registers.
    #[expect(clippy::unused_self, reason = "as the others")]
    pub(super) const fn scripts(&self) -> Vec<ScriptThread> {
        Vec::new()
    }
}
