//! Stacks, in a few words or a frame a line.

use std::io::{self, Write};

use super::{Style, text::paint};
use crate::{
    model::{KernelFrame, UserFrame},
    stacks::{
        self,
        describe::{name, position, words},
        libraries::file_name,
    },
    text::fmt::{counted, escape_control},
};

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
        return writeln!(out, "{indent}  {}", stacks::short_stack(&[], kernel, true));
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
    write_end(out, &indent, user, complete)
}

/// What is not on a stack that could be.
fn write_end(out: &mut impl Write, indent: &str, user: &[UserFrame], complete: bool) -> io::Result<()> {
    if stacks::is_for_another(user) {
        writeln!(out, "{indent}  ? asynchronous: another thread submitted it (--async shows who did)")?;
    }
    if !user.is_empty() && !complete {
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

/// Stands for the module of code whose name the process has written down itself.
const PERF_MAP: &str = "[perf map]";

/// Names that are longer push their place to the right.
const WIDEST_NAME: usize = 40;

/// A frame as it is shown.
struct Line {
    name: String,
    place: String,
    is_own: bool,
}

/// The frames that say something: of the runtime only the function by which the program entered it, and nothing of what
/// calls `main`; nothing of the interpreter of a script.
fn lines(user: &[UserFrame], all: bool) -> Vec<Line> {
    let own = stacks::own(user);
    let is_own = |frame: &UserFrame| own.is_some_and(|own| std::ptr::eq(own, frame));
    let line = |frame| line(frame, is_own(frame));
    if all {
        return user.iter().map(line).collect();
    }
    let frames: Vec<&UserFrame> = stacks::telling(user).collect();
    let last = frames.iter().rposition(|frame| !stacks::is_runtime(frame) && !frame.is_submission());
    // All of a script may be of the runtime's own library.
    let last = last.or_else(|| frames.iter().rposition(|frame| stacks::is_script(frame)));
    let end = last.map_or(frames.len(), |last| last + 1);
    let is_inside = |frame: &&&UserFrame| stacks::is_runtime(frame) && !is_own(frame);
    let inside = frames[..end].iter().take_while(is_inside).count();
    frames[inside.saturating_sub(1)..end].iter().copied().map(line).collect()
}

fn line(frame: &UserFrame, is_own: bool) -> Line {
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    let source = position(frame).map_or_else(String::new, |source| format!("{source}{inlined}  "));
    let module =
        if frame.perf_map { PERF_MAP } else { file_name(frame.module.as_deref().unwrap_or_default()) };
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
    write_end(out, "        ", user, complete)
}

/// Where a frame's code is; with the build-id where it has no name, so that it can be named later. Of a script its whole path.
fn place_in_module(frame: &UserFrame) -> String {
    if stacks::is_script(frame) {
        return frame.file.clone().unwrap_or_default();
    }
    let of_none = if frame.perf_map { PERF_MAP } else { "[anonymous memory]" };
    let module = frame.module.as_deref().unwrap_or(of_none);
    let place = format!("{module}+{:#x}", frame.offset);
    match &frame.build_id {
        Some(build_id) if frame.symbol.is_none() => format!("{place}  build-id {build_id}"),
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::*;

    #[test]
    fn a_scripts_stack_shows_no_interpreter() {
        let user = [
            frame("open64", "/usr/lib/libc.so.6", 1),
            frame("_io_open", "/usr/bin/python3.11", 2),
            script("open", "/usr/lib/python3.11/gzip.py", 9),
            script("load", "/srv/app/\x1b.py", 12),
            script("_run_code", "<frozen runpy>", 88),
            frame("Py_RunMain", "/usr/bin/python3.11", 3),
            frame("__libc_start_main", "/usr/lib/libc.so.6", 4),
        ];
        let short = |user: &[UserFrame]| -> Vec<String> {
            let lines = lines(user, false).into_iter();
            lines
                .map(|line| format!("{}{} {}", u8::from(line.is_own), line.name, line.place.trim()))
                .collect()
        };
        assert_eq!(short(&user), ["0open python3.11/gzip.py:9", "1load app/\\u{1b}.py:12"]);
        let library = [user[0].clone(), user[1].clone(), user[2].clone(), user[4].clone(), user[6].clone()];
        let shown = ["0open64 libc.so.6", "1open python3.11/gzip.py:9", "0_run_code <frozen runpy>:88"];
        assert_eq!(short(&library), shown, "all of it is the runtime's");
        assert_eq!(lines(&user, true).len(), user.len());
        assert_eq!(
            written(|out| write_whole(out, &user[1..4], &[], true)),
            "          _io_open  /usr/bin/python3.11+0x2\n          open at python3.11/gzip.py:9  \
             /usr/lib/python3.11/gzip.py\n          load at app/\\u{1b}.py:12  /srv/app/\\u{1b}.py\n"
        );
    }

    #[test]
    fn who_submitted_work_is_shown_if_it_is_the_runtime() {
        let user = [
            frame("open64", "/usr/lib/libc.so.6", 1),
            UserFrame::submission(),
            script("open", "/usr/lib/python3.11/gzip.py", 9),
        ];
        let names: Vec<_> = lines(&user, false).into_iter().map(|line| line.name).collect();
        assert_eq!(names, ["open64", "[submitted by]", "open"]);
    }

    #[test]
    fn work_for_another_thread_is_told() {
        let user = [frame("open64", "/usr/lib/libc.so.6", 1), frame("uv__fs_work", "/usr/bin/node", 1)];
        let shown = written(|out| write_end(out, "", &user, true));
        assert_eq!(shown, "  ? asynchronous: another thread submitted it (--async shows who did)\n");
        let known = [&user[..], &[UserFrame::submission()]].concat();
        assert_eq!(written(|out| write_end(out, "", &known, true)), "");
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
}
