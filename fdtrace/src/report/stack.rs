//! Stacks, in a few words or a frame a line.

use std::io::{self, Write};

use super::{
    KernelFrame, Style, UserFrame,
    fmt::{counted, escape_control},
    frames,
    text::paint,
};

/// The most frames of a stack in the short form.
const SHORT: usize = 6;

/// The innermost frames that tell something, outwards; harmless for a terminal.
#[must_use]
pub fn short(user: &[UserFrame], kernel: &[KernelFrame], complete: bool) -> String {
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
    let mut names: Vec<_> = user.iter().take(SHORT).map(words).collect();
    if user.len() > SHORT {
        names.push("...".to_owned());
    }
    if !complete {
        names.push("?".to_owned());
    }
    names.join(" < ")
}

/// A frame's function, else its place in its module, as it is: not escaped.
pub(super) fn name(frame: &UserFrame) -> String {
    match (&frame.symbol, &frame.module) {
        (Some(symbol), _) => symbol.clone(),
        (None, Some(module)) => format!("{}+{:#x}", file_name(module), frame.offset),
        (None, None) => format!("{:#x}", frame.offset),
    }
}

/// A frame in a few words: `function at folder/file.c:12 (inlined)`; harmless for a terminal.
fn words(frame: &UserFrame) -> String {
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    let name = name(frame);
    let text = match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{name} at {}:{line}{inlined}", last_two(file)),
        (Some(file), None) => format!("{name} at {}{inlined}", last_two(file)),
        (None, _) => name + inlined,
    };
    escape_control(&text)
}

/// Where a stack is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// Columns before the mark.
    pub(super) indent: usize,
    /// The most frames.
    pub(super) frames: usize,
}

/// The frames that say something, one on each line, innermost first, with a mark at the one to look at. All of them where the
/// style is verbose.
pub(super) fn write(
    out: &mut impl Write,
    user: &[UserFrame],
    kernel: &[KernelFrame],
    complete: bool,
    block: Block,
    style: Style,
) -> io::Result<()> {
    let indent = " ".repeat(block.indent);
    if user.is_empty() {
        return writeln!(out, "{indent}  {}", short(&[], kernel, true));
    }
    let most = if style.verbose { usize::MAX } else { block.frames };
    let lines = lines(user, style.verbose);
    let names = lines.iter().take(most).map(|line| line.name.chars().count());
    let width = names.max().unwrap_or_default().min(WIDEST_NAME);
    for line in lines.iter().take(most) {
        let mark = if line.is_own { ">" } else { " " };
        let text = format!("{indent}{mark} {:<width$}  {}", line.name, line.place);
        let text = text.trim_end();
        writeln!(out, "{}", if line.is_own { paint(style, "1", text) } else { text.to_owned() })?;
    }
    if lines.len() > most {
        writeln!(out, "{indent}  and {} more (-v)", counted((lines.len() - most) as u64, "frame"))?;
    }
    if !complete {
        writeln!(out, "{indent}  ? the stack ends before the thread's first function")?;
    }
    Ok(())
}

/// The stack of a site, below its row in a table.
pub(super) fn write_below_row(
    out: &mut impl Write,
    user: &[UserFrame],
    kernel: &[KernelFrame],
    complete: bool,
    style: Style,
) -> io::Result<()> {
    match style.verbose {
        true => write_whole(out, user, kernel, complete),
        false => write(out, user, kernel, complete, Block { indent: 8, frames: 5 }, style),
    }
}

/// Names that are longer push their place to the right.
const WIDEST_NAME: usize = 40;

/// A frame as it is shown.
struct Line {
    name: String,
    place: String,
    is_own: bool,
}

/// The frames that say something: of the runtime only the function by which the program entered it, and nothing of what
/// calls `main`.
fn lines(user: &[UserFrame], all: bool) -> Vec<Line> {
    let own = frames::own_index(user);
    let line = |index: usize| line(&user[index], own == Some(index));
    if all {
        return (0..user.len()).map(line).collect();
    }
    let inside = user.iter().take_while(|frame| frames::is_runtime(frame)).count();
    let end = user.iter().rposition(|frame| !frames::is_runtime(frame)).map_or(user.len(), |last| last + 1);
    (inside.saturating_sub(1)..end).map(line).collect()
}

fn line(frame: &UserFrame, is_own: bool) -> Line {
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    let source = match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{}:{line}{inlined}  ", last_two(file)),
        (Some(file), None) => format!("{}{inlined}  ", last_two(file)),
        (None, _) => String::new(),
    };
    let module = file_name(frame.module.as_deref().unwrap_or_default());
    Line { name: escape_control(&name(frame)), place: escape_control(&format!("{source}{module}")), is_own }
}

