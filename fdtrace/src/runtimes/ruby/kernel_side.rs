//! What the kernel side is told of a Ruby, and what is made of the instruction sequences that it sends.

use fdtrace_common::scripts::{self, ABSENT, kind};

use super::{
    Context, FORMAT, Interpreter,
    stub::ThreadLocal,
    versions::{CONTEXT, COUNT, ENVIRONMENT, FILE, FIRST_LINE, FUNCTION, LIVING, POSITIONS, PTHREAD, THREAD},
};
use crate::runtimes::{CodeObject, RawText, ScriptFrame};

impl Interpreter {
    /// Where this build has what, without the file's own code.
    pub(in crate::runtimes) fn layout_for_kernel(&self) -> scripts::Interpreter {
        let layout = &self.layout;
        let (runtime, code_type, thread_key) = match self.context {
            Context::Listed { running, machine } => (running, machine, ABSENT),
            Context::Own(ThreadLocal::Dynamic(module)) => (module, 0, 0),
            Context::Own(ThreadLocal::Static(offset)) => (0, i64::from(offset).cast_unsigned(), 0),
        };
        scripts::Interpreter {
            kind: kind::RUBY,
            runtime,
            code_type,
            thread_key,
            frame: THREAD,
            pthread: PTHREAD,
            behind: CONTEXT,
            threads: LIVING,
            frame_bytes: layout.frame_bytes,
            entry_at: ENVIRONMENT,
            function: FUNCTION,
            file: FILE,
            first_line: FIRST_LINE,
            lines: layout.lines,
            count: layout.lines + COUNT,
            positions: layout.lines + POSITIONS,
            entry_bytes: layout.entry_bytes,
            ascii: layout.characters,
            format: FORMAT,
            ..scripts::Interpreter::default()
        }
    }
}

/// The call that stands at a line of an instruction sequence.
pub(in crate::runtimes) fn frame_of(code: &CodeObject, line: i32) -> ScriptFrame {
    // No line is 0.
    let line = u32::try_from(line).ok().filter(|line| *line != 0);
    ScriptFrame { function: text(&code.function), file: text(&code.file), line }
}

fn text(text: &RawText) -> String {
    text.shown(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &[u8]) -> RawText {
        RawText { bytes: text.into(), width: 1, is_cut: false }
    }

    #[test]
    fn a_call_has_its_line() {
        let code = CodeObject {
            key: 4,
            format: FORMAT,
            first_line: 10,
            function: raw(b"block in load"),
            file: RawText { is_cut: true, ..raw(b"/srv/\xff") },
            lines: raw(b""),
        };
        let frame = frame_of(&code, 12);
        assert_eq!(
            (frame.function.as_str(), frame.file.as_str(), frame.line),
            ("block in load", "/srv/\u{fffd}...", Some(12))
        );
        assert_eq!([frame_of(&code, 0).line, frame_of(&code, -1).line], [None; 2]);
    }
}
