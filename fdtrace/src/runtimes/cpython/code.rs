//! Code objects: what a call in progress is called, and where it stands in the source.

use super::{Interpreter, threads::Place};
use crate::runtimes::{ScriptFrame, memory::Memory};

/// Where an object has its type.
const TYPE: u64 = 8;
/// Where an object of bytes has their number, and the bytes.
const COUNT: u64 = 16;
const BYTES: u64 = 32;

/// A line table is about as long as the code; longer ones are not read, so their lines are unknown.
const LONGEST_TABLE: u64 = 1 << 20;

impl Interpreter {
    /// The frame of a call in progress; `None` where there is no code object any more.
    pub(super) fn frame(&self, memory: &(impl Memory + ?Sized), place: &Place) -> Option<ScriptFrame> {
        if !self.is_code(memory, place.code) {
            return None;
        }
        let layout = &self.layout.code;
        let text = |at| self.layout.text.read(memory, memory.pointer(place.code, at)?);
        let function = layout.qualified.and_then(text).or_else(|| text(layout.name))?;
        Some(ScriptFrame { function, file: text(layout.file)?, line: self.line(memory, place) })
    }

    /// Whether the object is of the type of code objects.
    pub(super) fn is_code(&self, memory: &(impl Memory + ?Sized), object: u64) -> bool {
        memory.word(object, TYPE) == Some(self.code_type)
    }

    fn line(&self, memory: &(impl Memory + ?Sized), place: &Place) -> Option<u32> {
        let layout = &self.layout.code;
        let first = memory.half(place.code, layout.first_line)?;
        let table = memory.pointer(place.code, layout.lines)?;
        let length = memory.word(table, COUNT).filter(|length| *length <= LONGEST_TABLE)?;
        let table = memory.bytes(table.checked_add(BYTES)?, usize::try_from(length).ok()?)?;
        layout.format.line(&table, first, place.instruction)
    }
}
