//! The screen.

use std::io::{self, Write};

use super::Document;
use crate::report::words::number;

/// Writes a document as text.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document) -> io::Result<()> {
    writeln!(out, "{:>9} handles", number(document.handles.total))?;
    for (holder, count) in document.handles.by_holder.iter().filter(|(_, count)| **count > 0) {
        writeln!(out, "{:>9} {holder}", number(*count))?;
    }
    Ok(())
}
