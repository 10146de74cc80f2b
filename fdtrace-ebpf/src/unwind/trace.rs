//! What a walk by tables depends on, besides the code that it meets: words of the stack.
//!
//! Where an address space is the same, so is what is known of its code. Then a frame leads to its caller by its own registers
//! and by the words that its rule reads: the return address always, a frame pointer only where a later rule uses it. So a walk
//! that begins with the same registers and would find the same words is the same walk, frame by frame, and has the same end.

use fdtrace_common::unwind::{Registers, Rule};

/// A walk that depends on more is not remembered. A power of two.
pub(crate) const WORDS: usize = 64;

/// More than any walk counts.
const GIVEN_UP: u32 = 1 << 16;

/// Where the frame pointer of the frame in progress is: in the register that the walk began with.
const REGISTER: u64 = 0;
/// Nobody needs to know any more. Anything else is the address of a word.
const NOTED: u64 = 1;

/// A word of the stack.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Word {
    pub(crate) address: u64,
    pub(crate) value: u64,
}

/// The words, in the order in which they were needed.
#[repr(C)]
pub(crate) struct Trace {
    words: [Word; WORDS],
    frame: u64,
    count: u32,
    /// 1 where the walk needs the frame pointer that it began with.
    pub(crate) uses_frame: u32,
}

impl Trace {
    /// A walk begins, of which somebody wants to know or not.
    #[inline(always)]
    pub(super) const fn begin(&mut self, is_wanted: bool) {
        self.frame = REGISTER;
        self.count = if is_wanted { 0 } else { GIVEN_UP };
        self.uses_frame = 0;
    }

    /// The walk depends on something else.
    #[inline(always)]
    pub(super) const fn give_up(&mut self) {
        self.count = GIVEN_UP;
    }

    /// How many words there are; `None` for a walk that depends on something else, or on too many.
    #[inline(always)]
    pub(super) const fn words(&self) -> Option<u32> {
        if self.count <= WORDS as u32 { Some(self.count) } else { None }
    }

    #[inline(always)]
    pub(super) const fn word(&self, index: u32) -> Word {
        self.words[index as usize & (WORDS - 1)]
    }

    /// A frame is about to be led on by a rule.
    #[inline(always)]
    pub(super) const fn note_use(&mut self, rule: Rule, at: Registers) {
        if self.count > WORDS as u32 || !rule.uses_frame() {
            return;
        }
        if self.frame == REGISTER {
            self.uses_frame = 1;
        } else if self.frame != NOTED {
            self.note(self.frame, at.frame);
        }
        self.frame = NOTED;
    }

    /// A rule has led to the caller.
    #[inline(always)]
    pub(super) const fn note_caller(&mut self, rule: Rule, at: Registers, caller: Registers) {
        if self.count > WORDS as u32 {
            return;
        }
        let Some(slots) = rule.slots(at, caller) else { return self.give_up() };
        if slots.cfa != 0 {
            self.note(slots.cfa, caller.stack);
        }
        self.note(slots.instruction, caller.instruction);
        if slots.frame != 0 {
            self.frame = slots.frame;
        }
    }

    #[inline(always)]
    const fn note(&mut self, address: u64, value: u64) {
        if self.count < WORDS as u32 {
            self.words[self.count as usize & (WORDS - 1)] = Word { address, value };
        }
        self.count += 1;
    }
}
