//! Calls in progress, as they stand in a process's memory; the kernel side reads them in the same way.

use super::{
    Globals, Interpreter,
    kernel_side::{Of, characters, named},
    versions::{BITS, CALLER, CHILD, CONTEXTS, FILE, GOES_ON, LAST, NEXT, OPERATION, PREVIOUS, SIBLING, WAS},
};
use crate::runtimes::{Refusal, ScriptFrame, memory::Memory};

/// `CXt_SUB`, `CXt_FORMAT`, `CXt_EVAL`; a block of a pattern, and a block of `eval` or `try`.
const KIND: u8 = 15;
const SUB: u8 = 9;
const FORMAT: u8 = 10;
const EVAL: u8 = 11;
const OF_PATTERN: u8 = 0x80;
const OF_BLOCK: u8 = 0x40;
/// `PERLSI_MAIN`
const FIRST_STACK: u32 = 1;

const NUMBER: u64 = 0x1ff;
const HAS_SIBLING: u64 = 1 << 14;
const HAS_CHILDREN: u64 = 1 << 18;
/// How far operations are behind `OP_NEXTSTATE`, in all versions: `OP_DBSTATE`, and those that call (`OP_ENTERSUB`, `OP_ENTEREVAL`,
/// `OP_REQUIRE`, which `OP_DOFILE` follows).
const DEBUG_STATE: u32 = 1;
const CALLS: u32 = 11_u32.wrapping_neg();
const EVALUATES: u32 = 150;
const REQUIRES: [u32; 2] = [147, 148];

/// In the head of a value: its flags, and a pointer. Types: a hash, code, a format, a glob.
const FLAGS: u64 = 12;
const POINTER: u64 = 16;
const TYPE: u32 = 0xff;
const TYPE_GLOB: u32 = 9;
const TYPE_HASH: u32 = 12;
const TYPE_CODE: [u32; 2] = [13, 14];
const HAS_NAME: u32 = 1 << 25;
/// In the body of a subroutine.
const CODE_PACKAGE: u64 = 32;
const CODE_NAME: u64 = 56;
const CODE_FLAGS: u64 = 92;
const IS_NAMED: u32 = 1 << 15;
const IS_LEXICAL: u32 = 1 << 16;
/// In the body of a glob; and where its values have the glob that it was first.
const GLOB_NAME: u64 = 32;
const GLOB_PACKAGE: u64 = 40;
const FIRST_GLOB: u64 = 56;
/// In the body of a hash: the last bucket; behind its name: how many it has.
const LAST_BUCKET: u64 = 24;
const NAMES: u64 = 28;
/// A name: its length, its characters; what is read of it.
const LENGTH: u64 = 4;
const CHARACTERS: u64 = 8;
const LONGEST: u32 = 4096;
/// What the name of a glob has before that of a file: `_<`.
const BEFORE_FILE: u64 = 2;

/// The most contexts and operations that are looked at.
const MAX_CONTEXTS: usize = 1 << 16;
const MAX_STACKS: usize = 1 << 12;
const MAX_OPERATIONS: usize = 1024;
const MAX_DEPTH: usize = 32;

/// What a frame runs: a statement, and the operation, or what that has called and what follows it.
#[derive(Clone, Copy)]
struct At {
    statement: u64,
    operation: u64,
    called: Option<Of>,
}

/// What a frame is of, and what has called it.
struct Call {
    of: Of,
    code: u64,
    caller: At,
}

impl Interpreter {
    /// The calls of scripts, innermost first, at most so many.
    pub(super) fn frames(
        &self,
        memory: &(impl Memory + ?Sized),
        most: usize,
    ) -> Result<Vec<ScriptFrame>, Refusal> {
        let (mut at, stack) = self.now(memory).ok_or(Refusal::NotStarted)?;
        let calls = self.calls(memory, stack, most).ok_or(Refusal::Senseless)?;
        let mut frames = Vec::new();
        for call in calls {
            frames.push(self.frame(memory, &call, at).ok_or(Refusal::Senseless)?);
            at = call.caller;
        }
        Ok(frames)
    }

    fn now(&self, memory: &(impl Memory + ?Sized)) -> Option<(At, u64)> {
        let (base, statement, operation, stack) = match self.globals {
            Globals::Threads { first, .. } => {
                (memory.pointer(first, 0)?, self.layout.statement, OPERATION, self.layout.stack)
            }
            Globals::Variables { first, statement, operation, stack } => (first, statement, operation, stack),
        };
        let at = At {
            statement: memory.pointer(base, statement.into())?,
            operation: memory.word(base, operation.into())?,
            called: None,
        };
        Some((at, memory.pointer(base, stack.into())?))
    }

