//! How a frame leads to its caller: what the unwind tables of a program say of one address.
//!
//! User space compiles a [`Rule`] from the tables (.eh_frame, .debug_frame) when an address is met for the first time;
//! from then on the kernel side follows it by itself. Both sides use [`Rule::caller`], so that what is tested in user
//! space is what runs in the kernel. x86_64 only: the return address lies below the CFA (System V ABI, 3.2.2).

use core::mem::{offset_of, size_of};

use crate::{hash, hotspot::interpreted};

/// What a rule is; `Rule::kind`.
pub mod kind {
    /// Nobody knows the way on from here: the stack is cut.
    pub const UNKNOWN: u8 = 0;
    /// The CFA lies at a distance from the stack pointer.
    pub const STACK: u8 = 1;
    /// The CFA lies at a distance from the frame pointer.
    pub const FRAME: u8 = 2;
    /// The CFA is stored at a distance from the frame pointer, and the caller's frame pointer where it points to:
    /// functions that align their stack.
    pub const STORED: u8 = 3;
    /// The kernel made the frame to deliver a signal, and has all registers in it.
    pub const SIGNAL: u8 = 4;
    /// There is no caller: a process or a thread begins here.
    pub const END: u8 = 5;
    /// A frame of HotSpot's interpreter: it has a frame pointer, and says where the caller's stack was before arguments were
    /// moved there.
    pub const INTERPRETED: u8 = 6;
}

/// What there is to say of a rule besides; `Rule::notes`.
pub mod note {
    /// The tables say nothing, and this is how such code usually does it.
    pub const GUESSED: u8 = 1;
    /// The code lies in no file: a compiler has made it as the process ran, which keeps frame pointers, or nobody can follow it.
    pub const MADE: u8 = 4;
    /// The code is an interpreter's: calls of a script may be in progress in it.
    pub const INTERPRETER: u8 = 2;
}

/// What holds on the way from a frame to its caller.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Bytes from the register to the CFA, or to where it is stored.
    pub cfa: i32,
    /// Bytes from the CFA to where the caller's frame pointer is stored; 0 where the register still has it.
    pub frame: i16,
    /// One of [`kind`].
    pub kind: u8,
    /// Bits of [`note`].
    pub notes: u8,
}

impl Rule {
    /// A function that keeps a frame pointer.
    pub const FRAME_POINTER: Self = Self { cfa: 16, frame: -16, kind: kind::FRAME, notes: 0 };
    /// A function that has put nothing on the stack.
    pub const LEAF: Self = Self { cfa: 8, frame: 0, kind: kind::STACK, notes: 0 };
    /// The frame of a signal.
    pub const SIGNAL: Self = Self { cfa: 0, frame: 0, kind: kind::SIGNAL, notes: 0 };
    /// The first function.
    pub const END: Self = Self { cfa: 0, frame: 0, kind: kind::END, notes: 0 };
    /// A frame of HotSpot's interpreter.
    pub const INTERPRETED: Self = Self { cfa: 0, frame: 0, kind: kind::INTERPRETED, notes: 0 };
    /// Nobody knows.
    pub const UNKNOWN: Self = Self { cfa: 0, frame: 0, kind: kind::UNKNOWN, notes: 0 };
}

/// The registers that lead from frame to frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The instruction pointer.
    pub instruction: u64,
    /// The stack pointer.
    pub stack: u64,
    /// The frame pointer.
    pub frame: u64,
}

/// Where `struct rt_sigframe` has them, seen from the stack pointer of the trampoline that returns from a handler
/// (`struct ucontext`, arch/x86/include/uapi/asm/sigcontext.h; part of the system call interface).
mod signal {
    pub(super) const FRAME: u64 = 120;
    pub(super) const STACK: u64 = 160;
    pub(super) const INSTRUCTION: u64 = 168;
}

impl Rule {
    /// Whether nobody called the function that this rule leads out of: it is the first of its thread.
    #[inline(always)]
    #[must_use]
    pub const fn begins(self, at: Registers) -> bool {
        self.kind == kind::END || (self.kind == kind::FRAME && at.frame == 0)
    }

