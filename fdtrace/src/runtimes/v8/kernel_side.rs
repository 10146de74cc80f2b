//! What the kernel side is told of a V8, and what is made of the functions that it sends.

use fdtrace_common::{
    scripts::{self, ABSENT, kind, local},
    v8::V8,
};

use super::{FORMAT, Interpreter, stub::Isolate, translations::Translations};
use crate::runtimes::{CodeObject, RawText, ScriptFrame};

impl Interpreter {
    /// Where this build has what, without the file's own code.
    pub(in crate::runtimes) fn layout_for_kernel(&self) -> scripts::Interpreter {
        let layout = &self.layout;
        let (local, runtime, local_offset) = match self.isolate {
            Isolate::Key(at) => (local::KEY, at, 0),
            Isolate::Loaded(at) => (local::LOADED, at, 0),
            Isolate::Fixed(offset) => (local::FIXED, self.current, i64::from(offset).cast_unsigned()),
            Isolate::Dynamic(at) => (local::DYNAMIC, at, 0),
        };
        let translations = self.translations.as_ref();
        let of = |part: fn(&Translations) -> u32| translations.map_or(0, part);
        V8 {
            code_delta: 0,
            runtime,
            local_offset,
            local,
            exit_frame: self.exit_frame,
            frame_bytecodes: layout.frame,
            shared: layout.shared,
            name: layout.name,
            script: layout.script,
            number: layout.number,
            function_data: layout.function_data,
            instructions: layout.instructions.unwrap_or(ABSENT),
            code_header: layout.code_header,
            instructions_size: layout.instructions_size,
            offsets: layout.offsets,
            deoptimization: layout.deoptimization,
            flags: layout.flags,
            positions: layout.positions,
            bytecodes: layout.bytecodes,
            scope: layout.scope,
            variables: layout.variables,
            scope_positions: layout.scope_positions.unwrap_or(0),
            first_other: layout.first_other,
            scope_kind: layout.scope_kind,
            script_kind: layout.script_kind,
            bytecodes_kind: layout.bytecodes_kind,
            positions_kind: layout.positions_kind,
            code_kind: layout.code_kind,
            stream_kind: layout.stream_kind,
            shared_kind: layout.shared_kind,
            format: FORMAT,
            kind: kind::V8,
            maglev: translations.map_or(ABSENT, |known| known.maglev),
            safepoints: of(|known| known.safepoints),
            literals: of(Translations::literals),
            operation_shift: of(|known| known.operation_shift),
            operations: of(|known| known.operations),
            operands: translations.map_or([0; 6], |known| known.operands),
            bytes_kind: layout.bytes_kind,
            reserved: [0; 3],
        }
        .interpreter()
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