    /// The last one is the program's, unless there are more than wanted.
    fn calls(&self, memory: &(impl Memory + ?Sized), innermost: u64, most: usize) -> Option<Vec<Call>> {
        let mut calls = Vec::new();
        let mut stack = innermost;
        let mut looked = 0;
        for _ in 0..MAX_STACKS {
            let contexts = memory.word(stack, CONTEXTS)?;
            let last = memory.half(stack, LAST)?.cast_signed();
            for index in (0..=last).rev() {
                looked += 1;
                if calls.len() >= most || looked > MAX_CONTEXTS {
                    return Some(calls);
                }
                let offset = u64::from(index.cast_unsigned()) * u64::from(self.layout.context_bytes);
                calls.extend(self.call(memory, contexts.checked_add(offset)?)?);
            }
            if memory.half(stack, self.layout.stack_kind.into())? == FIRST_STACK {
                let nothing = At { statement: 0, operation: 0, called: None };
                calls.push(Call { of: Of::Program, code: 0, caller: nothing });
                calls.truncate(most);
                return Some(calls);
            }
            stack = memory.pointer(stack, PREVIOUS)?;
        }
        None
    }

    /// `Some(None)` for a context that is no call's.
    fn call(&self, memory: &(impl Memory + ?Sized), context: u64) -> Option<Option<Call>> {
        let [kind] = memory.array::<1>(context, 0)?;
        let code = memory.word(context, self.layout.code.into())?;
        let of = match kind & KIND {
            SUB if kind & OF_PATTERN == 0 => Of::Subroutine,
            FORMAT => Of::Subroutine,
            EVAL if kind & OF_BLOCK == 0 => {
                let file = memory.word(context, u64::from(self.layout.code).checked_sub(8)?)?;
                if file == 0 { Of::String } else { Of::File }
            }
            _ => return Some(None),
        };
        let caller = At {
            statement: memory.word(context, CALLER)?,
            operation: memory.word(context, GOES_ON)?,
            called: Some(of),
        };
        Some(Some(Call { of, code, caller }))
    }

    fn frame(&self, memory: &(impl Memory + ?Sized), call: &Call, at: At) -> Option<ScriptFrame> {
        let bits = memory.word(at.statement, BITS)?;
        let number = number(bits);
        if number != 0 && number.wrapping_sub(self.layout.next_state) > 1 {
            return None;
        }
        let function = match call.of {
            Of::Subroutine => self.subroutine(memory, call.code)?,
            of => named(of, "", ""),
        };
        let file = self.file(memory, memory.pointer(at.statement, FILE)?)?;
        Some(ScriptFrame { function, file, line: self.line(memory, at, bits)? })
    }

    fn subroutine(&self, memory: &(impl Memory + ?Sized), code: u64) -> Option<String> {
        if !TYPE_CODE.contains(&(memory.half(code, FLAGS)? & TYPE)) {
            return None;
        }
        let body = memory.pointer(code, 0)?;
        let flags = memory.half(body, CODE_FLAGS)?;
        let name = memory.word(body, CODE_NAME)?;
        if name == 0 {
            return Some(named(Of::Unknown, "", ""));
        }
        if flags & IS_NAMED != 0 {
            let package = if flags & IS_LEXICAL == 0 { memory.word(body, CODE_PACKAGE)? } else { 0 };
            return Some(named(Of::Subroutine, &self.package(memory, package)?, &text(memory, name, 0)?));
        }
        if memory.half(name, FLAGS)? & TYPE != TYPE_GLOB {
            return None;
        }
        let first = memory.pointer(memory.word(name, POINTER)?, FIRST_GLOB).unwrap_or(name);
        let glob = memory.pointer(first, 0)?;
        let package = self.package(memory, memory.word(glob, GLOB_PACKAGE)?)?;
        Some(named(Of::Subroutine, &package, &text(memory, memory.pointer(glob, GLOB_NAME)?, 0)?))
    }

