//! Where the objects of a build have what, by what it says of itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::runtimes::{Image, memory::Memory};

/// A version of V8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Version(u32, u32, u32);

/// From this one on a `ScopeInfo` is no array.
const SCOPES_ARE_OBJECTS: Version = Version(9, 1, 71);
/// From this one on positions come before the variables of a scope; what is said of the first variable tells too.
const WORD: u32 = 8;

/// Before this one frames do not have the number of their arguments.
const FRAMES_HAVE_ARGUMENTS: Version = Version(8, 7, 198);
/// From this one on a source position table says of each position whether a debugger may stop there.
const POSITIONS_ARE_MARKED: Version = Version(14, 0, 0);

impl Version {
    /// How many bits an offset has below it in a source position table.
    pub(super) fn position_flags(self) -> u32 {
        if self < POSITIONS_ARE_MARKED { 1 } else { 2 }
    }

    pub(super) fn of(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Self> {
        let [_, numbers @ ..] = super::SYMBOLS;
        let [major, minor, build] = numbers.map(|name| memory.half(image.symbol(name)?, 0));
        Some(Self(major?, minor?, build?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Offsets in bytes, and kinds of objects (`InstanceType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// In a frame, below its frame pointer: the bytecodes; the offset in them follows.
    pub(super) frame: u32,
    /// `JSFunction`
    pub(super) shared: u32,
    /// `SharedFunctionInfo`: its name or its scope, its script, its number in that.
    pub(super) name: u32,
    pub(super) script: u32,
    pub(super) number: u32,
    pub(super) function_data: u32,
    /// `Code`: the address of its instructions, where it has them not in itself; where they begin in what they lie in; how many bytes
    /// they have; the table of bytecodes that the baseline compiler makes; what it was made of.
    pub(super) instructions: Option<u32>,
    pub(super) code_header: u32,
    pub(super) instructions_size: u32,
    pub(super) offsets: u32,
    pub(super) deoptimization: u32,
    /// `BytecodeArray`: its source positions, its bytes.
    pub(super) positions: u32,
    pub(super) bytecodes: u32,
    /// `ScopeInfo`: its first word, the number of words before its variables, and where it has positions, if before those.
    pub(super) scope: u32,
    pub(super) variables: u32,
    pub(super) scope_positions: Option<u32>,
    /// What strings are below.
    pub(super) first_other: u32,
    pub(super) scope_kind: u32,
    pub(super) script_kind: u32,
    pub(super) bytecodes_kind: u32,
    pub(super) positions_kind: u32,
    pub(super) code_kind: u32,
    /// What instructions lie in.
    pub(super) stream_kind: u32,
    pub(super) shared_kind: u32,
    /// What has bytes, which positions may be or not.
    pub(super) bytes_kind: u32,
    /// In `Code`: its flags, of which the lowest bits are which compiler has made it.
    pub(super) flags: u32,
}

/// What is said under one of these names.
type Names = &'static [&'static str];

const SHARED: Names = &["v8dbg_class_JSFunction__shared__SharedFunctionInfo"];
const NAME: Names = &[
    "v8dbg_class_SharedFunctionInfo__name_or_scope_info__Object",
    "v8dbg_class_SharedFunctionInfo__name_or_scope_info__Tagged_Object_",
    "v8dbg_class_SharedFunctionInfo__name_or_scope_info__Tagged_NameOrScopeInfoT_",
];
const SCRIPT: Names = &[
    "v8dbg_class_SharedFunctionInfo__script_or_debug_info__HeapObject",
    "v8dbg_class_SharedFunctionInfo__script_or_debug_info__Object",
    "v8dbg_class_SharedFunctionInfo__script__Tagged_HeapObject_",
];
/// What comes before the function's number.
const FLAGS: Names = &["v8dbg_class_SharedFunctionInfo__flags__int"];
const POSITIONS: Names = &["v8dbg_class_BytecodeArray__source_position_table__Object"];
/// Where it is said, what comes before the positions.
const WRAPPER: Names = &["v8dbg_class_BytecodeArray__wrapper__Tagged_BytecodeWrapper_"];
const BYTECODES: Names = &["v8dbg_class_BytecodeArray__data__uintptr_t"];
const VARIABLES: Names = &["v8dbg_scopeinfo_idx_first_vars"];
const FIRST_OTHER: Names = &["v8dbg_FirstNonstringType"];
const SCOPE_KIND: Names = &["v8dbg_type_ScopeInfo__SCOPE_INFO_TYPE"];
const SCRIPT_KIND: Names = &["v8dbg_type_Script__SCRIPT_TYPE"];
const BYTECODES_KIND: Names = &["v8dbg_type_BytecodeArray__BYTECODE_ARRAY_TYPE"];
const POSITIONS_KIND: Names =
    &["v8dbg_type_TrustedByteArray__TRUSTED_BYTE_ARRAY_TYPE", "v8dbg_type_ByteArray__BYTE_ARRAY_TYPE"];

const CODE_KIND: Names = &["v8dbg_type_Code__CODE_TYPE"];
/// Where instructions have an object of their own.
const STREAM_KIND: Names = &["v8dbg_type_InstructionStream__INSTRUCTION_STREAM_TYPE"];
const STREAM_HEADER: Names = &["v8dbg_class_InstructionStream__instruction_start__uintptr_t"];
const SHARED_KIND: Names = &["v8dbg_type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE"];
const BYTES_KIND: Names = &["v8dbg_type_ByteArray__BYTE_ARRAY_TYPE"];
const CODE_FLAGS: Names = &["v8dbg_class_Code__flags__uint32_t"];
/// Where the address of the instructions is.
const INSTRUCTIONS: Names = &["v8dbg_class_Code__instruction_start__Address"];
/// Where they are themselves: behind the object's head.
const HEADER: Names = &["v8dbg_class_Code__instruction_start__uintptr_t"];
const INSTRUCTIONS_SIZE: Names = &["v8dbg_class_Code__instruction_size__int"];
const OFFSETS: Names = &["v8dbg_class_Code__bytecode_offset_table__ByteArray"];
/// What comes before the instructions' address where the table comes before that.
const CODE_WRAPPER: Names = &["v8dbg_class_Code__wrapper__Tagged_CodeWrapper_"];

const ALL: [Names; 24] = [
    CODE_KIND,
    BYTES_KIND,
    STREAM_KIND,
    STREAM_HEADER,
    SHARED_KIND,
    CODE_FLAGS,
    INSTRUCTIONS,
    HEADER,
    INSTRUCTIONS_SIZE,
    OFFSETS,
    CODE_WRAPPER,
    SHARED,
    NAME,
    SCRIPT,
    FLAGS,
    POSITIONS,
    WRAPPER,
    BYTECODES,
    VARIABLES,
    FIRST_OTHER,
    SCOPE_KIND,
    SCRIPT_KIND,
    BYTECODES_KIND,
    POSITIONS_KIND,
];

pub(super) fn symbols() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().flatten().copied()
}

/// Words before the variables of a scope that has no positions before them.
const FEW: u32 = 3;
/// A scope's positions come behind three words.
const BEFORE_POSITIONS: u32 = 3 * WORD;
/// To 11.3, where nobody says it: behind the map, the length, the constants and the handlers.
const FOURTH: u32 = 4 * WORD;
/// Where it is not said, behind the map, the relocations and the deoptimizations.
const THIRD: u32 = 3 * WORD;
/// From there: so many bytes of small fields and then the bytecodes.
const TO_BYTECODES: u32 = WORD + 14;

impl Layout {
    /// `None` where it does not say enough.
    pub(super) fn of(image: &Image, memory: &(impl Memory + ?Sized), version: Version) -> Option<Self> {
        let said = |names: Names| {
            let at = names.iter().find_map(|name| image.symbol(name))?;
            // Offsets are small.
            memory.half(at, 0).filter(|value| *value < 1 << 16)
        };
        let positions = said(POSITIONS).or_else(|| Some(said(WRAPPER)? + WORD)).unwrap_or(FOURTH);
        let variables = said(VARIABLES)?;
        let header = said(HEADER);
        let offsets = said(OFFSETS).or_else(|| Some(said(CODE_WRAPPER)? - WORD)).unwrap_or(THIRD);
        // In 11.x nobody says it.
        let instructions = said(INSTRUCTIONS).or_else(|| header.is_none().then_some(offsets + 2 * WORD));
        let instructions_size = said(INSTRUCTIONS_SIZE).or_else(|| Some(instructions? + 2 * WORD));
        Some(Self {
            function_data: WORD,
            instructions,
            code_header: header.or_else(|| said(STREAM_HEADER)).unwrap_or(0),
            instructions_size: instructions_size?,
            offsets,
            deoptimization: offsets.checked_sub(WORD)?,
            code_kind: said(CODE_KIND)?,
            stream_kind: said(STREAM_KIND).or_else(|| said(CODE_KIND))?,
            shared_kind: said(SHARED_KIND)?,
            bytes_kind: said(BYTES_KIND)?,
            // Where nobody says it, behind the address or both sizes.
            flags: said(CODE_FLAGS).or_else(|| Some(instructions.or(instructions_size)? + WORD))?,
            frame: if version < FRAMES_HAVE_ARGUMENTS { 3 * WORD } else { 4 * WORD },
            shared: said(SHARED)?,
            name: said(NAME)?,
            script: said(SCRIPT)?,
            number: said(FLAGS)? + 4,
            positions,
            bytecodes: said(BYTECODES).unwrap_or(positions + TO_BYTECODES),
            scope: if version < SCOPES_ARE_OBJECTS { 2 * WORD } else { WORD },
            variables,
            scope_positions: (variables > FEW).then_some(BEFORE_POSITIONS),
            first_other: said(FIRST_OTHER)?,
            scope_kind: said(SCOPE_KIND)?,
            script_kind: said(SCRIPT_KIND)?,
            bytecodes_kind: said(BYTECODES_KIND)?,
            positions_kind: said(POSITIONS_KIND)?,
        })
    }
}
