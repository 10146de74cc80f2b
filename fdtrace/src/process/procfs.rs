//! Texts of the kernel's own file systems, read as the bytes that they are.
//!
//! A process chooses its name, its arguments and its paths, and the kernel cuts a name inside a character: no text that
//! has any of them is UTF-8. So nothing here is decoded before it is taken apart, and no text is longer than its limit.

use std::{
    fs::File,
    io::{self, Read as _},
    ops::Deref,
    path::Path,
    str::FromStr,
};

/// The longest text that is read. The longest that a kernel gives are its symbols, some 15 MB, and the mappings of a
/// process that has as many as it may, some 8 MB.
const LONGEST: u64 = 64 << 20;

/// A text of the kernel's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text(Vec<u8>);

impl Text {
    /// Reads one.
    ///
    /// # Errors
    /// When it is not there, or not ours to read. One that ends with an error is what came before it.
    pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        let (mut file, mut bytes) = (File::open(path)?.take(LONGEST), Vec::new());
        match file.read_to_end(&mut bytes) {
            Err(error) if bytes.is_empty() => Err(error),
            _ => Ok(Self(bytes)),
        }
    }

    /// One of a process's.
    pub(crate) fn of(pid: u32, name: &str) -> io::Result<Self> {
        Self::read(format!("/proc/{pid}/{name}"))
    }

    /// Reads one; it is empty where it cannot be read.
    pub(crate) fn or_empty(path: impl AsRef<Path>) -> Self {
        Self::read(path).unwrap_or_default()
    }

    /// What is behind the first line's beginning that is this one.
    pub(crate) fn line(&self, beginning: &str) -> Option<&[u8]> {
        lines(&self.0).find_map(|line| line.strip_prefix(beginning.as_bytes()))
    }

    /// The fields of `/proc/PID/stat` behind the name: the third is the first of them. The name is in parentheses and
    /// may hold any byte, parentheses, blanks and new lines too; the last one of the text ends it.
    pub(crate) fn behind_the_name(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let end = self.0.iter().rposition(|byte| *byte == b')')?;
        Some(fields(&self.0[end + 1..]))
    }

    /// As a person reads it: blanks at its ends are gone, and what is no UTF-8 is shown as such.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(self.0.trim_ascii()).into_owned()
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Its lines, without their ends.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n')
}

/// What is between blanks.
pub(crate) fn fields(line: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty())
}

/// A number, with nothing before or behind it but blanks.
pub(crate) fn number<T: FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field.trim_ascii()).ok()?.parse().ok()
}

/// The same in hexadecimal, without `0x`.
pub(crate) fn hexadecimal(field: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(field.trim_ascii()).ok().filter(|digits| !digits.starts_with('+'))?;
    u64::from_str_radix(digits, 16).ok()
}

/// The parts before and behind the first of a byte.
pub(crate) fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..place], &bytes[place + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_any_bytes_and_moves_no_field() {
        let names: [&[u8]; 7] = [
            "обработчик".as_bytes(),
            &"обработчик".as_bytes()[..15],
            b") (",
            b"a) S 99 (b",
            b"a\nb",
            b"\xff\xfe",
            b"",
        ];
        for name in names {
            let stat = Text::from(&[b"7 (", name, b") S 3 7 7\n"].concat()[..]);
            let fields: Vec<&[u8]> = stat.behind_the_name().expect("fields").collect();
            assert_eq!(fields, [&b"S"[..], b"3", b"7", b"7"], "{name:?}");
        }
        assert!(Text::from(&b"7 (a"[..]).behind_the_name().is_none());
    }

    #[test]
    fn numbers_are_whole() {
        assert_eq!(number::<u64>(b" 17\n"), Some(17));
        assert_eq!([&b""[..], b"17x", b"\xff", b"18446744073709551616"].map(number::<u64>), [None; 4]);
        assert_eq!([&b"7f00"[..], b"+7", b"zz"].map(hexadecimal), [Some(0x7f00), None, None]);
    }

    #[test]
    fn lines_and_fields() {
        let text = Text::from(&b"Name:\t\xff\nCapEff:\t00ff\n"[..]);
        assert_eq!(text.line("CapEff:").and_then(hexadecimal), Some(255));
        assert_eq!(text.line("CapInh:"), None);
        assert_eq!(fields(b"  a\tb ").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(text.shown(), "Name:\t\u{fffd}\nCapEff:\t00ff");
    }

    #[test]
    fn what_is_not_there_is_empty() {
        assert!(Text::or_empty("/proc/0/stat").is_empty());
        assert!(Text::of(std::process::id(), "stat").is_ok_and(|stat| stat.behind_the_name().is_some()));
    }
}
