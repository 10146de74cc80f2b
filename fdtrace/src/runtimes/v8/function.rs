//! A function as the kernel side sends it: where it is in its script, and what runs.

use std::ops::Range;

use fdtrace_common::scripts::v8::{HEAD_WORDS, SCOPE_WORDS, payload};

/// What there is to find the line of a call by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function<'a> {
    /// How long its script is.
    pub(super) script_length: usize,
    /// Where it is in that, from its parameters on. Positions are in UTF-16.
    pub(super) range: Option<Range<usize>>,
    pub(super) runs: Runs<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs<'a> {
    /// A source position table.
    Positions(&'a [u8]),
    /// Bytecodes, perhaps not all.
    Bytecodes(&'a [u8]),
    Nothing,
}

impl<'a> Function<'a> {
    /// `None` where the bytes are none.
    pub(super) fn parse(lines: &'a [u8]) -> Option<Self> {
        let (head, rest) = lines.split_at_checked(HEAD_WORDS * 8)?;
        let mut words = head.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        let script_length = usize::try_from(words.next()?).ok()?;
        let scope: Vec<Option<usize>> = words.by_ref().take(SCOPE_WORDS + 2).map(small_integer).collect();
        let kind = words.next()? & u64::from(u32::MAX);
        let runs = match kind {
            payload::POSITIONS => Runs::Positions(rest),
            payload::BYTECODES => Runs::Bytecodes(rest),
            _ => Runs::Nothing,
        };
        Some(Self { script_length, range: range(&scope), runs })
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

    fn lines(scope: [u64; SCOPE_WORDS + 2], kind: u64, rest: &[u8]) -> Vec<u8> {
        let words = std::iter::once(500).chain(scope).chain([kind | (rest.len() as u64) << 32]);
        words.flat_map(u64::to_le_bytes).chain(rest.iter().copied()).collect()
    }

    fn integer(value: u64) -> u64 {
        value << 32
    }

    #[test]
    fn positions_before_the_variables_or_behind_them() {
        let mut scope = [NONE; SCOPE_WORDS + 2];
        scope[1..4].copy_from_slice(&[integer(0), integer(10), integer(90)]);
        let known = |scope, kind| {
            let lines = lines(scope, kind, b"ab");
            let found = Function::parse(&lines).expect("a function");
            (found.script_length, found.range.clone(), found.runs == Runs::Positions(b"ab"))
        };
        assert_eq!(known(scope, payload::POSITIONS), (500, Some(10..90), true));
        scope[SCOPE_WORDS..].copy_from_slice(&[integer(20), integer(30)]);
        assert_eq!(known(scope, payload::BYTECODES), (500, Some(20..30), false));
        assert_eq!(known([NONE; SCOPE_WORDS + 2], payload::NONE), (500, None, false));
    }

    #[test]
    fn bytes_that_are_no_function() {
        assert_eq!(Function::parse(&[]), None);
        assert_eq!(Function::parse(&[0; HEAD_WORDS * 8 - 1]), None);
        let zeros = [0; HEAD_WORDS * 8];
        assert_eq!(Function::parse(&zeros).map(|found| found.range), Some(None));
    }
}
