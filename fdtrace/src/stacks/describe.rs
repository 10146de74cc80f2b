//! Frames and stacks in words.

use super::{
    libraries::{file_name, is_c_runtime},
    own::{interpreter, is_runtime, own},
    script_frames::{is_script, telling},
};
use crate::{
    model::{KernelFrame, Site, UserFrame},
    text::fmt::escape_control,
};

/// The most frames of a stack in the short form.
const SHORT: usize = 6;

/// The innermost frames that tell something, outwards; harmless for a terminal.
#[must_use]
pub(crate) fn short_stack(user: &[UserFrame], kernel: &[KernelFrame], complete: bool) -> String {
    if user.is_empty() {
        // The innermost kernel function is the allocation itself, which tells nothing.
        let names: Vec<_> =
            kernel.iter().skip(1).take(SHORT).map(|frame| escape_control(&frame.symbol)).collect();
        return if names.is_empty() {
            "no stack".to_owned()
        } else {
            format!("kernel: {}", names.join(" < "))
        };
    }
    let mut names: Vec<_> = telling(user).take(SHORT).map(words).collect();
    if telling(user).nth(SHORT).is_some() {
        names.push("...".to_owned());
    }
    if !complete {
        names.push("?".to_owned());
    }
    names.join(" < ")
}

/// A frame's function, else its place in its module, as it is: not escaped.
pub(crate) fn name(frame: &UserFrame) -> String {
    match (&frame.symbol, &frame.module) {
        (Some(symbol), _) => symbol.clone(),
        (None, Some(module)) => format!("{}+{:#x}", file_name(module), frame.offset),
        (None, None) => format!("{:#x}", frame.offset),
    }
}

/// A frame in a few words: `function at folder/file.c:12 (inlined)`; harmless for a terminal.
pub(crate) fn words(frame: &UserFrame) -> String {
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    let name = name(frame);
    let words = position(frame).map_or_else(|| name.clone(), |position| format!("{name} at {position}"));
    escape_control(&(words + inlined))
}

fn name_and_line(frame: &UserFrame) -> String {
    let name = name(frame);
    match source(frame) {
        Some(source) => format!("{name} at {source}"),
        None => name,
    }
}

/// A frame's source, `folder/file.c:12`, as it is: not escaped.
pub(crate) fn source(frame: &UserFrame) -> Option<String> {
    let file = last_two(frame.file.as_deref()?);
    Some(frame.line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}")))
}

/// The same with the column, where that is known: `folder/file.js:12:5`.
pub(crate) fn position(frame: &UserFrame) -> Option<String> {
    let source = source(frame)?;
    Some(frame.column.map_or_else(|| source.clone(), |column| format!("{source}:{column}")))
}

/// A source file and its folder: enough to know it by, and short enough for a line.
fn last_two(path: &str) -> &str {
    let start = path.rmatch_indices('/').nth(1).map_or(0, |(slash, _)| slash + 1);
    &path[start..]
}

/// Where a stack is, in one name, not escaped: the script's line, else the first frame outside of libc, or the innermost one.
#[must_use]
pub(crate) fn place(user: &[UserFrame], kernel: &[KernelFrame]) -> String {
    if let Some(line) = own(user).filter(|frame| is_script(frame)) {
        return name_and_line(line);
    }
    let outside =
        user.iter().find(|frame| frame.module.as_deref().is_some_and(|module| !is_c_runtime(module)));
    match outside.or_else(|| user.first()) {
        Some(frame) => name(frame),
        None => kernel.get(1).map_or_else(|| "the kernel".to_owned(), |frame| frame.symbol.clone()),
    }
}

/// Where a frame is, for a sentence: `src/server.c:41 (handle_request)`, else its function and module; of a script
/// `load_config at app/db.py:12`. An address says nothing there, and is another one in the next run.
pub(crate) fn place_of_frame(frame: &UserFrame) -> String {
    if is_script(frame) {
        return words(frame);
    }
    let name = match (&frame.symbol, &frame.module) {
        (None, Some(module)) => format!("{} (no symbols)", file_name(module)),
        _ => name(frame),
    };
    let text = match (source(frame).filter(|_| frame.line.is_some()), &frame.module) {
        (Some(source), _) => format!("{source} ({name})"),
        (None, Some(module)) if frame.symbol.is_some() => format!("{name} in {}", file_name(module)),
        _ => name,
    };
    escape_control(&text)
}

