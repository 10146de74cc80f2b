//! From a row of an unwind table to a rule that the kernel side can follow.

use fdtrace_common::unwind::{Rule, kind};
use gimli::{
    CfaRule, Encoding, Operation, Reader, ReaderOffset, RegisterRule, UnwindExpression, UnwindSection,
    UnwindTableRow, X86_64,
};

/// The rule that says the same, or [`Rule::UNKNOWN`] for what the kernel side cannot follow: other registers than the
/// stack and frame pointers, and calculations.
pub(super) fn of_row<R: Reader, S: UnwindSection<R>>(
    section: &S,
    row: &UnwindTableRow<R::Offset>,
    encoding: Encoding,
) -> Rule {
    match row.register(X86_64::RA) {
        None | Some(RegisterRule::Undefined) => return Rule::END,
        Some(RegisterRule::Offset(-8)) => {}
        Some(_) => return Rule::UNKNOWN,
    }
    of_cfa(section, row, encoding).unwrap_or(Rule::UNKNOWN)
}

fn of_cfa<R: Reader, S: UnwindSection<R>>(
    section: &S,
    row: &UnwindTableRow<R::Offset>,
    encoding: Encoding,
) -> Option<Rule> {
    let saved = row.register(X86_64::RBP);
    match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let kind = match *register {
                X86_64::RSP => kind::STACK,
                X86_64::RBP => kind::FRAME,
                _ => return None,
            };
            let frame = frame_offset(saved.as_ref())?;
            Some(Rule { cfa: i32::try_from(*offset).ok()?, frame, kind, notes: 0 })
        }
        CfaRule::Expression(expression) => {
            let cfa = stored_at(section, expression, encoding)?;
            // Such a function has pushed the frame pointer as its first word, behind the return address that it copied.
            match saved {
                Some(RegisterRule::Expression(saved)) if is_frame_pointer(section, &saved, encoding) => {
                    Some(Rule { cfa: i32::try_from(cfa).ok()?, frame: 0, kind: kind::STORED, notes: 0 })
                }
                _ => None,
            }
        }
    }
}

/// Where the caller's frame pointer is, from the CFA; 0 for still in the register.
fn frame_offset<T: ReaderOffset>(saved: Option<&RegisterRule<T>>) -> Option<i16> {
    match saved {
        None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => Some(0),
        Some(RegisterRule::Offset(offset)) => i16::try_from(*offset).ok(),
        Some(_) => None,
    }
}

/// `breg6 OFFSET; deref`: the CFA is stored there, seen from the frame pointer.
fn stored_at<R: Reader, S: UnwindSection<R>>(
    section: &S,
    expression: &UnwindExpression<R::Offset>,
    encoding: Encoding,
) -> Option<i64> {
    let mut operations = expression.get(section).ok()?.operations(encoding);
    let offset = from_frame_pointer(&operations.next().ok()??)?;
    let is_load = matches!(operations.next().ok()??, Operation::Deref { space: false, .. });
    (is_load && operations.next().ok()?.is_none()).then_some(offset)
}

/// `breg6 0`: where the frame pointer points to.
fn is_frame_pointer<R: Reader, S: UnwindSection<R>>(
    section: &S,
    expression: &UnwindExpression<R::Offset>,
    encoding: Encoding,
) -> bool {
    let Ok(expression) = expression.get(section) else { return false };
    let mut operations = expression.operations(encoding);
    let first = operations.next().ok().flatten().as_ref().and_then(from_frame_pointer);
    first == Some(0) && matches!(operations.next(), Ok(None))
}

fn from_frame_pointer<R: Reader>(operation: &Operation<R>) -> Option<i64> {
    match operation {
        Operation::RegisterOffset { register: X86_64::RBP, offset, .. } => Some(*offset),
        _ => None,
    }
}
