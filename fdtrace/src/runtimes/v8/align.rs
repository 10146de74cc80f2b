//! Which call of a text a call of bytecodes is.

use super::{bytecodes, bytecodes::Kind, calls};

/// What it costs that a call of bytecodes is in no text: of iterators, and of what else the language calls by itself.
const HIDDEN: u32 = 2;
/// That a call of a text has no bytecodes: V8 leaves out what is never reached.
const UNREACHED: u32 = 3;
/// That it is one, but not as it looks.
const UNLIKELY: u32 = 1;

/// More than all others together.
const IMPOSSIBLE: u32 = u32::MAX / 4;
/// More pairs are not looked at.
const MOST: usize = 4 << 20;

/// The call in `text` that the one at `offset` is, in all alignments that cost least; none where they do not agree by `same`.
pub(super) fn find<'a>(
    code: &[bytecodes::Call],
    text: &'a [calls::Call],
    offset: i32,
    same: impl Fn(&calls::Call, &calls::Call) -> bool,
) -> Option<&'a calls::Call> {
    let wanted = code.iter().position(|call| call.offset == offset)?;
    if code.len().saturating_mul(text.len()) > MOST {
        return None;
    }
    let before = costs(code, text);
    let backwards = |calls: &[bytecodes::Call]| calls.iter().rev().copied().collect::<Vec<_>>();
    let behind = costs(&backwards(code), &text.iter().rev().copied().collect::<Vec<_>>());
    let through = |at: usize| {
        let rest = &behind[code.len() - wanted - 1][text.len() - at - 1];
        pair(&code[wanted], &text[at]).saturating_add(before[wanted][at]).saturating_add(*rest)
    };
    let least = before[code.len()][text.len()];
    let mut found =
        (0..text.len()).filter(|at| through(*at) == least && least < IMPOSSIBLE).map(|at| &text[at]);
    let first = found.next()?;
    found.all(|other| same(first, other)).then_some(first)
}

/// What it costs to align so many of both.
fn costs(code: &[bytecodes::Call], text: &[calls::Call]) -> Vec<Vec<u32>> {
    let first: Vec<u32> =
        (0..=text.len()).map(|at| UNREACHED.saturating_mul(u32::try_from(at).unwrap_or(u32::MAX))).collect();
    let mut all = vec![first];
    for call in code {
        let above = &all[all.len() - 1];
        let mut row = vec![above[0].saturating_add(HIDDEN)];
        for (at, other) in text.iter().enumerate() {
            let least = (above[at].saturating_add(pair(call, other)))
                .min(above[at + 1].saturating_add(HIDDEN))
                .min(row[at].saturating_add(UNREACHED));
            row.push(least);
        }
        all.push(row);
    }
    all
}

/// What it costs that two are the same.
fn pair(code: &bytecodes::Call, text: &calls::Call) -> u32 {
    let arguments = match (code.shape.arguments, text.shape.arguments) {
        (Some(one), Some(other)) if one == other => 0,
        (None, None) => 0,
        // Some spreads are written down as an array first.
        (_, None) => UNLIKELY,
        _ => IMPOSSIBLE,
    };
    let kind = match (code.shape.kind, text.shape.kind) {
        (Kind::Any, Kind::Member | Kind::Plain) => 0,
        (one, other) if one == other => 0,
        _ => IMPOSSIBLE,
    };
    arguments + kind
}

#[cfg(test)]
mod tests {
    use super::{super::bytecodes::Shape, *};

    fn shape((kind, arguments): (Kind, u32)) -> Shape {
        Shape { kind, arguments: Some(arguments) }
    }

    fn found(code: &[(Kind, u32)], text: &[(Kind, u32)], wanted: i32) -> Option<usize> {
        let code: Vec<_> =
            (0..).zip(code).map(|(offset, of)| bytecodes::Call { offset, shape: shape(*of) }).collect();
        let text: Vec<_> = (0..).zip(text).map(|(at, of)| calls::Call { at, shape: shape(*of) }).collect();
        find(&code, &text, wanted, |one, other| one == other).map(|call| call.at)
    }

    #[test]
    fn each_is_its_own() {
        let calls = [(Kind::Plain, 1), (Kind::Plain, 1), (Kind::Member, 1), (Kind::New, 0)];
        for (at, offset) in (0..4).zip(0..) {
            assert_eq!(found(&calls, &calls, offset), Some(at));
        }
        assert_eq!(found(&calls, &calls, 7), None);
    }

    #[test]
    fn what_only_one_side_has_is_passed_over() {
        let (plain, hidden, other) = ((Kind::Plain, 1), (Kind::Member, 0), (Kind::Member, 2));
        assert_eq!(found(&[plain, hidden, other], &[plain, other], 2), Some(1));
        assert_eq!(found(&[other, plain], &[plain, other, plain], 1), Some(2), "the first was left out");
        assert_eq!(found(&[plain], &[plain, plain], 0), None, "one of both");
        assert_eq!(found(&[hidden, plain], &[plain], 0), None, "nobody wrote it");
    }
}
