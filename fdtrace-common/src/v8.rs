//! Where a build of V8 has what, for the kernel side: offsets in bytes, addresses as the file has them.

use core::mem::{offset_of, size_of, transmute};

use crate::scripts::{Interpreter, kind};

/// An [`Interpreter`] of kind [`kind::V8`], by other names: a value of the INTERPRETERS map too. What a build does not have is
/// [`crate::scripts::ABSENT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V8 {
    /// As in [`Interpreter`], as all of the first four.
    pub code_delta: u64,
    /// What leads to a thread's isolate, by `local`; a place in the file in any case.
    pub runtime: u64,
    /// The isolate's offset, by `local`.
    pub local_offset: u64,
    /// One of [`crate::scripts::local`].
    pub local: u32,
    /// In an isolate: the frame from which its thread left JavaScript last.
    pub exit_frame: u32,
    /// In a frame, below its frame pointer: the bytecodes.
    pub frame_bytecodes: u32,
    /// In a `JSFunction`: its `SharedFunctionInfo`.
    pub shared: u32,
    /// In that: its name or its scope.
    pub name: u32,
    /// Its script.
    pub script: u32,
    /// Its number in that (`function_literal_id`).
    pub number: u32,
    /// What runs (`function_data`).
    pub function_data: u32,
    /// In `Code`: the address of its instructions; absent where they are in it themselves.
    pub instructions: u32,
    /// In what instructions lie in: where they begin.
    pub code_header: u32,
    /// In `Code`: how many bytes they have.
    pub instructions_size: u32,
    /// The table of bytecodes that the baseline compiler makes.
    pub offsets: u32,
    /// What optimised code was made of, or what baseline code was.
    pub deoptimization: u32,
    /// Its flags, of which the lowest four bits are its kind.
    pub flags: u32,
    /// In a `BytecodeArray`: its source positions.
    pub positions: u32,
    /// Its bytes.
    pub bytecodes: u32,
    /// In a `ScopeInfo`: its first word.
    pub scope: u32,
    /// The number of words before its variables.
    pub variables: u32,
    /// Where the function begins and ends; 0 where that is behind the variables.
    pub scope_positions: u32,
    /// Kinds of objects (`InstanceType`): those of strings are below this one.
    pub first_other: u32,
    /// `ScopeInfo`
    pub scope_kind: u32,
    /// `Script`
    pub script_kind: u32,
    /// `BytecodeArray`
    pub bytecodes_kind: u32,
    /// What has source positions.
    pub positions_kind: u32,
    /// `Code`
    pub code_kind: u32,
    /// What instructions lie in.
    pub stream_kind: u32,
    /// `SharedFunctionInfo`
    pub shared_kind: u32,
    /// As in [`Interpreter`].
    pub format: u32,
    /// [`kind::V8`]
    pub kind: u32,
    /// The kind of code that Maglev makes; absent where nobody knows.
    pub maglev: u32,
    /// How tables of safepoints are written: one of [`safepoints`].
    pub safepoints: u32,
    /// In what optimised code was made of: the index of its constants, which all behind them follow ([`deoptimization`]).
    pub literals: u32,
    /// How many bits an operation of a frame translation has below it. With two of them, numbers have the bit that tells that more
    /// bytes follow as their lowest one.
    pub operation_shift: u32,
    /// How many operations there are; 0 where translations cannot be read.
    pub operations: u32,
    /// Four bits for each: how many operands it has, or one of [`operation`].
    pub operands: [u32; 6],
    /// What has translations, if not what has source positions.
    pub bytes_kind: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// How a table says where in optimised code calls are, and what is known of each (V8's `src/codegen/safepoint-table.h`).
pub mod safepoints {
    /// Its length, the size of what follows behind all, and three numbers of four bytes for each.
    pub const FIXED: u32 = 0;
    /// Its length, how long numbers are, and these; of Maglev's code two more numbers before them.
    pub const SIZED: u32 = 1;
    /// The same behind one number more, but of Maglev's code one less.
    pub const FRAMED: u32 = 2;
    /// As [`FIXED`], and not behind the instructions, but where the third of the numbers says that begin with their size; and what is
    /// known of calls begins a word before `FIRST_ENTRY` ([`super::deoptimization`]).
    pub const APART: u32 = 3;
}

/// What follows the constants, in words behind their index (V8's `src/objects/deoptimization-data.h`).
pub mod deoptimization {
    /// The first element: the frame translations.
    pub const TRANSLATIONS: u32 = 0;
    /// A number that no other compilation of the isolate has.
    pub const COMPILATION: u32 = 3;
    /// What is known of each call: in its second word where its translation begins.
    pub const FIRST_ENTRY: u32 = 9;
    /// Words of an entry.
    pub const ENTRY_WORDS: u32 = 3;
}

/// Operations of frame translations (V8's `src/deoptimizer/translation-opcode.h`): how many operands they have, or what they are.
pub mod operation {
    /// The rest of the bits is the number of operands: a frame of a function. The first two are the offset in its bytecodes, and
    /// the index of the function among the constants.
    pub const FUNCTION: u32 = 8;
    /// One operand: so many operations are those of the translation before.
    pub const MATCH: u32 = 7;
    /// Three operands: the beginning of a translation.
    pub const BEGIN: u32 = 15;
}

impl V8 {
    /// As a value of the map.
    #[must_use]
    pub const fn interpreter(self) -> Interpreter {
        // SAFETY: both are numbers without padding, and as large.
        unsafe { transmute::<Self, Interpreter>(self) }
    }

    /// A value of the map by its other names; it has to be of [`kind::V8`].
    #[inline(always)]
    #[must_use]
    pub const fn of(interpreter: &Interpreter) -> &Self {
        // SAFETY: both are numbers without padding, as large, and as aligned.
        unsafe { transmute::<&Interpreter, &Self>(interpreter) }
    }
}

const _: () = {
    assert!(size_of::<V8>() == size_of::<Interpreter>() && align_of::<V8>() == align_of::<Interpreter>());
    assert!(offset_of!(V8, code_delta) == offset_of!(Interpreter, code_delta));
    assert!(offset_of!(V8, runtime) == offset_of!(Interpreter, runtime));
    assert!(offset_of!(V8, local_offset) == offset_of!(Interpreter, code_type));
    assert!(offset_of!(V8, local) == offset_of!(Interpreter, thread_key));
    assert!(offset_of!(V8, format) == offset_of!(Interpreter, format));
    assert!(offset_of!(V8, kind) == offset_of!(Interpreter, kind));
    assert!(kind::V8 != 0);
};
