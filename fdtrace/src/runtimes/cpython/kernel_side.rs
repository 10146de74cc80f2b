//! What the kernel side is told of a CPython, and what is made of the code objects that it sends.

use fdtrace_common::scripts::{self, ABSENT, entry, kind, units};

use super::{
    Interpreter,
    lines::Format,
    text::characters,
    versions::{Entry, Units},
};
use crate::runtimes::{CodeObject, RawText, ScriptFrame};

/// What is read of a frame object, to 3.10, and of a frame from then on.
const OBJECT_BYTES: u32 = 128;
const FRAME_BYTES: u32 = 80;

impl Interpreter {
    /// Where this build has what, without the file's own code.
    pub(in crate::runtimes) fn layout_for_kernel(&self) -> scripts::Interpreter {
        let layout = &self.layout;
        let (thread, frame, code) = (&layout.thread, &layout.frame, &layout.code);
        let (entry, entry_at, owner) = match frame.entry {
            Entry::Each => (entry::EACH, 0, 0),
            Entry::Marked(at) => (entry::MARKED, at, 0),
            Entry::Between(at, owner) => (entry::BETWEEN, at, owner),
        };
        let part = code.part();
        scripts::Interpreter {
            code_delta: 0,
            runtime: self.runtime,
            code_type: self.code_type,
            thread_key: optional(layout.thread_key),
            interpreters: small(layout.interpreters),
            threads: small(layout.threads),
            next_thread: small(thread.next),
            pthread: small(thread.pthread),
            frame: small(thread.frame),
            behind: optional(thread.behind),
            border: optional(thread.border.map(|(innermost, _)| innermost)),
            border_previous: optional(thread.border.map(|(_, previous)| previous)),
            frame_bytes: if frame.entry == Entry::Each { OBJECT_BYTES } else { FRAME_BYTES },
            code: small(frame.code),
            previous: small(frame.previous),
            instruction: small(frame.instruction),
            units: match frame.units {
                Units::Bytes => units::BYTES,
                Units::Pairs => units::PAIRS,
                Units::Address => units::ADDRESS,
            },
            entry,
            entry_at: small(entry_at),
            owner: owner.into(),
            function: small(code.qualified.unwrap_or(code.name)),
            file: small(code.file),
            first_line: small(code.first_line),
            lines: small(code.lines),
            version: optional(code.version),
            instructions: small(code.instructions),
            ascii: small(layout.text.ascii),
            other: small(layout.text.other),
            format: code.format as u32,
            kind: kind::CPYTHON,
            interpreter: small(thread.interpreter),
            next_version: optional(layout.next_version),
            part_at: small(part.start),
            part_bytes: small(part.end - part.start),
            ..scripts::Interpreter::default()
        }
    }
}

/// Offsets are small: those that a program publishes were looked at.
fn small(offset: u64) -> u32 {
    u32::try_from(offset).unwrap_or(ABSENT)
}

fn optional(offset: Option<u64>) -> u32 {
    offset.map_or(ABSENT, small)
}

/// The call that stands at an instruction of a code object.
pub(in crate::runtimes) fn frame_of(code: &CodeObject, instruction: i32) -> ScriptFrame {
    let line = Format::numbered(code.format).and_then(|format| {
        let (table, end) = match code.lines.is_cut {
            true => format.whole(&code.lines.bytes),
            false => (&*code.lines.bytes, u64::MAX),
        };
        let is_told = u64::try_from(instruction).unwrap_or(0) < end;
        is_told.then(|| format.line(table, code.first_line, instruction))?
    });
    ScriptFrame { function: text(&code.function), file: text(&code.file), line }
}

fn text(text: &RawText) -> String {
    text.shown(|bytes| characters(bytes, text.width.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascii(text: &str) -> RawText {
        RawText { bytes: text.as_bytes().into(), width: 1, is_cut: false }
    }

    #[test]
    fn a_call_has_its_line() {
        let code = CodeObject {
            key: 4,
            format: Format::Moves as u32,
            first_line: 10,
            function: ascii("load"),
            file: RawText { is_cut: true, ..ascii("/app/") },
            lines: RawText { bytes: [0, 1, 8, 2].into(), width: 1, is_cut: false },
        };
        let frame = frame_of(&code, 6);
        assert_eq!(
            (frame.function.as_str(), frame.file.as_str(), frame.line),
            ("load", "/app/...", Some(11))
        );
        assert_eq!(frame_of(&code, 8).line, Some(13));
        assert_eq!(frame_of(&CodeObject { format: 9, ..code }, 8).line, None);
    }
}
