//! What the kernel side is told of a HotSpot, and what is made of the methods that it sends.

use fdtrace_common::{hotspot::Hotspot, scripts};

use super::{FORMAT, Interpreter, lines};
use crate::{
    model::UserFrame,
    runtimes::{CodeObject, RawText, Runtime, ScriptFrame},
};

/// Between a class and its source file.
const BETWEEN: u8 = 0;

/// What the name of a class that was made while the program ran has before an address.
const ADDRESSES: [&str; 3] = ["+0x", "/0x", ".0x"];

/// The function that goes from one stack to that of a virtual thread.
const ENTERS: &str = "jdk.internal.vm.Continuation.enterSpecial";

/// Whether a frame is where a virtual thread's stack begins: what has called that is whatever thread carries it.
pub(crate) fn begins_virtual_thread(frame: &UserFrame) -> bool {
    frame.runtime == Some(Runtime::Hotspot) && frame.symbol.as_deref() == Some(ENTERS)
}

impl Interpreter {
    /// Where this build has what, without the file's own code.
    pub(in crate::runtimes) fn layout_for_kernel(&self) -> scripts::Interpreter {
        self.layout().map_or_else(scripts::Interpreter::default, Hotspot::interpreter)
    }
}

/// The call that stands at an instruction of a method; `None` where the runtime's own stack traces leave it out.
pub(in crate::runtimes) fn frame_of(code: &CodeObject, instruction: i32) -> Option<ScriptFrame> {
    let mut parts = code.file.bytes.splitn(2, |byte| *byte == BETWEEN);
    let class = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let source = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    if code.first_line != 0 {
        return None;
    }
    let class = lasting(&class);
    let excluded = u8::try_from(code.format.wrapping_sub(FORMAT)).unwrap_or(0);
    let line = u32::try_from(instruction).ok().and_then(|at| lines::line(&code.lines.bytes, excluded, at));
    let function = format!("{}.{}", class.replace('/', "."), text(&code.function));
    Some(ScriptFrame { function, file: file(class, &source), line })
}

/// A class's name without what is of one process.
fn lasting(class: &str) -> &str {
    let end = ADDRESSES.iter().filter_map(|mark| class.find(mark)).min();
    &class[..end.unwrap_or(class.len())]
}

/// The source file in the folder of its package, which is where source folders have it; the class where it has none.
fn file(class: &str, source: &str) -> String {
    let package = class.rsplit_once('/').map(|(package, _)| package);
    match (package, source) {
        (_, "") => class.to_owned(),
        (Some(package), source) => format!("{package}/{source}"),
        (None, source) => source.to_owned(),
    }
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

    fn code(file: &[u8]) -> CodeObject {
        CodeObject {
            key: 4,
            format: FORMAT,
            first_line: 0,
            function: raw(b"open"),
            file: raw(file),
            // Line 3 from the first instruction on.
            lines: raw(&[3, 0]),
        }
    }

    #[test]
    fn a_call_has_its_class_and_its_line() {
        let frame = frame_of(&code(b"com/acme/Db$Pool\0Db.java"), 7).expect("a frame");
        assert_eq!(
            (frame.function.as_str(), frame.file.as_str(), frame.line),
            ("com.acme.Db$Pool.open", "com/acme/Db.java", Some(3))
        );
        let native = frame_of(&code(b"Main\0Main.java"), -1).expect("a frame");
        assert_eq!(
            (native.function.as_str(), native.file.as_str(), native.line),
            ("Main.open", "Main.java", None)
        );
        assert_eq!(frame_of(&code(b"a/B\0"), 0).expect("a frame").file, "a/B");
    }

    #[test]
    fn what_java_hides_is_hidden() {
        let hidden = CodeObject { first_line: 1, ..code(b"java/lang/Thread\0Thread.java") };
        assert_eq!(frame_of(&hidden, 0), None);
    }

    #[test]
    fn no_address_is_in_a_name() {
        for class in ["app/Main$$Lambda$14+0x0000000800c03000", "app/Main$$Lambda$14/0x00007f5b4c001000"] {
            let frame = frame_of(&code(&[class.as_bytes(), b"\0"].concat()), 0).expect("a frame");
            assert_eq!(
                (frame.function.as_str(), frame.file.as_str()),
                ("app.Main$$Lambda$14.open", "app/Main$$Lambda$14")
            );
        }
    }

    #[test]
    fn a_virtual_thread_begins_somewhere() {
        let frame = |runtime| UserFrame { runtime, symbol: Some(ENTERS.to_owned()), ..UserFrame::default() };
        assert!(
            begins_virtual_thread(&frame(Some(Runtime::Hotspot))) && !begins_virtual_thread(&frame(None))
        );
    }
}
