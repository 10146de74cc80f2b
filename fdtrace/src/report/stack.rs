//! Stacks, in a few words or a frame a line.

use std::io::{self, Write};

use super::{Style, text::paint};
use crate::{
    model::{KernelFrame, UserFrame},
    stacks::{
        self,
        describe::{last_two, name, words},
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
    let own = stacks::own_index(user);
    let line = |index: usize| line(&user[index], own == Some(index));
    if all {
        return (0..user.len()).map(line).collect();
    }
    let inside = user.iter().take_while(|frame| stacks::is_runtime(frame)).count();
    let end = user.iter().rposition(|frame| !stacks::is_runtime(frame)).map_or(user.len(), |last| last + 1);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::*;

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
