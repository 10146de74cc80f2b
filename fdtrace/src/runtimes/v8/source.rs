//! A script's text, with positions as V8 counts them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// From 1 on.
    pub(crate) line: u32,
    /// From 1 on, in UTF-16, as stack traces have it; where it is certain.
    pub(crate) column: Option<u32>,
}

/// A text that has been looked through.
pub(super) struct Source<'a> {
    text: &'a str,
    is_ascii: bool,
}

impl<'a> Source<'a> {
    /// A script of so many characters; `None` where the text is another one.
    pub(super) fn of(bytes: &'a [u8], length: usize) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        // Node leaves it out.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let found = Self { text, is_ascii: text.is_ascii() };
        (found.units(text) == length).then_some(found)
    }

    fn units(&self, text: &str) -> usize {
        if self.is_ascii { text.len() } else { text.chars().map(char::len_utf16).sum() }
    }

    /// Where in the text a position is, in bytes.
    pub(super) fn byte(&self, position: usize) -> Option<usize> {
        if self.is_ascii {
            return (position <= self.text.len()).then_some(position);
        }
        let mut units = 0;
        for (at, character) in self.text.char_indices() {
            if units >= position {
                return Some(at);
            }
            units += character.len_utf16();
        }
        (units == position).then_some(self.text.len())
    }

    pub(super) fn part(&self, range: &Range<usize>) -> Option<(usize, &'a str)> {
        let (start, end) = (self.byte(range.start)?, self.byte(range.end)?);
        Some((start, self.text.get(start..end)?))
    }

    /// Line and column of a byte.
    pub(super) fn place(&self, byte: usize) -> Option<Place> {
        let before = self.text.get(..byte)?;
        let (mut lines, mut start, mut rest) = (0, 0, before.char_indices().peekable());
        while let Some((at, character)) = rest.next() {
            let ends = match character {
                '\n' | '\u{2028}' | '\u{2029}' => true,
                // One with the next, if that ends the line too.
                '\r' => rest.peek().is_none_or(|(_, next)| *next != '\n'),
                _ => false,
            };
            if ends {
                lines += 1;
                start = at + character.len_utf8();
            }
        }
        let column = u32::try_from(self.units(&before[start..]) + 1).ok()?;
        Some(Place { line: u32::try_from(lines + 1).ok()?, column: Some(column) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_utf_16() {
        let text = "a\u{1f600}b\r\nc\u{e4}\n".as_bytes();
        let source = Source::of(text, 9).expect("so long it is");
        assert!(Source::of(text, text.len()).is_none(), "another one");
        let place = |position| {
            source.place(source.byte(position)?).map(|place| (place.line, place.column.unwrap_or(0)))
        };
        assert_eq!(
            [place(0), place(3), place(6), place(7)],
            [Some((1, 1)), Some((1, 4)), Some((2, 1)), Some((2, 2))]
        );
        assert_eq!([place(9), place(10)], [Some((3, 1)), None]);
        assert_eq!(source.part(&(6..8)), Some((8, "c\u{e4}")));
    }
}
