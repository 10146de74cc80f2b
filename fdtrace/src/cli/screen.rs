//! The terminal that a text is for.

use std::io::{self, Write};

use crate::report::{COLUMNS, Style, fit};

/// How wide the terminal is; as wide as a page where there is none.
pub(super) fn columns() -> usize {
    // SAFETY: all bytes zero are a size of nothing.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in one structure, which outlives the call.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    // A terminal that nobody has told its size says 0; one of a few columns has no room for a table.
    const FEWEST: usize = 60;
    match usize::from(size.ws_col) {
        0 => COLUMNS,
        _ if result != 0 => COLUMNS,
        columns => columns.max(FEWEST),
    }
}

/// Writes a text of which no line is wider than the terminal; as it is when all is asked for.
pub(super) fn fitted(
    mut out: impl Write,
    style: Style,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    if style.verbose {
        return write(&mut out);
    }
    let mut text = Vec::new();
    write(&mut text)?;
    out.write_all(fit(&String::from_utf8_lossy(&text), columns()).as_bytes())
}
