//! What of a call site outlives a rebuild of its program.

use fdtrace_common::hash;

use super::{FrameRef, Lasting, lasting, libraries::file_name, script_frames::GONE, telling};
use crate::model::{KernelFrame, Origin, UserFrame};

/// What compilers put behind the name of a function that they changed or took apart.
const MADE_OF: [&str; 6] = [".constprop.", ".isra.", ".part.", ".cold", ".llvm.", ".lto_priv."];

/// A site by the names of its functions: a hash of the origin and of all frames, each by its function and the name of its
/// module, without folders and versions. None for a site without a stack.
///
/// A frame without a function counts by its offset: two stripped programs do not match by chance. Code that the program made
/// while it ran, and what called that, does not count. The kernel's stack counts where there is no other, as in the id. Of a
/// script, runtime, function and the name of the file count: lines move with every change.
#[must_use]
pub(crate) fn name_id(origin: Origin, user: &[UserFrame], kernel: &[KernelFrame]) -> Option<String> {
    let start = text(hash::SEED, origin.name());
    let id = match (user, kernel) {
        ([], []) => return None,
        ([], kernel) => kernel.iter().fold(start, |hash, frame| text(hash, &frame.symbol)),
        (user, _) => lasting(telling(user).map(place)).fold(start, code),
    };
    Some(format!("{:016x}", hash::finish(id)))
}

fn code(hash: u64, frame: Lasting<'_>) -> u64 {
    match frame {
        Lasting::File(code) => {
            let hash = text(hash, module(code.module));
            match code.symbol {
                Some(symbol) => text(hash, function(symbol)),
                None => hash::mix(hash::mix(hash, 2), code.offset),
            }
        }
        Lasting::Script(code) => {
            [code.runtime.name(), file_name(code.file), code.function].into_iter().fold(hash, text)
        }
        Lasting::Made(name) => text(hash, &name),
        Lasting::InPage(offset) => hash::mix(hash::mix(hash, 2), offset),
    }
}

/// Where a stack's code is, `libc.so.6+0xf808f` or `cpython db.py:12 load`, innermost first: as much of it as the next run
/// has too.
pub(crate) fn code_places(user: &[UserFrame]) -> Vec<String> {
    let frames = telling(user).filter(|frame| !frame.inlined).map(place);
    let text = |frame: Lasting<'_>| match frame {
        Lasting::File(code) => format!("{}+{:#x}", file_name(code.module), code.offset),
        Lasting::Script(code) => {
            let line = code.line.unwrap_or_default();
            format!("{} {}:{line} {}", code.runtime, file_name(code.file), code.function)
        }
        Lasting::Made(name) => name.into_owned(),
        Lasting::InPage(offset) => format!("+{offset:#x}"),
    };
    lasting(frames).map(text).collect()
}

/// Whether one stack begins like the other. A file that was gone when somebody looked is known by the offset alone.
pub(crate) fn begin_alike(one: &[String], other: &[String]) -> bool {
    let offset = |place: &str| place.strip_prefix(GONE).map(str::to_owned);
    let alike = |one: &String, other: &String| {
        one == other
            || offset(one).is_some_and(|offset| other.ends_with(&offset))
            || offset(other).is_some_and(|offset| one.ends_with(&offset))
    };
    // The first frame is of libc, mostly.
    one.len().min(other.len()) > 1 && one.iter().zip(other).all(|(one, other)| alike(one, other))
}

/// Whether code that a program made has a name depends on when somebody looked: only files' functions count.
fn place(frame: &UserFrame) -> FrameRef<'_> {
    FrameRef { symbol: frame.module.as_ref().and(frame.symbol.as_deref()), ..FrameRef::of(frame) }
}

/// The end counts too: of two texts, one after the other, none can take bytes from the other.
fn text(hash: u64, text: &str) -> u64 {
    text.bytes().fold(hash::mix(hash, 1), |hash, byte| hash::mix(hash, byte.into()))
}

/// The function as it is in the source, whatever was made of it.
pub(crate) fn function(symbol: &str) -> &str {
    let end = MADE_OF.iter().filter_map(|made| symbol.find(made)).min();
    // A name does not begin with what is put behind it.
    &symbol[..end.filter(|end| *end > 0).unwrap_or(symbol.len())]
}

