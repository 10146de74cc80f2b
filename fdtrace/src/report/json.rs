use std::io::{self, Write};

use super::Document;

/// Writes a document as one line of JSON.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document) -> io::Result<()> {
    serde_json::to_writer(&mut *out, document)?;
    out.write_all(b"\n")?;
    out.flush()
}
