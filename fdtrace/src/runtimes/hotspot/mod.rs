//! HotSpot, the virtual machine of OpenJDK: 11 to 22, 25 and later, on x86_64.

mod kernel_side;
mod layout;
mod lines;
mod structs;

use fdtrace_common::hotspot::Hotspot;
use serde::{Deserialize, Serialize};

pub(crate) use self::kernel_side::begins_virtual_thread;
pub(super) use self::kernel_side::frame_of;

use self::structs::{FIELDS, Structs};
use super::{Image, Refusal, ScriptThread, Sighting, memory::Memory};

/// What starts it, and where it is from there or from the folder above (up to JDK 11), with what opens files for it.
pub(super) const LAUNCHER: &str = "libjli.so";
pub(super) const LOADED: [&str; 5] =
    ["server/libjvm.so", "libjava.so", "libnio.so", "libnet.so", "libzip.so"];
/// What a file has to say where it has.
pub(super) const SYMBOLS: [&str; 3] = structs::SYMBOLS;
/// How the kernel side sends methods: an instruction is an offset in the bytecode. One more where compressed numbers have no zeros.
pub(super) const FORMAT: u32 = 0x400;
/// Behind the last.
pub(super) const FORMAT_END: u32 = FORMAT + 2;

/// A HotSpot in a process, and how to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interpreter {
    major: u64,
    structs: Structs,
}

/// Whether the symbols of a file are those of a HotSpot.
fn is_one(image: &Image) -> bool {
    image.symbol(FIELDS).is_some()
}

/// Where the address of its table of fields is.
pub(super) fn table(image: &Image) -> Option<u64> {
    image.symbol(FIELDS)
}

/// Where what a file says of its structures is, with addresses as it has them.
pub(super) fn recognise_file(image: &Image, file: &(impl Memory + ?Sized)) -> Option<Interpreter> {
    locate(image, file).ok().map(|(interpreter, _)| interpreter).filter(|_| is_one(image))
}

/// Whether an image is a HotSpot, and which.
pub(super) fn recognise(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Sighting> {
    if !is_one(image) {
        return None;
    }
    let located = locate(image, memory);
    let version = located.as_ref().ok().and_then(|(_, version)| version.clone());
    let found = located.and_then(|(interpreter, _)| interpreter.checked(memory));
    Some(Sighting {
        runtime: super::Runtime::Hotspot,
        version,
        found: found.map(super::Interpreter::Hotspot),
    })
}

/// With its version.
fn locate(image: &Image, memory: &(impl Memory + ?Sized)) -> Result<(Interpreter, Option<String>), Refusal> {
    let structs = Structs::read(image, memory, layout::is_wanted).ok_or(Refusal::NoSymbols)?;
    let places = layout::version(&structs).ok_or(Refusal::UnknownVersion)?;
    let [major, minor, micro] = places.map(|place| memory.half(place, 0).unwrap_or_default());
    let interpreter = Interpreter { major: major.into(), structs };
    interpreter.layout().ok_or(Refusal::UnknownVersion)?;
    Ok((interpreter, Some(format!("{major}.{minor}.{micro}"))))
}

impl Interpreter {
    fn layout(&self) -> Option<Hotspot> {
        layout::layout(&self.structs, self.major)
    }

    /// The same, if it has begun to make code.
    fn checked(self, memory: &(impl Memory + ?Sized)) -> Result<Self, Refusal> {
        let heaps = self.layout().ok_or(Refusal::UnknownVersion)?.heaps;
        match memory.word(heaps, 0) {
            Some(0) => Err(Refusal::NotStarted),
            Some(_) => Ok(self),
            None => Err(Refusal::Unreadable),
        }
    }

    /// Its threads: none, for what leads to them is in registers.
    #[expect(clippy::unused_self, reason = "as the others")]
    pub(super) const fn scripts(&self) -> Vec<ScriptThread> {
        Vec::new()
    }
}