/// Where a site is, for a sentence.
pub(crate) fn place_of_site(site: &Site) -> String {
    place_of(&site.user_stack, &site.kernel_stack)
}

/// Where a site is, for a sentence; the kernel's function where no process is in it.
pub(crate) fn place_of(user: &[UserFrame], kernel: &[KernelFrame]) -> String {
    if let Some(frame) = own(user) {
        return place_of_frame(frame);
    }
    match user.iter().find(|frame| !is_runtime(frame)) {
        Some(frame) if interpreter(frame) == Some("java") => "java".to_owned(),
        Some(frame) => escape_control(file_name(frame.module.as_deref().unwrap_or("code without a name"))),
        None => escape_control(&place(user, kernel)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::*;

    #[test]
    fn the_place_is_outside_of_libc() {
        let user = [frame("open64", "/usr/lib/libc.so.6", 1), frame("leak", "/app", 2)];
        assert_eq!(place(&user, &[]), "leak");
        assert_eq!(place(&user[..1], &[]), "open64");
        assert_eq!(place(&[], &kernel(&["alloc_empty_file", "path_openat"])), "path_openat");
        assert_eq!(place(&[], &[]), "the kernel");
    }

    #[test]
    fn no_address_is_a_place() {
        let nameless = |module: Option<&str>| UserFrame {
            symbol: None,
            module: module.map(str::to_owned),
            ..frame("", "", 0x7f12_3456)
        };
        let compiled = nameless(None);
        let stripped = nameless(Some("/opt/app"));
        let named = frame("uv_fs_open", "/usr/lib/libuv.so.1", 1);
        assert_eq!(place_of(std::slice::from_ref(&compiled), &[]), "code without a name");
        assert_eq!(place_of(&[compiled.clone(), stripped.clone()], &[]), "app (no symbols)");
        assert_eq!(place_of(&[compiled, named, stripped], &[]), "uv_fs_open in libuv.so.1");
    }

    #[test]
    fn short_stacks() {
        let nameless = UserFrame { symbol: None, ..frame("", "/opt/app", 0x2a) };
        let user = [frame("a\x1bb", "/app", 1), nameless];
        assert_eq!(short_stack(&user, &[], true), "a\\u{1b}b < app+0x2a");
        assert_eq!(short_stack(&user, &[], false), "a\\u{1b}b < app+0x2a < ?");
        assert_eq!(short_stack(&[], &kernel(&["alloc_empty_file", "do_shmat"]), true), "kernel: do_shmat");
        assert_eq!(short_stack(&[], &[], true), "no stack");
        let long: Vec<_> = (0..9).map(|offset| frame("f", "/app", offset)).collect();
        assert_eq!(short_stack(&long, &[], true), "f < f < f < f < f < f < ...");
        assert_eq!(short_stack(&long, &[], false), "f < f < f < f < f < f < ... < ?");
    }

    #[test]
    fn scripts() {
        let user = [
            frame("open64", "/usr/lib/libc.so.6", 1),
            frame("_io_open", "/usr/bin/python3.11", 1),
            script("load", "/srv/app/\x1b.py", 12),
            script("main", "/srv/app/db.py", 30),
        ];
        assert_eq!(
            short_stack(&user, &[], true),
            "open64 < load at app/\\u{1b}.py:12 < main at app/db.py:30"
        );
        assert_eq!(place(&user, &[]), "load at app/\x1b.py:12", "as it is");
        assert_eq!(place_of(&user, &[]), "load at app/\\u{1b}.py:12");
        assert_eq!(place(&user[..2], &[]), "_io_open");
    }

    #[test]
    fn sources() {
        let at = |file: &str, line| UserFrame { file: Some(file.to_owned()), line, ..frame("f", "/app", 1) };
        assert_eq!(words(&at("/build/project/src/a.c", Some(7))), "f at src/a.c:7");
        assert_eq!(words(&at("/a.c", None)), "f at /a.c");
        assert_eq!(words(&at("a.c", Some(7))), "f at a.c:7");
        assert_eq!(words(&UserFrame { column: Some(5), ..at("a.js", Some(7)) }), "f at a.js:7:5");
        assert_eq!(words(&at("/x/\x1b[2J/\u{202e}\n.c", Some(7))), "f at \\u{1b}[2J/\\u{202e}\\n.c:7");
        let inlined = UserFrame { inlined: true, ..at("x/y.rs", Some(1)) };
        assert_eq!(short_stack(&[inlined], &[], true), "f at x/y.rs:1 (inlined)");
    }
}