    /// The name of a package; empty where it has none.
    fn package(&self, memory: &(impl Memory + ?Sized), package: u64) -> Option<String> {
        if package == 0 {
            return Some(String::new());
        }
        let flags = memory.half(package, FLAGS)?;
        if flags & TYPE != TYPE_HASH || flags & HAS_NAME == 0 {
            return Some(String::new());
        }
        let body = memory.pointer(package, 0)?;
        let place = match self.layout.package_name {
            Some(offset) => body.checked_add(offset.into())?,
            None => {
                let buckets = memory.word(body, LAST_BUCKET)?.checked_add(1)?;
                memory.word(package, POINTER)?.checked_add(buckets.checked_mul(8)?)?
            }
        };
        let name = memory.word(place, 0)?;
        let has_several = memory.half(place, NAMES)? != 0;
        let name = if has_several { memory.word(name, 0)? } else { name };
        if name == 0 { Some(String::new()) } else { text(memory, name, 0) }
    }

    fn file(&self, memory: &(impl Memory + ?Sized), file: u64) -> Option<String> {
        let file = match self.globals {
            Globals::Threads { .. } => string(memory, file)?,
            Globals::Variables { .. } => {
                text(memory, memory.pointer(memory.pointer(file, 0)?, GLOB_NAME)?, BEFORE_FILE)?
            }
        };
        let number = file.strip_prefix("(eval ").and_then(|rest| rest.strip_suffix(')'));
        let is_numbered = number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        Some(if is_numbered { "(eval)".to_owned() } else { file })
    }

    /// The line of a statement, or of the block of one statement in it that calls. Where several lines could have called, it is
    /// that at which the whole statement begins. `None` when what is there makes no sense, no line when it is too much.
    fn line(&self, memory: &(impl Memory + ?Sized), at: At, bits: u64) -> Option<Option<u32>> {
        let own = line_of(bits);
        if bits & HAS_SIBLING == 0 || at.operation == 0 {
            return Some(shown(own));
        }
        let mut lines = vec![own];
        let mut place = memory.word(at.statement, SIBLING)?;
        let (mut is_done, mut is_other) = (false, false);
        let mut found = Vec::new();
        for _ in 0..MAX_OPERATIONS {
            let bits = memory.word(place, BITS)?;
            let depth = lines.len() - 1;
            let behind = number(bits).wrapping_sub(self.layout.next_state);
            if !is_done && depth != 0 {
                let was = memory.word(place, WAS)?;
                if number(bits) == 0 && was == u64::from(self.layout.next_state) {
                    lines[depth] = line_of(bits);
                }
                // A statement that says itself when it runs.
                is_other |= behind <= DEBUG_STATE;
            }
            if !is_done && !is_other {
                match at.called {
                    None if place == at.operation => return Some(shown(lines[depth])),
                    Some(called) if called.is_by(behind) && memory.word(place, NEXT)? == at.operation => {
                        found.push(lines[depth]);
                    }
                    _ => {}
                }
                let child = if bits & HAS_CHILDREN == 0 { 0 } else { memory.word(place, CHILD)? };
                if child != 0 {
                    if lines.len() >= MAX_DEPTH {
                        return Some(None);
                    }
                    lines.push(lines[depth]);
                    place = child;
                    continue;
                }
            }
            if depth == 0 {
                let first = found.first().filter(|first| found.iter().all(|line| line == *first));
                return Some(shown(first.copied().unwrap_or(own)));
            }
            place = memory.word(place, SIBLING)?;
            is_done = bits & HAS_SIBLING == 0;
            if is_done {
                is_other = false;
                lines.pop();
            }
        }
        Some(None)
    }
}

impl Of {
    /// Whether an operation begins such a frame.
    fn is_by(self, behind: u32) -> bool {
        match self {
            Self::String => behind == EVALUATES,
            Self::File => REQUIRES.contains(&behind),
            _ => behind == CALLS,
        }
    }
}

fn number(bits: u64) -> u32 {
    u32::try_from(bits & NUMBER).unwrap_or(0)
}

fn line_of(bits: u64) -> u32 {
    u32::try_from(bits >> 32).unwrap_or(0)
}

/// A line of 0 is none.
fn shown(line: u32) -> Option<u32> {
    Some(line).filter(|line| *line != 0)
}

/// A name, but for so many bytes at its beginning.
fn text(memory: &(impl Memory + ?Sized), name: u64, skipped: u64) -> Option<String> {
    let length = u64::from(memory.half(name, LENGTH)?.min(LONGEST)).checked_sub(skipped)?;
    let from = name.checked_add(CHARACTERS + skipped)?;
    Some(characters(&memory.bytes(from, usize::try_from(length).ok()?)?))
}

