use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use crate::text::fmt::steers;

/// Writes a document as one line of JSON.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &impl Serialize) -> io::Result<()> {
    document.serialize(&mut Serializer::with_formatter(&mut *out, Harmless(CompactFormatter)))?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes a document for people to read as well.
///
/// # Errors
/// When the output cannot be written.
pub fn pretty(out: &mut impl Write, document: &impl Serialize) -> io::Result<()> {
    document.serialize(&mut Serializer::with_formatter(&mut *out, Harmless(PrettyFormatter::new())))?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes what would steer a terminal as JSON's own escapes: the values are the same.
struct Harmless<F>(F);

impl<F: Formatter> Formatter for Harmless<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(steers) {
            let (before, behind) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            let character = behind.chars().next().unwrap_or_default();
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &behind[character.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn values_stay_and_steer_nothing() {
        let text = "a\x1b\u{7f}\u{9b}\u{202e}\u{2028}\u{e0041}\u{ffff}\"\\\n☃";
        let document = json!({text: [text, 1], "empty": [[], {}]});
        let (mut line, mut pretty_lines) = (Vec::new(), Vec::new());
        write(&mut line, &document).expect("a vector");
        pretty(&mut pretty_lines, &document).expect("a vector");
        for written in [line, pretty_lines] {
            let written = String::from_utf8(written).expect("text");
            assert!(!written.chars().any(|found| found != '\n' && steers(found)), "{written}");
            assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), document);
        }
    }
}
