//! Calls of scripts: how the kernel side reads them in a process, and the records in which it says what it read.
//!
//! User space recognises the file of an interpreter and says where that build has what ([`Interpreter`]); the kernel side then
//! follows the interpreter's own frames behind the native ones. A call is a code object and an instruction of it. Code objects
//! are named by what is in them ([`code_key`]), so that the same function of the same file has one name in all processes, and a
//! code object that is freed cannot be taken for its successor. What is in one is sent once for each name.

use core::mem::{offset_of, size_of};

use crate::{hash, wire::MAX_FRAMES};

/// An offset of something that a build does not have.
pub const ABSENT: u32 = u32::MAX;

/// How a frame says which instruction runs; `Interpreter::units`.
pub mod units {
    /// A number of bytes.
    pub const BYTES: u32 = 0;
    /// A number of code units, which have two bytes.
    pub const PAIRS: u32 = 1;
    /// The address of a code unit.
    pub const ADDRESS: u32 = 2;
}

/// Which frames are the last of a run of the evaluation loop; `Interpreter::entry`.
pub mod entry {
    /// Each.
    pub const EACH: u32 = 0;
    /// Those that have a 1 at `entry_at`.
    pub const MARKED: u32 = 1;
    /// Those before a frame of no function, which has `owner` or more at `entry_at` and lies on the C stack.
    pub const BETWEEN: u32 = 2;
}

/// Where a thread-local variable is; `V8::local`.
pub mod local {
    /// `pthread_getspecific` has it under a key whose number is at `runtime`.
    pub const KEY: u32 = 0;
    /// At `runtime` the loader has put its offset from the thread's own memory.
    pub const LOADED: u32 = 1;
    /// That offset is `code_type`.
    pub const FIXED: u32 = 2;
    /// At `runtime` the loader has put the module's number and the offset in its thread-local memory.
    pub const DYNAMIC: u32 = 3;
}

/// The line table of a function of V8 ([`Code`]): words that say where it is in its script, then what runs.
pub mod v8 {
    /// What there may be behind the variables of a scope: names, positions.
    pub const SCOPE_WORDS: usize = 8;
    /// The length of the script in characters; the words of the scope, and where it begins and ends, with 1 for what is no small
    /// integer; and how many bytes each of the [`PARTS`] has, of which the first comes behind these words, and the others each
    /// begin at a word.
    pub const HEAD_WORDS: usize = 1 + SCOPE_WORDS + 2 + PARTS;
    /// What runs: of code that the baseline compiler made, how long each bytecode's is; the bytecodes; their source positions,
    /// which V8 makes when somebody asks for them.
    pub const PARTS: usize = 3;
    /// The most bytes of each that are sent.
    pub const PART_BYTES: [u32; PARTS] = [2040, 3064, 2552];
}

/// How frames are followed; `Interpreter::kind`.
pub mod kind {
    /// As CPython has them.
    pub const CPYTHON: u32 = 0;
    /// As PHP has them: the frame is `zend_execute_data`, the code object `zend_op_array`.
    pub const PHP: u32 = 1;
    /// As Perl has them: the frame is `PERL_CONTEXT`, the code object what is named of a `CV` and of a `COP`.
    pub const PERL: u32 = 3;
    /// As Ruby has them: the frame is `rb_control_frame_t`, the code object `rb_iseq_t`.
    pub const RUBY: u32 = 2;
    /// As V8 has them: the frame is one of the machine's, the code object a `SharedFunctionInfo`.
    pub const V8: u32 = 4;
    /// As HotSpot has them: the frame is one of the machine's, the code object a `Method`.
    pub const HOTSPOT: u32 = 5;
}

