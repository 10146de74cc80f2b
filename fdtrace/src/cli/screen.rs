//! The terminal that a text is for.

use std::io::{self, Write};

use terminal_size::{Width, terminal_size_of};

use crate::{
    report::Style,
    text::{COLUMNS, fit},
};

/// One of a few columns has no room for a table.
const FEWEST: usize = 60;

/// How wide the terminal is; as wide as a page where there is none.
pub(super) fn columns() -> usize {
    // One that nobody has told its size has none.
    match terminal_size_of(io::stdout()) {
        Some((Width(columns), _)) if columns > 0 => usize::from(columns).max(FEWEST),
        _ => COLUMNS,
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
