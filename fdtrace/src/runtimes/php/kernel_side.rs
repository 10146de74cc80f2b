//! What the kernel side is told of a PHP, and what is made of the functions that it sends.

use fdtrace_common::scripts::{self, ABSENT, kind};

use super::{
    FORMAT, Interpreter,
    versions::{CLASS, FLAGS, FRAME_BYTES, FUNCTION, INSTRUCTION, NAME, PREVIOUS},
};
use crate::runtimes::{CodeObject, RawText, ScriptFrame};

impl Interpreter {
    /// Where this build has what, without the file's own code.
    pub(in crate::runtimes) fn layout_for_kernel(&self) -> scripts::Interpreter {
        let layout = &self.layout;
        scripts::Interpreter {
            kind: kind::PHP,
            runtime: self.globals,
            code_type: layout.generator.map_or(0, |_| self.generators),
            generated: layout.generator.map_or(0, |(frame, _)| frame),
            delegate: layout.generator.map_or(0, |(_, delegate)| delegate),
            frame: layout.frame,
            thrown: layout.thrown.unwrap_or(ABSENT),
            frame_bytes: FRAME_BYTES,
            code: FUNCTION,
            previous: PREVIOUS,
            instruction: INSTRUCTION,
            entry_at: FLAGS,
            function: NAME,
            class: CLASS,
            file: layout.file,
            first_line: layout.first_line,
            instructions: layout.instructions,
            count: layout.count,
            format: FORMAT,
            ..scripts::Interpreter::default()
        }
    }
}

/// The call that stands at a line of a function.
pub(in crate::runtimes) fn frame_of(code: &CodeObject, line: i32) -> ScriptFrame {
    let function = named(&text(&code.lines), &text(&code.function));
    ScriptFrame { function, file: text(&code.file), line: u32::try_from(line).ok() }
}

/// What a function is called: `Class::method`; what stands outside of all functions has no name.
pub(super) fn named(class: &str, function: &str) -> String {
    match (class, function) {
        (_, "") => "{main}".to_owned(),
        ("", function) => function.to_owned(),
        (class, function) => format!("{class}::{function}"),
    }
}

/// Behind a zero is what makes names of classes without one unique.
pub(super) fn characters(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn text(text: &RawText) -> String {
    text.shown(characters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &[u8]) -> RawText {
        RawText { bytes: text.into(), width: 1, is_cut: false }
    }

    fn code(class: &[u8], function: &[u8]) -> CodeObject {
        CodeObject {
            key: 4,
            format: FORMAT,
            first_line: 10,
            function: raw(function),
            file: RawText { is_cut: true, ..raw(b"/srv/") },
            lines: raw(class),
        }
    }

    #[test]
    fn a_call_has_its_line() {
        let frame = frame_of(&code(b"App\\Db", b"open"), 12);
        assert_eq!(
            (frame.function.as_str(), frame.file.as_str(), frame.line),
            ("App\\Db::open", "/srv/...", Some(12))
        );
        assert_eq!(
            frame_of(&code(b"", b"load"), -1),
            ScriptFrame { function: "load".into(), line: None, ..frame }
        );
    }

    #[test]
    fn what_has_no_name_is_called_as_php_calls_it() {
        assert_eq!(frame_of(&code(b"", b""), 1).function, "{main}");
        assert_eq!(frame_of(&code(b"class@anonymous\0/a.php:3$0", b"f"), 1).function, "class@anonymous::f");
    }
}
