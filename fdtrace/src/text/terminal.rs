//! The way of every text to whoever reads it.
//!
//! Each view makes names harmless where it puts them into a line. What it forgets, this does: nothing passes that steers
//! a terminal but line ends and the few styles that views paint with.

use std::io::{self, Write};

use super::fmt::steers;

/// A writer of text. It escapes whatever a terminal would obey.
pub(crate) struct Terminal<W: Write> {
    out: W,
    /// Whether the styles of [`crate::report::text::paint`] pass.
    styled: bool,
}

impl<W: Write> Terminal<W> {
    /// A text that goes there, with styles or without.
    pub(crate) const fn new(out: W, styled: bool) -> Self {
        Self { out, styled }
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(|character| character != '\n' && steers(character)) {
            let (before, behind) = rest.split_at(at);
            self.out.write_all(before.as_bytes())?;
            let style = if self.styled { style(behind) } else { 0 };
            let length = match style {
                0 => self.escape(behind)?,
                length => {
                    self.out.write_all(&behind.as_bytes()[..length])?;
                    length
                }
            };
            rest = &behind[length..];
        }
        self.out.write_all(rest.as_bytes())
    }

    /// Writes the first character as what it is, and says how long it was.
    fn escape(&mut self, text: &str) -> io::Result<usize> {
        let Some(first) = text.chars().next() else { return Ok(0) };
        write!(self.out, "{}", first.escape_default())?;
        Ok(first.len_utf8())
    }
}

impl<W: Write> Write for Terminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for chunk in bytes.utf8_chunks() {
            self.put(chunk.valid())?;
            chunk.invalid().iter().try_for_each(|byte| write!(self.out, "\\x{byte:02x}"))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A line of text with nothing in it that ends it or steers a terminal: of a message that is made of parts which may have
/// lines, only these pass.
#[must_use]
pub(crate) fn lines(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    // A vector takes everything.
    drop(Terminal::new(&mut out, false).write_all(text.as_bytes()));
    String::from_utf8_lossy(&out).into_owned()
}

/// How long the style is that a text begins with: bold, colours of the foreground, and the end of these.
fn style(text: &str) -> usize {
    let Some(inside) = text.strip_prefix("\x1b[") else { return 0 };
    let Some(length) = inside.find('m').filter(|length| (1..=4).contains(length)) else { return 0 };
    let known = |code: &str| matches!(code, "0" | "1" | "2" | "31" | "32" | "33");
    if inside[..length].split(';').all(known) { length + 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &[u8], styled: bool) -> String {
        let mut out = Vec::new();
        Terminal::new(&mut out, styled).write_all(text).expect("a vector");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn nothing_steers_a_terminal() {
        let text = "a\x1b[2J\u{7}\u{9b}31m\u{202e}\u{2028}\u{e0041}\r\tb\n".as_bytes();
        let expected = "a\\u{1b}[2J\\u{7}\\u{9b}31m\\u{202e}\\u{2028}\\u{e0041}\\r\\tb\n";
        assert_eq!(written(text, false), expected);
        assert_eq!(written(text, true), expected);
        assert_eq!(written(b"a\xff\xc3", false), "a\\xff\\xc3");
        assert_eq!(lines("a\nb\x1b"), "a\nb\\u{1b}");
    }

    #[test]
    fn styles_pass_where_they_are_wanted() {
        let text = "\x1b[1;31mred\x1b[0m \x1b[1mbold\x1b[0m";
        assert_eq!(written(text.as_bytes(), true), text);
        assert!(!written(text.as_bytes(), false).contains('\x1b'));
        for other in ["\x1b[8m", "\x1b[2J", "\x1b]0;m", "\x1b[m", "\x1b[31;8m", "\x1b[38;5;1m", "\x1b"] {
            assert!(!written(other.as_bytes(), true).contains('\x1b'), "{other:?}");
        }
    }
}
