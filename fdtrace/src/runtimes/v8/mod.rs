//! V8, as Node.js has it from version 14 on: JavaScript that is interpreted and compiled.
//!
//! V8 says itself where its objects have what (`v8dbg_*`, which its `tools/gen-postmortem-metadata.py` makes of its sources), so
//! that there is no table of versions.

mod align;
mod bytecodes;
mod calls;
mod function;
mod kernel_side;
mod layout;
mod positions;
mod source;
mod source_map;
mod stub;
mod translations;

use serde::{Deserialize, Serialize};

pub(super) use self::kernel_side::frame_of;
use self::{
    bytecodes::Bytecodes,
    function::Function,
    layout::{Layout, Version},
    source::Source,
    stub::Isolate,
    translations::Translations,
};
pub(crate) use self::{
    source::Place,
    source_map::{Map, MapAt},
};
use super::{Image, Refusal, ScriptThread, Sighting, memory::Memory};

/// A function that every build exports, and that loads the thread's isolate.
pub(super) const CURRENT: &str = "_ZN2v87Isolate10GetCurrentEv";

/// What a file has to say where it has, besides what it says of its objects.
pub(super) const SYMBOLS: [&str; 4] = [
    CURRENT,
    "_ZN2v88internal7Version6major_E",
    "_ZN2v88internal7Version6minor_E",
    "_ZN2v88internal7Version6build_E",
];
/// How C++ enters JavaScript (`JSEntry`): the registers of the caller are saved, then the frame that left it last, whose offset
/// from the root register follows.
pub(super) const MARKER: &[u8] = &[
    0x55, 0x48, 0x89, 0xe5, 0x6a, 0x02, 0x48, 0x83, 0xec, 0x08, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41,
    0x57, 0x53, 0x4c, 0x8b, 0xef, 0x41, 0xff, 0xb5,
];
/// From an isolate to what the root register points to (`kIsolateRootBias`).
const ROOT: u32 = 128;
/// How the kernel side sends functions; those of other bytecodes have other numbers from there on.
pub(super) const FORMAT: u32 = 0x500;
pub(super) const LAST_FORMAT: u32 = FORMAT + 0xff;

/// A V8 in a process, and how to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interpreter {
    isolate: Isolate,
    /// The function that says so.
    current: u64,
    /// In an isolate: the frame from which its thread left JavaScript last.
    exit_frame: u32,
    layout: Layout,
    /// How it writes down what optimised code was made of.
    translations: Option<Translations>,
    pub(super) build: Build,
}

/// What the lines of a function are found by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    /// How many bits an offset has below it in a source position table.
    position_flags: u32,
    /// Where the file has tables of them.
    bytecodes: Option<Bytecodes>,
}

impl Build {
    /// What is read in another way, for a fuzzer.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let bytecodes = ["13.6.", "14.1."].map(Bytecodes::known);
        (1..).zip(bytecodes).map(|(position_flags, bytecodes)| Self { position_flags, bytecodes })
    }
}

/// All symbols that are asked for.
pub(super) fn symbols() -> impl Iterator<Item = &'static str> {
    SYMBOLS.into_iter().chain(layout::symbols()).chain(bytecodes::SYMBOLS)
}

/// Whether the symbols of a file are those of a V8.
pub(super) fn is_one(image: &Image) -> bool {
    image.symbol(CURRENT).is_some()
}

/// Whether an image is a V8, and which.
pub(super) fn recognise(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Sighting> {
    is_one(image).then(|| Sighting {
        runtime: super::Runtime::V8,
        version: Version::of(image, memory).map(|version| version.to_string()),
        found: locate(image, memory).map(super::Interpreter::V8),
    })
}

/// The same by the file alone, with addresses as the file has them.
pub(super) fn recognise_file(image: &Image, file: &(impl Memory + ?Sized)) -> Option<Interpreter> {
    if is_one(image) { locate(image, file).ok() } else { None }
}

/// What shows where the file's code is; its frames need no evaluation loop.
pub(super) fn is_loop(symbol: &[u8]) -> bool {
    symbol == CURRENT.as_bytes()
}

/// What a table says of a version, which each line of it begins with: words.
fn said_of<'a>(version: &str, table: &'a str) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
    let is_it = |line: &&str| {
        let (known, _) = line.split_once(' ').unwrap_or_default();
        version.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'))
    };
    Some(table.lines().find(is_it)?.split(' ').skip(1))
}

fn locate(image: &Image, memory: &(impl Memory + ?Sized)) -> Result<Interpreter, Refusal> {
    let version = Version::of(image, memory).ok_or(Refusal::UnknownVersion)?;
    let layout = Layout::of(image, memory, version).ok_or(Refusal::UnknownVersion)?;
    let entry = image.said.as_deref().and_then(|said| said.first_chunk()).ok_or(Refusal::NoSymbols)?;
    let exit_frame = ROOT.checked_add(u32::from_le_bytes(*entry)).ok_or(Refusal::Senseless)?;
    let current = image.symbol(CURRENT).ok_or(Refusal::NoSymbols)?;
    let isolate = stub::isolate(memory, current).ok_or(Refusal::NoSymbols)?;
    let position_flags = version.position_flags();
    let build = Build { position_flags, bytecodes: Bytecodes::of(image, memory, &version.to_string()) };
    let translations = Translations::known(&version.to_string());
    Ok(Interpreter { isolate, current, exit_frame, layout, translations, build })
}

/// Where in a script's text the call stands at an instruction of a function, of which the kernel side has sent `lines`; `None`
/// where that is not certain, or where this is another text.
pub(crate) fn place(lines: &[u8], instruction: i32, build: &Build, text: &[u8]) -> Option<Place> {
    let function = Function::parse(lines)?;
    let source = Source::of(text, function.script_length)?;
    let bytecodes = build.bytecodes.as_ref();
    let offset = match function.offsets {
        // Code that was compiled has no bytecode.
        [] if instruction < 0 => return None,
        [] => instruction,
        offsets => bytecodes?.offset(function.bytecodes, offsets, instruction)?,
    };
    if !function.positions.is_empty() {
        let position = positions::position(function.positions, offset, build.position_flags)?;
        return source.place(source.byte(position)?);
    }
    let range = function.range?;
    let (start, text) = source.part(&range)?;
    let all = calls::of(text, range == (0..function.script_length));
    let line = |call: &calls::Call| source.place(start + call.at).map(|place| place.line);
    let calls = bytecodes?.calls(function.bytecodes);
    if let Some(call) = align::find(&calls, &all, offset, |one, other| one.at == other.at) {
        return source.place(start + call.at);
    }
    let call = align::find(&calls, &all, offset, |one, other| line(one) == line(other))?;
    Some(Place { column: None, ..source.place(start + call.at)? })
}

impl Interpreter {
    /// Its threads: none, for what leads to them is in registers.
    #[expect(clippy::unused_self, reason = "as the others")]
    pub(super) const fn scripts(&self) -> Vec<ScriptThread> {
        Vec::new()
    }
}