    /// The caller's registers; `None` when its stack cannot be read, or when the rule leads nowhere, which a rule of
    /// kind [`kind::UNKNOWN`] or [`kind::END`] always does. A caller's stack lies above, so a stack ends.
    #[inline(always)]
    pub fn caller(self, at: Registers, mut word: impl FnMut(u64) -> Option<u64>) -> Option<Registers> {
        if self.kind == kind::SIGNAL {
            return Some(Registers {
                instruction: word(at.stack.wrapping_add(signal::INSTRUCTION))?,
                stack: word(at.stack.wrapping_add(signal::STACK))?,
                frame: word(at.stack.wrapping_add(signal::FRAME))?,
            });
        }
        if self.kind == kind::INTERPRETED {
            let stack = word(at.frame.wrapping_sub(interpreted::SENDER))?;
            if stack <= at.stack {
                return None;
            }
            let instruction = word(at.frame.wrapping_add(8))?;
            return Some(Registers { instruction, stack, frame: word(at.frame)? });
        }
        if self.kind == kind::UNKNOWN || self.kind == kind::END {
            return None;
        }
        let register = if self.kind == kind::STACK { at.stack } else { at.frame };
        let place = register.wrapping_add(i64::from(self.cfa).cast_unsigned());
        let stored = self.kind == kind::STORED;
        let cfa = if stored { word(place)? } else { place };
        if cfa <= at.stack {
            return None;
        }
        let instruction = word(cfa.wrapping_sub(8))?;
        let frame = if self.frame == 0 && !stored {
            at.frame
        } else {
            let base = if stored { at.frame } else { cfa };
            word(base.wrapping_add(i64::from(self.frame).cast_unsigned()))?
        };
        Some(Registers { instruction, stack: cfa, frame })
    }

    /// Whether it leads on by the frame pointer that the frame was come to with, or decides by it.
    #[inline(always)]
    #[must_use]
    pub const fn uses_frame(self) -> bool {
        self.kind != kind::STACK && self.kind != kind::END && self.kind != kind::UNKNOWN
    }

    /// Where [`Self::caller`] has read what led it from `at` to this caller; `None` for frames that a signal or an
    /// interpreter has made.
    #[inline(always)]
    #[must_use]
    pub const fn slots(self, at: Registers, caller: Registers) -> Option<Slots> {
        let stored = self.kind == kind::STORED;
        if !stored && self.kind != kind::STACK && self.kind != kind::FRAME {
            return None;
        }
        let cfa = at.frame.wrapping_add((self.cfa as i64).cast_unsigned());
        let base = if stored { at.frame } else { caller.stack };
        let frame = base.wrapping_add((self.frame as i64).cast_unsigned());
        Some(Slots {
            cfa: if stored { cfa } else { 0 },
            instruction: caller.stack.wrapping_sub(8),
            frame: if stored || self.frame != 0 { frame } else { 0 },
        })
    }
}

/// Words of the stack that led from a frame to its caller, by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Has the CFA; 0 where that follows from a register.
    pub cfa: u64,
    /// Has the return address.
    pub instruction: u64,
    /// Has the caller's frame pointer; 0 where the register still has it.
    pub frame: u64,
}

/// Where in a program an address lies, and how its frame leads on. Value of the PC_CACHE map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// The module ([`module_key`], [`VDSO`]); [`ANONYMOUS`] where no file is mapped.
    pub module: u64,
    /// Offset in the module's file; the address itself in anonymous memory.
    pub offset: u64,
    /// How the frame leads on.
    pub rule: Rule,
}

/// `Code::module` of memory that is no file's: what a JIT compiler made.
pub const ANONYMOUS: u64 = 0;
/// `Code::module` of the vDSO, whose offsets count from where it is mapped. No file has such a key: [`hash::finish`]
/// sets the lowest bit.
pub const VDSO: u64 = 2;
/// `Code::module` of no code: the frames behind it submitted what those before it work on.
pub const SUBMISSION: u64 = 8;

/// What a module's file is known by. A file that was written anew has another time.
#[inline(always)]
#[must_use]
pub const fn module_key(device: u32, inode: u64, seconds: u64, nanoseconds: u64) -> u64 {
    hash::finish(hash::mix(
        hash::mix(hash::mix(hash::mix(hash::SEED, device as u64), inode), seconds),
        nanoseconds,
    ))
}

/// The name of a place: an offset in a module, or an address in an address space.
#[inline(always)]
#[must_use]
pub const fn place_key(within: u64, at: u64) -> u64 {
    hash::finish(hash::mix(hash::mix(hash::SEED, within), at))
}

/// How a stack ended; `StackHeader::end`.
pub mod end {
    /// Where a thread or a process begins.
    pub const COMPLETE: u8 = 0;
    /// Before that: no rule, no memory, or no more room.
    pub const CUT: u8 = 1;
    /// At an address whose rule user space is asked for; the rest of the stack follows in a [`crate::wire::StackDump`].
    pub const ASKED: u8 = 2;
}

