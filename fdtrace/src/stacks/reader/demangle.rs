//! Names as they are in the source. A mangled name of a few bytes can stand for one of gigabytes.

use std::fmt::{self, Write as _};

use cpp_demangle::{DemangleOptions, Symbol};

/// The longest name that is written; a longer one stays mangled.
const LONGEST: usize = 4096;

/// A name without its mangling, or as it is.
pub(super) fn demangled(name: &str) -> String {
    // A longer one would be cut anyway.
    let known = (name.len() <= LONGEST).then(|| rust(name).or_else(|| cpp(name))).flatten();
    known.unwrap_or_else(|| name.to_owned())
}

/// Without the hash at the end.
fn rust(name: &str) -> Option<String> {
    let name = rustc_demangle::try_demangle(name).ok()?;
    let mut text = Bounded::default();
    write!(text, "{name:#}").ok()?;
    Some(text.0)
}

fn cpp(name: &str) -> Option<String> {
    // Other words can be read as types: `main` as an unsigned long and three more.
    let name = name.starts_with("_Z").then(|| Symbol::new(name).ok()).flatten()?;
    let mut text = Bounded::default();
    name.structured_demangle(&mut text, &DemangleOptions::default()).ok()?;
    Some(text.0)
}

#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(
            demangled("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            "core::fmt::Write::write_fmt"
        );
        assert_eq!(demangled("_RNvC7mycrate3foo"), "mycrate::foo");
        assert_eq!(demangled("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(demangled("main"), "main");
        assert_eq!(demangled("_Z"), "_Z");
        assert_eq!(demangled("leak.isra.0"), "leak.isra.0");
    }

    #[test]
    fn a_name_does_not_explode() {
        // Each argument is a pair of the one before.
        let mut name = "_Z1f1aIiE".to_owned();
        for number in 0..40 {
            let last = if number == 0 { "S0_".to_owned() } else { format!("S{}_", base36(number)) };
            name += &format!("1aI{last}{last}E");
        }
        assert!(demangled(&name).len() <= LONGEST);
    }

    fn base36(number: u32) -> String {
        char::from_digit(number % 36, 36).unwrap_or('0').to_ascii_uppercase().to_string()
    }
}