/// Where a build of an interpreter has what: addresses as its file has them, and offsets in bytes. Value of the INTERPRETERS
/// map, by the module's key. Others than CPython have fewer of them:
///
/// - PHP: its globals are at `runtime`, and `frame` is in these.
/// - Perl: `frame` is the innermost `PERL_SI`, `instruction` is in the interpreter, `code` and `entry_at` are in a `PERL_CONTEXT`.
/// - Ruby: from 3.0 on a thread's context is in a thread-local variable, of which `runtime` says module and offset, or where
///   `runtime` is 0, `code_type` is the offset from the thread's own memory. Before that, when `thread_key` is [`ABSENT`], the
///   context that runs is at `runtime`, and what has the list of threads at `code_type`; a context has its thread at `frame`, a
///   thread its context at `behind`.
/// - V8 and HotSpot have other names for them: [`crate::v8::V8`], [`crate::hotspot::Hotspot`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interpreter {
    /// From an offset in the file's code to the address.
    pub code_delta: u64,
    /// What `interpreters` and `thread_key` are offsets in; of Perl where the number of its pthread key is, or without threads
    /// the interpreter.
    pub runtime: u64,
    /// The type of code objects; of PHP where the class of generators is, or 0.
    pub code_type: u64,
    /// The number of the pthread key under which a thread has its state, or [`ABSENT`].
    pub thread_key: u32,
    /// The first interpreter.
    pub interpreters: u32,
    /// In an interpreter: its first thread.
    pub threads: u32,
    /// In a thread's state: the next one.
    pub next_thread: u32,
    /// What `pthread_self` returns in it.
    pub pthread: u32,
    /// The innermost frame, or what leads to it.
    pub frame: u32,
    /// Behind that: the frame, or [`ABSENT`].
    pub behind: u32,
    /// The innermost structure that a run of the evaluation loop has on the C stack, or [`ABSENT`].
    pub border: u32,
    /// In that structure: the one of the run before.
    pub border_previous: u32,
    /// How many bytes of a frame are read.
    pub frame_bytes: u32,
    /// In a frame.
    pub code: u32,
    /// The frame of the caller.
    pub previous: u32,
    /// The instruction, in [`units`].
    pub instruction: u32,
    /// One of [`units`].
    pub units: u32,
    /// One of [`entry`].
    pub entry: u32,
    /// Where a frame says it.
    pub entry_at: u32,
    /// `FRAME_OWNED_BY_CSTACK`, or what took its place.
    pub owner: u32,
    /// In a code object: its function's name.
    pub function: u32,
    /// The file.
    pub file: u32,
    /// The first line.
    pub first_line: u32,
    /// The line table.
    pub lines: u32,
    /// A number that no other code object has, or [`ABSENT`].
    pub version: u32,
    /// Where its instructions begin.
    pub instructions: u32,
    /// The part of it that tells it from others: it has the number, or all else that is read but the instructions.
    pub part_at: u32,
    /// How many bytes that has, a multiple of eight, at most 128.
    pub part_bytes: u32,
    /// In a string of ASCII: its characters.
    pub ascii: u32,
    /// The same of other strings.
    pub other: u32,
    /// How its line tables are written: a number of user space's own, which comes back in [`Code`].
    pub format: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// PHP, in a code object: the class that its function is a method of, or 0.
    pub class: u32,
    /// How many instructions there are.
    pub count: u32,
    /// In the globals: the instruction that threw, while its exception is on the way, or [`ABSENT`].
    pub thrown: u32,
    /// In a generator: its frame.
    pub generated: u32,
    /// The generator that it has yield in its place.
    pub delegate: u32,
    /// CPython, in a thread's state: its interpreter.
    pub interpreter: u32,
    /// In an interpreter: the `version` that the next code object gets, or [`ABSENT`].
    pub next_version: u32,
    /// Perl, in the interpreter: the statement that runs (`PL_curcop`).
    pub statement: u32,
    /// In a `PERL_SI`: its kind.
    pub stack_kind: u32,
    /// The number of the operation that a statement begins with (`OP_NEXTSTATE`).
    pub next_state: u32,
    /// 1 where a statement has its file as a `GV`, 0 where as a string.
    pub file_is_glob: u32,
    /// In the body of a package: its name; [`ABSENT`] where that lies behind its buckets.
    pub package_name: u32,
    /// Ruby, in a code object: the index of its line table, of which an entry has so many bytes.
    pub positions: u32,
    /// See `positions`.
    pub entry_bytes: u32,
    /// Zero.
    pub reserved: u32,
}

