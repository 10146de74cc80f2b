//! From the runtime to its threads, and from a thread to its frames.

use super::{
    Interpreter,
    versions::{Entry, Frame, Units},
};
use crate::runtimes::memory::Memory;

/// The most interpreters of one process, and threads of all of them. Lists that are changed while they are read may be circles.
const MAX_INTERPRETERS: usize = 256;
const MAX_THREADS: usize = 4096;

/// What CPython knows of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    /// Where its state is.
    pub(super) state: u64,
    /// What `pthread_self` returns in it.
    pub(super) pthread: u64,
    /// Its number to the kernel, in its own namespace.
    pub(super) native: Option<u64>,
}

/// A call in progress, as it stands in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The code object.
    pub(super) code: u64,
    /// The byte of the code that runs; below 0 before the first.
    pub(super) instruction: i32,
    /// The last frame of this run of the evaluation loop: what called it is native.
    pub(super) ends_run: bool,
}

impl Interpreter {
    /// All threads of all interpreters of the process.
    pub(super) fn threads(&self, memory: &(impl Memory + ?Sized)) -> Vec<Thread> {
        let first = memory.pointer(self.runtime, self.layout.interpreters);
        let next = |interpreter: &u64| memory.pointer(*interpreter, self.layout.next_interpreter);
        let interpreters = std::iter::successors(first, next).take(MAX_INTERPRETERS);
        interpreters.flat_map(|interpreter| self.threads_of(memory, interpreter)).take(MAX_THREADS).collect()
    }

    fn threads_of(&self, memory: &(impl Memory + ?Sized), interpreter: u64) -> impl Iterator<Item = Thread> {
        let layout = &self.layout.thread;
        let first = memory.pointer(interpreter, self.layout.threads);
        let states = std::iter::successors(first, |state| memory.pointer(*state, layout.next));
        states.take(MAX_THREADS).map_while(|state| {
            let native = match layout.native {
                Some(native) => Some(memory.word(state, native)?),
                None => None,
            };
            Some(Thread { state, pthread: memory.word(state, layout.pthread)?, native })
        })
    }

    /// The calls in progress of a thread, innermost first, at most so many.
    pub(super) fn places(&self, memory: &(impl Memory + ?Sized), state: u64, most: usize) -> Vec<Place> {
        let mut next = self.innermost(memory, state);
        let mut places: Vec<Place> = Vec::new();
        while let Some(frame) = next.filter(|_| places.len() < most) {
            let Some(read) = self.layout.frame.read(memory, frame) else { break };
            match read.place(&self.layout.frame, self.layout.code.instructions) {
                Some(place) => places.push(place),
                // A frame of no function lies behind the last one of a run.
                None => places.last_mut().into_iter().for_each(|last| last.ends_run = true),
            }
            next = Some(read.previous).filter(|previous| *previous != 0 && *previous != frame);
        }
        places
    }

    fn innermost(&self, memory: &(impl Memory + ?Sized), state: u64) -> Option<u64> {
        let frame = memory.pointer(state, self.layout.thread.frame)?;
        match self.layout.thread.behind {
            Some(behind) => memory.pointer(frame, behind),
            None => Some(frame),
        }
    }
}

/// What is read of a frame.
struct Read {
    code: u64,
    previous: u64,
    instruction: u64,
    /// What stands where it says how it was entered.
    entry: u8,
}

impl Frame {
    fn read(&self, memory: &(impl Memory + ?Sized), frame: u64) -> Option<Read> {
        let entry = match self.entry {
            Entry::Each => 0,
            Entry::Marked(at) | Entry::Between(at, _) => memory.array::<1>(frame, at)?[0],
        };
        let instruction = match self.units {
            Units::Address => memory.word(frame, self.instruction)?,
            Units::Bytes | Units::Pairs => memory.half(frame, self.instruction)?.into(),
        };
        // References of 3.14 have marks in their lowest bits.
        let code = memory.word(frame, self.code)? & !7;
        Some(Read { code, previous: memory.word(frame, self.previous)?, instruction, entry })
    }
}

impl Read {
    /// `None` for a frame of no function.
    fn place(&self, frame: &Frame, instructions: u64) -> Option<Place> {
        let ends_run = match frame.entry {
            Entry::Each => true,
            Entry::Marked(_) => self.entry == 1,
            Entry::Between(_, owner) if self.entry >= owner => return None,
            Entry::Between(..) => false,
        };
        Some(Place { code: self.code, instruction: self.instruction(frame.units, instructions), ends_run })
    }

    fn instruction(&self, units: Units, instructions: u64) -> i32 {
        let half = u32::try_from(self.instruction).unwrap_or(u32::MAX).cast_signed();
        match units {
            Units::Bytes => half,
            Units::Pairs => half.saturating_mul(2),
            Units::Address => {
                let start = self.code.wrapping_add(instructions);
                i32::try_from(self.instruction.wrapping_sub(start).cast_signed()).unwrap_or(i32::MAX)
            }
        }
    }
}
