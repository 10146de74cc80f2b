//! What the kernel side is told of a V8, and what is made of the functions that it sends.

use fdtrace_common::scripts::{self, ABSENT, kind, local};

use super::{FORMAT, Interpreter, stub::Isolate};
use crate::runtimes::{CodeObject, RawText, ScriptFrame};

impl Interpreter {
    /// Where this build has what, without the file's own code.
    pub(in crate::runtimes) fn layout_for_kernel(&self) -> scripts::Interpreter {
        let layout = &self.layout;
        let (thread_key, runtime, fixed) = match self.isolate {
            Isolate::Key(at) => (local::KEY, at, 0),
            Isolate::Loaded(at) => (local::LOADED, at, 0),
            Isolate::Fixed(offset) => (local::FIXED, self.current, i64::from(offset).cast_unsigned()),
            Isolate::Dynamic(at) => (local::DYNAMIC, at, 0),
        };
        scripts::Interpreter {
            kind: kind::V8,
            runtime,
            code_type: fixed,
            thread_key,
            frame: self.exit_frame,
            instruction: layout.frame,
            code: layout.shared,
            function: layout.name,
            file: layout.script,
            count: layout.number,
            delegate: layout.function_data,
            thrown: layout.instructions.unwrap_or(ABSENT),
            part_at: layout.code_header,
            part_bytes: layout.instructions_size,
            version: layout.offsets,
            stack_kind: layout.code_kind,
            lines: layout.positions,
            instructions: layout.bytecodes,
            generated: layout.scope,
            first_line: layout.variables,
            positions: layout.scope_positions.unwrap_or(0),
            units: layout.first_other,
            owner: layout.scope_kind,
            entry: layout.script_kind,
            entry_at: layout.bytecodes_kind,
            entry_bytes: layout.positions_kind,
            format: FORMAT,
            ..scripts::Interpreter::default()
        }
    }
}

/// The call that stands at an instruction of a function.
pub(in crate::runtimes) fn frame_of(code: &CodeObject, _instruction: i32) -> ScriptFrame {
    let function = match text(&code.function) {
        name if name.is_empty() => "<anonymous>".to_owned(),
        name => name,
    };
    ScriptFrame { function, file: text(&code.file), line: None }
}

fn text(text: &RawText) -> String {
    text.shown(|bytes| match text.width {
        2 => {
            let units = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
            String::from_utf16_lossy(&units.collect::<Vec<_>>())
        }
        // Latin-1
        _ => bytes.iter().map(|byte| char::from(*byte)).collect(),
    })
}