/// `libssl` of `/usr/lib/libssl.so.3`, `server` of `/opt/server-1.2`.
fn module(path: &str) -> &str {
    let name = file_name(path);
    let name = name.find(".so").map_or(name, |end| &name[..end]);
    let stem = name.trim_end_matches(|end: char| end.is_ascii_digit() || matches!(end, '.' | '-' | '_'));
    if stem.is_empty() { name } else { stem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::*;

    fn of(user: &[UserFrame]) -> String {
        name_id(Origin::Open, user, &[]).expect("a stack")
    }

    #[test]
    fn another_build_has_the_same_name() {
        let old = [frame("leak", "/opt/a/server-1.2.3", 1), frame("main", "/opt/a/server-1.2.3", 9)];
        let mut new =
            [frame("leak.constprop.0", "/srv/server-1.3", 71), frame("main", "/srv/server-1.3", 99)];
        assert_eq!(of(&old), of(&new));
        // What was inlined in one build may be a function of its own in the other.
        new[0].inlined = true;
        (new[0].file, new[0].line) = (Some("a.c".to_owned()), Some(7));
        assert_eq!(of(&old), of(&new));
    }

    #[test]
    fn all_else_is_another_site() {
        let one = [frame("leak", "/server", 1), frame("main", "/server", 9)];
        let with = |index: usize, frame| {
            let mut other = one.clone();
            other[index] = frame;
            other
        };
        assert_ne!(of(&one), of(&with(0, frame("other", "/server", 1))));
        assert_ne!(of(&one), of(&with(1, frame("main", "/client", 9))));
        assert_ne!(of(&one), of(&one[..1]));
        assert_ne!(Some(of(&one)), name_id(Origin::Socket, &one, &[]));
        let split = |one, two| [frame(one, "", 1), frame(two, "", 1)];
        assert_ne!(of(&split("ab", "c")), of(&split("a", "bc")));
    }

    #[test]
    fn nameless_frames_count_by_their_offsets() {
        let nameless = |offset| [UserFrame { symbol: None, ..frame("", "/server", offset) }];
        assert_eq!(of(&nameless(1)), of(&nameless(1)));
        assert_ne!(of(&nameless(1)), of(&nameless(2)));
    }

    #[test]
    fn code_of_one_run_is_in_no_name() {
        let made = |symbol: Option<&str>, offset| UserFrame {
            symbol: symbol.map(str::to_owned),
            module: None,
            ..frame("", "", offset)
        };
        let stack = |made| [frame("open", "/libjava.so", 1), made, frame("main", "/java", 2)];
        let first = of(&stack(made(None, 0x7f00_0000_1000)));
        assert_eq!(first, of(&stack(made(None, 0x7f11_1111_1234))));
        assert_eq!(
            first,
            of(&stack(made(Some("Main.main"), 0x7f11_1111_1234))),
            "its name was found in time"
        );
        assert_eq!(first, of(&stack(made(None, 1))[..2]), "and what called it was not");
    }

    #[test]
    fn a_script_is_its_functions_and_files() {
        let stack = |native: &str, script: UserFrame| {
            [frame("open", "/libc.so", 1), frame(native, "/usr/bin/python3.11", 1), script]
        };
        let one = of(&stack("_PyEval_EvalFrameDefault", script("load", "/app/db.py", 12)));
        assert_eq!(one, of(&stack("_PyEval_Vector", script("load", "/srv/app/db.py", 13))));
        assert_ne!(one, of(&stack("_PyEval_EvalFrameDefault", script("load", "/app/web.py", 12))));
        assert_ne!(one, of(&stack("_PyEval_EvalFrameDefault", script("save", "/app/db.py", 12))));
        let places = code_places(&stack("_PyEval_Vector", script("load", "/app/db.py", 12)));
        assert_eq!(places, ["libc.so+0x1", "cpython db.py:12 load"]);
    }

    #[test]
    fn a_stack_that_was_cut_begins_like_the_whole_one() {
        let stack = |frames: &[UserFrame]| code_places(frames);
        let open = || frame("open", "/lib/libc.so.6", 0x10);
        let java = |module: &str| frame("handleOpen", module, 0x20);
        let whole = stack(&[open(), java("/lib/libjava.so"), frame("fileOpen", "/lib/libjava.so", 0x30)]);
        assert_eq!(whole, ["libc.so.6+0x10", "libjava.so+0x20", "libjava.so+0x30"]);
        assert!(begin_alike(&whole, &stack(&[open(), java("[gone]")])));
        assert!(begin_alike(&whole[..2], &whole));
        assert!(!begin_alike(&whole, &stack(&[open(), java("/lib/libzip.so")])));
        assert!(!begin_alike(&whole, &stack(&[open(), frame("", "[gone]", 0x120)])), "0x120 is not 0x20");
        assert!(!begin_alike(&whole[..1], &whole), "libc alone says nothing");
    }

    #[test]
    fn the_kernel_stands_in() {
        let of = |symbols: &[&str]| name_id(Origin::Kernel, &[], &kernel(symbols));
        assert_ne!(of(&["a"]), of(&["b"]));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn words_of_names() {
        assert_eq!(
            ["/usr/lib/libssl.so.3", "/libc-2.31.so", "/app-1.2", "/7"].map(module),
            ["libssl", "libc", "app", "7"]
        );
        assert_eq!(["f.isra.0.cold", "f", ".cold", "f.llvm.12"].map(function), ["f", "f", ".cold", "f"]);
    }
}