/// All frames, one on each line, the kernel's first.
fn write_whole(
    out: &mut impl Write,
    user: &[UserFrame],
    kernel: &[KernelFrame],
    complete: bool,
) -> io::Result<()> {
    for frame in kernel {
        writeln!(out, "          [kernel] {}+{:#x}", escape_control(&frame.symbol), frame.offset)?;
    }
    for frame in user {
        writeln!(out, "          {}  {}", words(frame), escape_control(&place_in_module(frame)))?;
    }
    if !user.is_empty() && !complete {
        writeln!(out, "          ? the stack ends before the thread's first function")?;
    }
    Ok(())
}

/// Where a frame's code is; with the build-id where it has no name, so that it can be named later.
fn place_in_module(frame: &UserFrame) -> String {
    let module = frame.module.as_deref().unwrap_or("[anonymous memory]");
    let place = format!("{module}+{:#x}", frame.offset);
    match &frame.build_id {
        Some(build_id) if frame.symbol.is_none() => format!("{place}  build-id {build_id}"),
        _ => place,
    }
}

/// A source file and its folder: enough to know it by, and short enough for a line.
pub(super) fn last_two(path: &str) -> &str {
    let start = path.rmatch_indices('/').nth(1).map_or(0, |(slash, _)| slash + 1);
    &path[start..]
}

/// Where a stack is, in one name, not escaped: the first frame outside of libc, or the innermost one.
#[must_use]
pub fn place(user: &[UserFrame], kernel: &[KernelFrame]) -> String {
    let outside = user.iter().find(|frame| frame.module.as_deref().is_some_and(|module| !is_wrapper(module)));
    match outside.or_else(|| user.first()) {
        Some(frame) => name(frame),
        None => kernel.get(1).map_or_else(|| "the kernel".to_owned(), |frame| frame.symbol.clone()),
    }
}

pub(super) fn file_name(module: &str) -> &str {
    module.rsplit('/').next().unwrap_or(module)
}

/// Functions of these modules say nothing of who called.
fn is_wrapper(module: &str) -> bool {
    ["libc.so", "libc-2", "libc.musl", "ld-", "libpthread"]
        .iter()
        .any(|prefix| file_name(module).starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};

    #[test]
    fn the_place_is_outside_of_libc() {
        let user = [frame("open64", "/usr/lib/libc.so.6", 1), frame("leak", "/app", 2)];
        assert_eq!(place(&user, &[]), "leak");
        assert_eq!(place(&user[..1], &[]), "open64");
        assert_eq!(place(&[], &kernel(&["alloc_empty_file", "path_openat"])), "path_openat");
        assert_eq!(place(&[], &[]), "the kernel");
    }

    #[test]
    fn whole_stacks() {
        let inner = UserFrame {
            file: Some("/build/project/src/a.c".to_owned()),
            line: Some(12),
            inlined: true,
            ..frame("a", "/app", 1)
        };
        let nameless = UserFrame { symbol: None, ..frame("", "/app", 2) };
        let user = [inner, frame("b", "/app", 1), nameless];
        assert_eq!(
            written(|out| write_whole(out, &user, &kernel(&["k"]), false)),
            "          [kernel] k+0x10\n          a at src/a.c:12 (inlined)  /app+0x1\n          b  /app+0x1\n          \
             app+0x2  /app+0x2  build-id b1d04\n          ? the stack ends before the thread's first function\n"
        );
    }

    #[test]
    fn short_stacks() {
        let nameless = UserFrame { symbol: None, ..frame("", "/opt/app", 0x2a) };
        let user = [frame("a\x1bb", "/app", 1), nameless];
        assert_eq!(short(&user, &[], true), "a\\u{1b}b < app+0x2a");
        assert_eq!(short(&user, &[], false), "a\\u{1b}b < app+0x2a < ?");
        assert_eq!(short(&[], &kernel(&["alloc_empty_file", "do_shmat"]), true), "kernel: do_shmat");
        assert_eq!(short(&[], &[], true), "no stack");
        let long: Vec<_> = (0..9).map(|offset| frame("f", "/app", offset)).collect();
        assert_eq!(short(&long, &[], true), "f < f < f < f < f < f < ...");
        assert_eq!(short(&long, &[], false), "f < f < f < f < f < f < ... < ?");
    }

    #[test]
    fn sources() {
        let at = |file: &str, line| UserFrame { file: Some(file.to_owned()), line, ..frame("f", "/app", 1) };
        assert_eq!(words(&at("/build/project/src/a.c", Some(7))), "f at src/a.c:7");
        assert_eq!(words(&at("/a.c", None)), "f at /a.c");
        assert_eq!(words(&at("a.c", Some(7))), "f at a.c:7");
        assert_eq!(words(&at("/x/\x1b[2J/\u{202e}\n.c", Some(7))), "f at \\u{1b}[2J/\\u{202e}\\n.c:7");
        let inlined = UserFrame { inlined: true, ..at("x/y.rs", Some(1)) };
        assert_eq!(short(&[inlined], &[], true), "f at x/y.rs:1 (inlined)");
    }
}