/// A text that ends with a zero.
fn string(memory: &(impl Memory + ?Sized), from: u64) -> Option<String> {
    let bytes: Vec<u8> = (0..u64::from(LONGEST))
        .map_while(|at| memory.array::<1>(from, at))
        .map(|[byte]| byte)
        .take_while(|byte| *byte != 0)
        .collect();
    Some(characters(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::{
        memory::tests::Made,
        perl::versions::{Version, table},
    };

    /// Operations of 64 bytes each, from 0x1000 on: next, sibling or parent, what it was, bits, first child, line.
    fn operations(all: &[(u64, u64, u64, u64, u64, u64)]) -> Made {
        let mut bytes = Vec::new();
        for (next, sibling, was, bits, child, line) in all {
            let words = [*next, *sibling, 0, *was, bits | line << 32, *child, 0, 0];
            bytes.extend(words.into_iter().flat_map(u64::to_ne_bytes));
        }
        Made(0x1000, bytes)
    }

    fn line(memory: &Made, operation: u64, called: Option<Of>) -> Option<Option<u32>> {
        let layout = table(Version { revision: 5, version: 36, subversion: 0 }).expect("a layout");
        let perl = Interpreter { globals: Globals::Threads { key: 0, first: 0 }, layout };
        let bits = memory.word(0x1000, BITS)?;
        perl.line(memory, At { statement: 0x1000, operation, called }, bits)
    }

    const SUB: Option<Of> = Some(Of::Subroutine);

    /// `if (one()) {` of line 1, in it what calls, of line 5, and in `else` what calls, of line 7.
    fn condition(goes_on: u64) -> Made {
        operations(&[
            (0, 0x1040, 0, 195 | HAS_SIBLING, 0, 1),
            (0, 0, 0, 170 | HAS_CHILDREN, 0x1080, 0),
            (7, 0x10c0, 0, 184 | HAS_SIBLING, 0, 0),
            (0, 0x1180, 0, 200 | HAS_CHILDREN | HAS_SIBLING, 0x1100, 0),
            (0, 0x1140, 195, HAS_SIBLING, 0, 5),
            (9, 0x10c0, 0, 184, 0, 0),
            (0, 0x1040, 0, 200 | HAS_CHILDREN, 0x11c0, 0),
            (0, 0x1200, 195, HAS_SIBLING, 0, 7),
            (goes_on, 0x1180, 0, 184, 0, 0),
        ])
    }

    #[test]
    fn a_block_of_one_statement_has_its_line() {
        let memory = condition(11);
        assert_eq!(line(&memory, 7, SUB), Some(Some(1)), "the condition");
        assert_eq!([line(&memory, 9, SUB), line(&memory, 11, SUB)], [Some(Some(5)), Some(Some(7))]);
        assert_eq!(line(&memory, 0x1140, None), Some(Some(5)), "the operation itself");
        assert_eq!(line(&memory, 13, SUB), Some(Some(1)), "elsewhere");
        assert_eq!(line(&memory, 9, Some(Of::String)), Some(Some(1)), "it evaluates nothing");
    }

    #[test]
    fn branches_that_go_on_at_one_place_are_not_told_apart() {
        assert_eq!(line(&condition(9), 9, SUB), Some(Some(1)));
    }

    #[test]
    fn what_is_behind_another_statement_is_of_that() {
        let memory = operations(&[
            (0, 0x1040, 0, 195 | HAS_SIBLING, 0, 1),
            (0, 0, 0, 170 | HAS_CHILDREN, 0x1080, 0),
            (0, 0x10c0, 0, 195 | HAS_SIBLING, 0, 5),
            (9, 0x1040, 0, 184, 0, 0),
        ]);
        assert_eq!(line(&memory, 9, SUB), Some(Some(1)));
    }

    #[test]
    fn circles_end() {
        let memory = operations(&[
            (0, 0x1040, 0, 195 | HAS_SIBLING, 0, 1),
            (0, 0x1040, 0, 170 | HAS_CHILDREN, 0x1080, 0),
            (0, 0x1080, 0, 180 | HAS_SIBLING, 0, 0),
        ]);
        assert_eq!(line(&memory, 7, SUB), Some(None));
        let deep = operations(&[(0, 0x1040, 0, 195 | HAS_SIBLING, 0, 1), (0, 0, 0, HAS_CHILDREN, 0x1040, 0)]);
        assert_eq!(line(&deep, 7, SUB), Some(None));
    }
}