const _: () = {
    assert!(size_of::<Rule>() == 8 && offset_of!(Rule, kind) == 6);
    assert!(size_of::<Code>() == 24 && offset_of!(Code, rule) == 16);
};

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use super::*;

    const AT: Registers = Registers { instruction: 0x40_1000, stack: 0x1000, frame: 0x1040 };

    /// Memory in which each word is its own address, with 1 added.
    fn word(address: u64) -> Option<u64> {
        (0x1000..0x2000).contains(&address).then_some(address + 1)
    }

    #[test]
    fn a_leaf_leads_to_the_word_at_the_stack_pointer() {
        let caller = Registers { instruction: 0x1001, stack: 0x1008, frame: 0x1040 };
        assert_eq!(Rule::LEAF.caller(AT, word), Some(caller));
    }

    #[test]
    fn a_frame_pointer_leads_to_the_words_it_points_to() {
        let caller = Registers { instruction: 0x1049, stack: 0x1050, frame: 0x1041 };
        assert_eq!(Rule::FRAME_POINTER.caller(AT, word), Some(caller));
    }

    #[test]
    fn a_saved_register_lies_below_the_cfa() {
        let rule = Rule { cfa: 0x30, frame: -24, kind: kind::STACK, notes: 0 };
        let caller = Registers { instruction: 0x1029, stack: 0x1030, frame: 0x1019 };
        assert_eq!(rule.caller(AT, word), Some(caller));
    }

    #[test]
    fn an_aligned_stack_has_its_cfa_stored() {
        let rule = Rule { cfa: -8, frame: 0, kind: kind::STORED, notes: 0 };
        let stored = |address| if address == 0x1038 { Some(0x1100) } else { word(address) };
        let caller = Registers { instruction: 0x10f9, stack: 0x1100, frame: 0x1041 };
        assert_eq!(rule.caller(AT, stored), Some(caller));
    }

    #[test]
    fn a_signal_may_have_come_on_another_stack() {
        let caller = Registers { instruction: 0x10a9, stack: 0x10a1, frame: 0x1079 };
        assert_eq!(Rule::SIGNAL.caller(AT, word), Some(caller));
    }

    #[test]
    fn an_interpreted_frame_says_where_its_caller_was() {
        let caller = Registers { instruction: 0x1049, stack: 0x1039, frame: 0x1041 };
        assert_eq!(Rule::INTERPRETED.caller(AT, word), Some(caller));
        let above = Registers { stack: 0x1039, ..AT };
        assert_eq!(Rule::INTERPRETED.caller(above, word), None, "it would stay where it is");
    }

    /// Which words a rule reads, in order, and which of them it is said to read.
    fn reads(rule: Rule) -> (Vec<u64>, Vec<u64>) {
        let mut read = Vec::new();
        let caller = rule.caller(AT, |address| {
            read.push(address);
            word(address).map(|word| word & !7)
        });
        let slots = caller.and_then(|caller| rule.slots(AT, caller));
        let said = slots.map_or_else(Vec::new, |slots| vec![slots.cfa, slots.instruction, slots.frame]);
        (read, said.into_iter().filter(|address| *address != 0).collect())
    }

    #[test]
    fn a_rule_says_which_words_it_has_read() {
        for rule in [
            Rule::LEAF,
            Rule::FRAME_POINTER,
            Rule { cfa: 0x30, frame: -24, kind: kind::STACK, notes: 0 },
            Rule { cfa: 0x30, frame: 0, kind: kind::FRAME, notes: 0 },
            Rule { cfa: -8, frame: 0, kind: kind::STORED, notes: 0 },
            Rule { cfa: -16, frame: -8, kind: kind::STORED, notes: 0 },
        ] {
            let (read, said) = reads(rule);
            assert_eq!(read, said, "{rule:?}");
        }
        assert_eq!(reads(Rule::SIGNAL).1, []);
        assert_eq!(reads(Rule::INTERPRETED).1, []);
    }

    #[test]
    fn a_rule_that_does_not_use_the_frame_pointer_leads_on_the_same_without_it() {
        let other = Registers { frame: 0x1888, ..AT };
        for rule in [Rule::LEAF, Rule { cfa: 0x30, frame: -24, kind: kind::STACK, notes: 0 }, Rule::END] {
            assert!(!rule.uses_frame());
            let (one, two) = (rule.caller(AT, word), rule.caller(other, word));
            assert_eq!(one.map(|caller| caller.instruction), two.map(|caller| caller.instruction));
            assert_eq!(one.map(|caller| caller.stack), two.map(|caller| caller.stack));
            assert_eq!(rule.begins(AT), rule.begins(other));
        }
    }

    #[test]
    fn no_rule_leads_down_or_out_of_memory() {
        let down = Rule { cfa: -8, ..Rule::LEAF };
        assert_eq!(down.caller(AT, word), None);
        assert_eq!(Rule { cfa: 0, ..Rule::LEAF }.caller(AT, word), None, "it would stay where it is");
        assert_eq!(Rule { cfa: 1 << 20, ..Rule::LEAF }.caller(AT, word), None);
        for frame in [0, AT.frame] {
            assert_eq!(Rule::END.caller(Registers { frame, ..AT }, word), None, "whatever the register has");
            assert_eq!(Rule::UNKNOWN.caller(Registers { frame, ..AT }, word), None);
        }
    }
}