/// One call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The code object, by [`code_key`].
    pub code: u64,
    /// An address in the native frame that runs this call and those before it, up to the next one that has such a border; 0 for
    /// none.
    pub border: u64,
    /// The instruction: so many bytes behind the first one, negative before it. Of PHP, Perl and Ruby the line, negative for none.
    pub instruction: i32,
    /// 1 for the last call of a run of the evaluation loop.
    pub ends_run: u32,
}

/// The calls of a stack; `calls` of [`Call`] follow. Comes before the stack of this name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// [`crate::wire::Tag::Calls`]
    pub tag: u8,
    /// Zero.
    pub reserved: u8,
    /// How many calls follow, at most [`MAX_FRAMES`].
    pub calls: u16,
    /// How many native frames the kernel side has taken.
    pub frames: u32,
    /// Name of the stack.
    pub hash: u64,
    /// The interpreter's file.
    pub module: u64,
    /// The stack pointer of each native frame, innermost first.
    pub stacks: [u64; MAX_FRAMES],
    /// Zero.
    pub reserved2: u64,
}

/// A string of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<const WORDS: usize> {
    /// How many bytes there are.
    pub bytes: u32,
    /// Bytes of a character: Latin-1, UCS-2, UCS-4.
    pub width: u16,
    /// 1 when there was more.
    pub cut: u16,
    /// The characters.
    pub words: [u64; WORDS],
}

/// Words of a function's name.
pub const FUNCTION_WORDS: usize = 32;
/// Words of a file's.
pub const FILE_WORDS: usize = 64;
/// Words of a line table.
pub const LINES_WORDS: usize = 2048;

/// What is in a code object; `lines.bytes` bytes of its line table follow `file`. PHP has a line in each instruction and no
/// table: in its place is the name of the class. So it is with Perl and the name of the package.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// [`crate::wire::Tag::Code`]
    pub tag: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// The first line; of HotSpot 1 where the language's own stack traces leave the method out.
    pub first_line: u32,
    /// Its name ([`code_key`]).
    pub key: u64,
    /// [`Interpreter::format`]
    pub format: u32,
    /// Zero.
    pub reserved2: u32,
    /// The function, qualified where there is that.
    pub function: Text<FUNCTION_WORDS>,
    /// The source file.
    pub file: Text<FILE_WORDS>,
    /// The line table.
    pub lines: Text<LINES_WORDS>,
}

/// The name of a code object, from a hash of all that is in it. No module has such a key: theirs are odd.
#[inline(always)]
#[must_use]
pub const fn code_key(hash: u64) -> u64 {
    (hash::finish(hash) & !1) | 4
}

/// Whether a place's module is the name of a code object, so that the place is a call of a script.
#[must_use]
pub const fn is_code(module: u64) -> bool {
    // As [`code_key`] sets them.
    module & 5 == 4
}

/// The name of a stack that has calls of scripts: from the one that it would have without them.
#[inline(always)]
#[must_use]
pub const fn stack_name(native: u64, calls: u64) -> u64 {
    hash::finish(hash::mix(native, calls))
}

/// Folds a call into a running hash, for [`stack_name`].
#[inline(always)]
#[must_use]
pub const fn mix(hash: u64, code: u64, instruction: i32) -> u64 {
    hash::mix(hash::mix(hash, code), instruction.cast_unsigned() as u64)
}

const _: () = {
    assert!(size_of::<Interpreter>() == 200 && offset_of!(Interpreter, format) == 132);
    assert!(size_of::<Call>() == 24);
    assert!(size_of::<Calls>() == 24 + MAX_FRAMES * 8 + 8 && size_of::<Calls>().is_multiple_of(8));
    assert!(offset_of!(Code, lines) == 24 + 8 + FUNCTION_WORDS * 8 + 8 + FILE_WORDS * 8);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::{ANONYMOUS, SUBMISSION, VDSO, module_key};

    #[test]
    fn no_module_is_taken_for_a_script() {
        assert!([ANONYMOUS, VDSO, SUBMISSION].iter().all(|module| !is_code(*module)));
        assert!((0..1000).all(|inode| !is_code(module_key(1, inode, 2, 3))));
        assert!((0..1000).all(|hash| is_code(code_key(hash))));
    }
}
