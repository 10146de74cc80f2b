//! A function as the kernel side sends it: where it is in its script, and what runs.

use std::ops::Range;

use fdtrace_common::scripts::v8::{HEAD_WORDS, SCOPE_WORDS};

/// What there is to find the line of a call by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function<'a> {
    /// How long its script is.
    pub(super) script_length: usize,
    /// Where it is in that, from its parameters on. Positions are in UTF-16.
    pub(super) range: Option<Range<usize>>,
    /// How long the code of each bytecode is, where the baseline compiler made it; else empty. What is long is cut.
    pub(super) offsets: &'a [u8],
    pub(super) bytecodes: &'a [u8],
    /// Their source positions; empty where V8 has not made them.
    pub(super) positions: &'a [u8],
}

impl<'a> Function<'a> {
    /// `None` where the bytes are none.
    pub(super) fn parse(lines: &'a [u8]) -> Option<Self> {
        let (head, mut rest) = lines.split_at_checked(HEAD_WORDS * 8)?;
        let mut words =
            head.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        let script_length = usize::try_from(words.next()?).ok()?;
        let scope: Vec<Option<usize>> = words.by_ref().take(SCOPE_WORDS + 2).map(small_integer).collect();
        let mut part = || {
            let length = usize::try_from(words.next()?).ok()?;
            let part = rest.get(..length)?;
            rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
            Some(part)
        };
        let (offsets, bytecodes, positions) = (part()?, part()?, part()?);
        Some(Self { script_length, range: range(&scope), offsets, bytecodes, positions })
    }
}

/// The value of a small integer; `None` for anything else.
fn small_integer(word: u64) -> Option<usize> {
    (word & u64::from(u32::MAX) == 0).then_some(word >> 32)?.try_into().ok()
}

/// Where a function begins and ends: as it is said before its variables, or else the last two numbers of the first few behind
/// them that come one after the other.
fn range(scope: &[Option<usize>]) -> Option<Range<usize>> {
    let (behind, before) = scope.split_at_checked(SCOPE_WORDS)?;
    let ordered = |pair: &[Option<usize>]| match *pair {
        [Some(start), Some(end)] if start < end => Some(start..end),
        _ => None,
    };
    ordered(before).or_else(|| {
        let mut runs = behind.split(Option::is_none).filter(|run| run.len() >= 2);
        let run = runs.next()?;
        ordered(&run[run.len() - 2..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: u64 = 1;

    fn lines(scope: [u64; SCOPE_WORDS + 2], parts: [&[u8]; 3]) -> Vec<u8> {
        let words = std::iter::once(500).chain(scope).chain(parts.map(|part| part.len() as u64));
        let mut lines: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        for part in parts {
            lines.extend(part);
            lines.resize(lines.len().next_multiple_of(8), 0);
        }
        lines
    }

    fn integer(value: u64) -> u64 {
        value << 32
    }

    #[test]
    fn positions_before_the_variables_or_behind_them() {
        let mut scope = [NONE; SCOPE_WORDS + 2];
        scope[1..4].copy_from_slice(&[integer(0), integer(10), integer(90)]);
        let known =
            |scope| Function::parse(&lines(scope, [&[]; 3])).map(|found| (found.script_length, found.range));
        assert_eq!(known(scope), Some((500, Some(10..90))));
        scope[SCOPE_WORDS..].copy_from_slice(&[integer(20), integer(30)]);
        assert_eq!(known(scope), Some((500, Some(20..30))));
        assert_eq!(known([NONE; SCOPE_WORDS + 2]), Some((500, None)));
    }

    #[test]
    fn each_part_is_its_own() {
        let lines = lines([NONE; SCOPE_WORDS + 2], [b"abc", b"", b"0123456789"]);
        let found = Function::parse(&lines).expect("a function");
        assert_eq!(
            (found.offsets, found.bytecodes, found.positions),
            (&b"abc"[..], &b""[..], &b"0123456789"[..])
        );
        // The end of the last one is all that may be missing: what fills its word.
        assert!(Function::parse(&lines[..lines.len() - 6]).is_some());
        assert_eq!(Function::parse(&lines[..lines.len() - 7]), None);
    }

    #[test]
    fn bytes_that_are_no_function() {
        assert_eq!(Function::parse(&[]), None);
        assert_eq!(Function::parse(&[0; HEAD_WORDS * 8 - 1]), None);
        assert_eq!(Function::parse(&[0xff; HEAD_WORDS * 8]), None);
        let zeros = [0; HEAD_WORDS * 8];
        assert_eq!(Function::parse(&zeros).map(|found| found.range), Some(None));
    }
}
