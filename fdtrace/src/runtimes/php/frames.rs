//! Calls in progress, as they stand in a process's memory; the kernel side reads them in the same way.

use super::{
    Interpreter,
    kernel_side::{characters, named},
    versions::{CLASS, FLAGS, FUNCTION, INSTRUCTION, NAME, PREVIOUS},
};
use crate::runtimes::{Refusal, ScriptFrame, memory::Memory};

/// What a function begins with: `ZEND_INTERNAL_FUNCTION`, `ZEND_USER_FUNCTION`, `ZEND_EVAL_CODE`.
const OF_C: u8 = 1;
const OF_SCRIPT: u8 = 2;
const OF_EVAL: u8 = 4;

/// An instruction: its size, its line, and what it does.
const INSTRUCTION_BYTES: u64 = 32;
const LINE: u64 = 24;
const DOES: u64 = 28;
/// `ZEND_HANDLE_EXCEPTION`
const HANDLES_EXCEPTION: u8 = 149;

/// A string: its type, its length and its bytes; and where a class has its name.
const TYPE: u64 = 4;
const STRING: u32 = 6;
const LENGTH: u64 = 16;
const BYTES: u64 = 24;
const CLASS_NAME: u64 = 8;
/// What is read of one.
const LONGEST: u64 = 4096;

/// Where a frame has its object, what kind of value that is, and where it has its class.
const THIS: u64 = 32;
const OBJECT: u8 = 8;
const OBJECT_CLASS: u64 = 16;
/// So many generators that yield in each other's place are gone through.
const MAX_DELEGATES: usize = 16;

/// The most frames, those of functions of C too.
const MAX_STEPS: usize = 1 << 16;

impl Interpreter {
    /// The calls of scripts, innermost first, at most so many.
    pub(super) fn frames(
        &self,
        memory: &(impl Memory + ?Sized),
        most: usize,
    ) -> Result<Vec<ScriptFrame>, Refusal> {
        let first = memory.word(self.globals, self.layout.frame.into()).ok_or(Refusal::Unreadable)?;
        let previous =
            |frame: &u64| memory.pointer(*frame, PREVIOUS.into()).filter(|previous| previous != frame);
        let frames = std::iter::successors(Some(first).filter(|frame| *frame != 0), previous).take(MAX_STEPS);
        let all = frames.flat_map(|frame| std::iter::once(frame).chain(self.delegating(memory, frame)));
        let calls = all.map(|frame| self.frame(memory, frame).ok_or(Refusal::Senseless));
        calls.filter_map(Result::transpose).take(most).collect()
    }

    /// The frames that a frame of no function stands for: of generators that have others yield in their place, innermost first.
    /// The last of these has been called by what has called the first.
    fn delegating(&self, memory: &(impl Memory + ?Sized), frame: u64) -> Vec<u64> {
        let found = || -> Option<Vec<u64>> {
            let (generated, delegate) = self.layout.generator.filter(|_| self.generators != 0)?;
            let is_object = memory.array::<1>(frame, FLAGS.into())? == [OBJECT];
            let generator = memory.word(frame, THIS)?;
            let is_one = is_object
                && memory.word(frame, FUNCTION.into())? == 0
                && memory.word(generator, OBJECT_CLASS)? == memory.word(self.generators, 0)?;
            let delegate = |generator: &u64| memory.pointer(*generator, delegate.into());
            let mut all: Vec<u64> = std::iter::successors(Some(generator).filter(|_| is_one), delegate)
                .take(MAX_DELEGATES)
                .collect();
            // The last one has a frame that was gone through.
            all.pop();
            all.iter().rev().map(|generator| memory.pointer(*generator, generated.into())).collect()
        };
        found().unwrap_or_default()
    }

    /// `Some(None)` for a frame that is no script's, `None` for what is none at all.
    fn frame(&self, memory: &(impl Memory + ?Sized), frame: u64) -> Option<Option<ScriptFrame>> {
        let function = memory.word(frame, FUNCTION.into())?;
        if function == 0 || memory.array::<1>(function, 0)? == [OF_C] {
            return Some(None);
        }
        if !matches!(memory.array::<1>(function, 0)?, [OF_SCRIPT | OF_EVAL]) {
            return None;
        }
        let line = self.line(memory, function, memory.word(frame, INSTRUCTION.into())?)?;
        let class = match memory.word(function, CLASS.into())? {
            0 => String::new(),
            class => text(memory, memory.pointer(class, CLASS_NAME)?)?,
        };
        let name = match memory.word(function, NAME.into())? {
            0 => String::new(),
            name => text(memory, name)?,
        };
        let file = text(memory, memory.pointer(function, self.layout.file.into())?)?;
        Some(Some(ScriptFrame { function: named(&class, &name), file, line }))
    }

    /// The line of an instruction, where it has one; `None` where it is none of the function's.
    fn line(&self, memory: &(impl Memory + ?Sized), function: u64, instruction: u64) -> Option<Option<u32>> {
        let first = memory.pointer(function, self.layout.instructions.into())?;
        let count = memory.half(function, self.layout.count.into())?;
        let is_its_own = |instruction: u64| {
            let behind = instruction.wrapping_sub(first);
            behind % INSTRUCTION_BYTES == 0 && behind / INSTRUCTION_BYTES < u64::from(count)
        };
        // A function that is being called has none yet.
        let instruction = if instruction == 0 { first } else { instruction };
        let line = memory.half(instruction, LINE)?;
        if is_its_own(instruction) {
            return Some(Some(line));
        }
        if line != 0 || memory.array::<1>(instruction, DOES)? != [HANDLES_EXCEPTION] {
            return None;
        }
        let threw = self.layout.thrown.and_then(|thrown| memory.word(self.globals, thrown.into()));
        Some(threw.filter(|threw| is_its_own(*threw)).and_then(|threw| memory.half(threw, LINE)))
    }
}

fn text(memory: &(impl Memory + ?Sized), string: u64) -> Option<String> {
    if memory.half(string, TYPE)? & 15 != STRING {
        return None;
    }
    let length = memory.word(string, LENGTH)?.min(LONGEST);
    let bytes = memory.bytes(string.checked_add(BYTES)?, usize::try_from(length).ok()?)?;
    Some(characters(&bytes))
}
