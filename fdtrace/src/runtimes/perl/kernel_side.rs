//! What the kernel side is told of a Perl, and what is made of the calls that it sends.

use fdtrace_common::scripts::{self, ABSENT, kind};

use super::{FORMAT, Globals, Interpreter, versions::OPERATION};
use crate::runtimes::{CodeObject, RawText, ScriptFrame};

impl Interpreter {
    /// Where this build has what, without the file's own code.
    pub(in crate::runtimes) fn layout_for_kernel(&self) -> scripts::Interpreter {
        let layout = &self.layout;
        let common = scripts::Interpreter {
            kind: kind::PERL,
            stack_kind: layout.stack_kind,
            frame_bytes: layout.context_bytes,
            code: layout.code,
            next_state: layout.next_state,
            package_name: layout.package_name.unwrap_or(ABSENT),
            format: FORMAT,
            ..scripts::Interpreter::default()
        };
        match self.globals {
            Globals::Threads { key, .. } => scripts::Interpreter {
                runtime: key,
                thread_key: 0,
                frame: layout.stack,
                statement: layout.statement,
                instruction: OPERATION,
                file_is_glob: 0,
                ..common
            },
            Globals::Variables { first, statement, operation, stack } => scripts::Interpreter {
                runtime: first,
                thread_key: ABSENT,
                frame: stack,
                statement,
                instruction: operation,
                file_is_glob: 1,
                ..common
            },
        }
    }
}

/// What a call is of, as the kernel side says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Subroutine,
    Program,
    /// `eval STRING`
    String,
    /// `require`, `use`, `do FILE`
    File,
    /// A subroutine that has no name any more.
    Unknown,
}

impl Of {
    const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Subroutine,
            1 => Self::Program,
            2 => Self::String,
            3 => Self::File,
            _ => Self::Unknown,
        }
    }
}

/// The call that stands at a line.
pub(in crate::runtimes) fn frame_of(code: &CodeObject, line: i32) -> ScriptFrame {
    let function = named(Of::from_number(code.first_line), &text(&code.lines), &text(&code.function));
    ScriptFrame { function, file: text(&code.file), line: u32::try_from(line).ok() }
}

/// What a call is called, where it can be as `caller` has it: `package::name`.
pub(super) fn named(of: Of, package: &str, name: &str) -> String {
    match (of, package) {
        (Of::Program, _) => "{main}".to_owned(),
        (Of::String, _) => "(eval)".to_owned(),
        (Of::File, _) => "(require)".to_owned(),
        (Of::Unknown, _) => "(unknown)".to_owned(),
        (Of::Subroutine, "") => name.to_owned(),
        (Of::Subroutine, package) => format!("{package}::{name}"),
    }
}

/// Perl keeps what is of Latin-1 in that, and all else in UTF-8.
pub(super) fn characters(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

fn text(text: &RawText) -> String {
    if !text.is_cut {
        return characters(&text.bytes);
    }
    // The last character may be a half.
    let end = std::str::from_utf8(&text.bytes).err().filter(|error| error.error_len().is_none());
    let whole = end.map_or(&text.bytes[..], |error| &text.bytes[..error.valid_up_to()]);
    characters(whole) + "..."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &[u8]) -> RawText {
        RawText { bytes: text.into(), width: 1, is_cut: false }
    }

    fn code(of: u32, package: &[u8], function: &[u8]) -> CodeObject {
        CodeObject {
            key: 4,
            format: FORMAT,
            first_line: of,
            function: raw(function),
            file: RawText { is_cut: true, ..raw(b"/srv/\xc3") },
            lines: raw(package),
        }
    }

    #[test]
    fn a_call_has_its_line() {
        let frame = frame_of(&code(0, b"App::Db", b"open"), 12);
        assert_eq!(
            (frame.function.as_str(), frame.file.as_str(), frame.line),
            ("App::Db::open", "/srv/...", Some(12))
        );
        assert_eq!(frame_of(&code(0, b"", b"lexical"), -1).function, "lexical");
        assert_eq!(frame_of(&code(0, b"", b"lexical"), -1).line, None);
    }

    #[test]
    fn what_has_no_name_says_what_it_is() {
        let names: Vec<_> = (1..6).map(|of| frame_of(&code(of, b"", b""), 1).function).collect();
        assert_eq!(names, ["{main}", "(eval)", "(require)", "(unknown)", "(unknown)"]);
    }

    #[test]
    fn names_are_of_two_encodings() {
        assert_eq!(characters("größe".as_bytes()), "größe");
        assert_eq!(characters(b"gr\xf6\xdfe"), "größe");
    }
}
