//! An interpreter's file: what is known of it without any process, and all that the kernel side needs.

use std::ops::Range;

use fdtrace_common::scripts;
use serde::{Deserialize, Serialize};

use super::{
    CodeObject, Image, Interpreter, Runtime, ScriptFrame, WorkQueue, cpython, hotspot, memory::Memory, perl,
    php, ruby, v8,
};

/// An interpreter that can be read in every process that has this file mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    /// With addresses as the file has them.
    pub(crate) interpreter: Interpreter,
    /// From an offset in the file's code to its address.
    pub(crate) code_delta: u64,
    /// Offsets of the evaluation loop, for versions that leave no other mark on the C stack.
    pub(crate) loops: Vec<Range<u64>>,
    /// Where its scripts have others work for them.
    pub(crate) work_queue: Option<WorkQueue>,
}

impl Program {
    /// For the kernel side.
    pub(crate) fn layout(&self) -> scripts::Interpreter {
        let layout = match &self.interpreter {
            Interpreter::Cpython(interpreter) => interpreter.layout_for_kernel(),
            Interpreter::Php(interpreter) => interpreter.layout_for_kernel(),
            Interpreter::Perl(interpreter) => interpreter.layout_for_kernel(),
            Interpreter::Ruby(interpreter) => interpreter.layout_for_kernel(),
            Interpreter::V8(interpreter) => interpreter.layout_for_kernel(),
            Interpreter::Hotspot(interpreter) => interpreter.layout_for_kernel(),
        };
        scripts::Interpreter { code_delta: self.code_delta, ..layout }
    }
}

/// What a library of this name loads by itself, from its own folder on or from the one above.
pub(crate) fn loaded_later(library: &str) -> &'static [&'static str] {
    if library == hotspot::LAUNCHER { &hotspot::LOADED } else { &[] }
}

/// The interpreter that a file is, by its own bytes; `None` for all other files, and for those that cannot be read.
pub(crate) fn recognise_file(image: &Image, file: &(impl Memory + ?Sized)) -> Option<Interpreter> {
    let php = || php::recognise_file(image).map(Interpreter::Php);
    let perl = || perl::recognise_file(image, file).map(Interpreter::Perl);
    let ruby = || ruby::recognise_file(image, file).map(Interpreter::Ruby);
    let v8 = || v8::recognise_file(image, file).map(Interpreter::V8);
    let hotspot = || hotspot::recognise_file(image, file).map(Interpreter::Hotspot);
    let cpython = cpython::recognise_file(image, file).map(Interpreter::Cpython);
    cpython.or_else(php).or_else(perl).or_else(ruby).or_else(hotspot).or_else(v8)
}

/// Whether a function is the evaluation loop, or what a compiler made of a part of it.
pub(crate) fn is_loop(symbol: &[u8]) -> bool {
    cpython::is_loop(symbol)
        || php::is_loop(symbol)
        || perl::is_loop(symbol)
        || ruby::is_loop(symbol)
        || v8::is_loop(symbol)
}

/// Whether code without tables keeps frame pointers in a file that has any of some symbols.
pub(crate) fn keeps_frame_pointers(has_any: impl Fn(&[&'static str]) -> bool) -> bool {
    has_any(&[v8::CURRENT])
}

/// Where the evaluation loop begins that has no symbol.
pub(crate) const fn unnamed_loop(interpreter: &Interpreter) -> Option<u64> {
    match interpreter {
        Interpreter::Ruby(interpreter) => interpreter.unnamed_loop(),
        Interpreter::Cpython(_)
        | Interpreter::Php(_)
        | Interpreter::Perl(_)
        | Interpreter::Hotspot(_)
        | Interpreter::V8(_) => None,
    }
}

/// Where to look for the line of a call that its code object does not have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Unplaced {
    /// What is known of the function.
    pub(crate) lines: Box<[u8]>,
    /// Which of the builds that were met.
    pub(crate) build: Option<v8::Build>,
    pub(crate) instruction: i32,
}

impl Unplaced {
    /// Where it is in its script's text; `None` where that is not certain, or where this is another text.
    pub(crate) fn place(&self, text: &[u8]) -> Option<Placed> {
        let place = v8::place(&self.lines, self.instruction, self.build.as_ref()?, text)?;
        Some(Placed { place, map: v8::MapAt::of(text) })
    }
}

/// Where a call is in its script's text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) place: v8::Place,
    /// What tells where it is in what the script was made of.
    pub(crate) map: Option<v8::MapAt>,
}

/// What is known of a call whose line only the script's own text tells, by the builds that were met.
pub(crate) fn unplaced(code: &CodeObject, instruction: i32, met: &[v8::Build]) -> Option<Unplaced> {
    let number = code.format.checked_sub(v8::FORMAT).filter(|_| code.format <= v8::LAST_FORMAT)?;
    let build = usize::try_from(number).ok().and_then(|number| met.get(number)).cloned();
    Some(Unplaced { lines: code.lines.bytes.clone(), build, instruction })
}

impl Program {
    /// Whether its scripts have others work for them, if it is built as it usually is.
    pub(crate) const fn has_work_queue(&self) -> bool {
        matches!(self.interpreter, Interpreter::V8(_))
    }

    /// What lines are found by, where code objects do not have them.
    pub(crate) const fn build(&self) -> Option<&v8::Build> {
        match &self.interpreter {
            Interpreter::V8(interpreter) => Some(&interpreter.build),
            _ => None,
        }
    }
}

/// Where a file has the address of a table that is filled in when it is loaded.
pub(crate) fn filled_table(image: &Image) -> Option<u64> {
    hotspot::table(image)
}

/// The call that stands at an instruction of a code object; `None` where the runtime's own stack traces leave it out.
pub(crate) fn frame(code: &CodeObject, instruction: i32) -> Option<(Runtime, ScriptFrame)> {
    Some(match code.format {
        hotspot::FORMAT..hotspot::FORMAT_END => (Runtime::Hotspot, hotspot::frame_of(code, instruction)?),
        php::FORMAT => (Runtime::Php, php::frame_of(code, instruction)),
        perl::FORMAT => (Runtime::Perl, perl::frame_of(code, instruction)),
        ruby::FORMAT => (Runtime::Ruby, ruby::frame_of(code, instruction)),
        v8::FORMAT..=v8::LAST_FORMAT => (Runtime::V8, v8::frame_of(code, instruction)),
        _ => (Runtime::Cpython, cpython::frame_of(code, instruction)),
    })
}
