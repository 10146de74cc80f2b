//! Where a build of HotSpot has what, for the kernel side: offsets in bytes, addresses as the file of `libjvm.so` has them.

use core::mem::{offset_of, size_of, transmute};

use crate::scripts::{Interpreter, kind};

/// An [`Interpreter`] of kind [`kind::HOTSPOT`], by other names: a value of the INTERPRETERS map too. What a build does not have
/// is [`crate::scripts::ABSENT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hotspot {
    /// As in [`Interpreter`].
    pub code_delta: u64,
    /// Where the array of code heaps is (`CodeCache::_heaps`).
    pub heaps: u64,
    /// Where the address is that Java returns to when it was called from native code.
    pub entry_return: u64,
    /// In an array that grows: its elements; their number comes first.
    pub array_data: u32,
    /// In a code heap: its memory; the first address of it, and the one behind the last, are [`heap::LOW`] and [`heap::HIGH`] there.
    pub heap_memory: u32,
    /// The map of its segments.
    pub heap_map: u32,
    /// The binary logarithm of a segment's size.
    pub heap_shift: u32,
    /// Bytes between the beginning of a block of a heap and the blob in it.
    pub block_header: u32,
    /// In a blob: what kind of code it is, in words.
    pub blob_name: u32,
    /// In a method: where the flag is that stack traces leave it out, or [`crate::scripts::ABSENT`]: then it is one of `flags`.
    pub hidden_at: u32,
    /// Words of a frame of it; 0 or less where it keeps a frame pointer instead.
    pub frame_words: u32,
    /// Its code: where it begins, or with `immutable` a distance from the blob.
    pub code: u32,
    /// In compiled code: its method.
    pub method: u32,
    /// What is known of the calls inlined there: where that is, or with `immutable` a distance from there.
    pub scopes: u32,
    /// Where the table of its addresses is: a distance from the blob, or with `immutable` from there.
    pub table: u32,
    /// What is behind that, likewise.
    pub table_end: u32,
    /// Where its methods are: a distance from the blob, or with `mutable` not at all.
    pub metadata: u32,
    /// What does not change of compiled code, or [`crate::scripts::ABSENT`].
    pub immutable: u32,
    /// What changes of it, likewise: methods are there behind so many bytes as are at `relocation_bytes`.
    pub mutable: u32,
    /// See `mutable`.
    pub relocation_bytes: u32,
    /// Where code begins that a frame returns to when its code is no longer valid: an address, or with `immutable` a distance from
    /// the blob.
    pub deoptimized: u32,
    /// The same for calls of method handles, or [`crate::scripts::ABSENT`].
    pub deoptimized_handle: u32,
    /// Where such a frame has the address that it would have returned to: a distance from its stack pointer.
    pub original: u32,
    /// A number that no other compilation has.
    pub compilation: u32,
    /// In a method: what of it does not change.
    pub constant: u32,
    /// In that: its constants.
    pub constants: u32,
    /// Its size in words.
    pub words: u32,
    /// Flags.
    pub flags: u32,
    /// Bytes of its bytecode.
    pub code_bytes: u32,
    /// The number of its name among the constants.
    pub name: u32,
    /// As in [`Interpreter`]; it is odd where compressed numbers have no zeros.
    pub format: u32,
    /// [`kind::HOTSPOT`]
    pub kind: u32,
    /// Where its bytecode begins: the size of what comes before.
    pub bytecode: u32,
    /// The flag that there is a line table.
    pub has_lines: u32,
    /// Flags for what lies at its end and is of one process: a pointer each.
    pub has_pointers: u32,
    /// Among the constants: their class.
    pub holder: u32,
    /// Where they begin.
    pub first_constant: u32,
    /// The number of the source file's name, or [`crate::scripts::ABSENT`].
    pub source: u32,
    /// In a class: the same where the constants do not have it.
    pub holder_source: u32,
    /// Its name.
    pub class_name: u32,
    /// In a symbol: its length.
    pub symbol_length: u32,
    /// Its characters.
    pub symbol: u32,
    /// That flag.
    pub hidden: u32,
    /// In a thread: what the system knows of it.
    pub system_thread: u32,
    /// In that: what `pthread_self` returns in it.
    pub pthread: u32,
    /// In a thread: its last Java frame, of which stack pointer, address and frame pointer are at [`anchor`].
    pub anchor: u32,
    /// The same in what a Java frame has that was called from native code.
    pub entry_anchor: u32,
}

/// In the memory of a code heap.
pub mod heap {
    /// The first address.
    pub const LOW: u32 = 16;
    /// Behind the last that is in use.
    pub const HIGH: u32 = 24;
}

/// In what a thread knows of its last Java frame.
pub mod anchor {
    /// The stack pointer.
    pub const STACK: u32 = 0;
    /// The address, or 0: then it lies below the stack pointer.
    pub const INSTRUCTION: u32 = 8;
    /// The frame pointer.
    pub const FRAME: u32 = 16;
}

/// Where an interpreted frame has what, from its frame pointer (the interpreter of x86_64): the caller's stack pointer, the
/// method, the bytecode.
pub mod interpreted {
    /// `interpreter_frame_sender_sp_offset`
    pub const SENDER: u64 = 8;
    /// Behind it, `interpreter_frame_method_offset`.
    pub const METHOD: u64 = 24;
    /// `interpreter_frame_bcp_offset`
    pub const BYTECODE: u64 = 64;
}

/// Where a frame that was called from native code has what keeps the anchor of the one before
/// (`entry_frame_call_wrapper_offset`), below its frame pointer.
pub const ENTRY_WRAPPER: u64 = 48;

/// Instructions that are none: the line is that of a native method, or not known.
pub const NATIVE: i32 = -1;
/// See [`NATIVE`].
pub const UNKNOWN: i32 = -2;

impl Hotspot {
    /// As a value of the map.
    #[must_use]
    pub const fn interpreter(self) -> Interpreter {
        // SAFETY: both are numbers without padding, and as large.
        unsafe { transmute::<Self, Interpreter>(self) }
    }
}

const _: () = {
    assert!(size_of::<Hotspot>() == size_of::<Interpreter>());
    assert!(offset_of!(Hotspot, code_delta) == offset_of!(Interpreter, code_delta));
    assert!(offset_of!(Hotspot, format) == offset_of!(Interpreter, format));
    assert!(offset_of!(Hotspot, kind) == offset_of!(Interpreter, kind));
    assert!(kind::HOTSPOT != 0);
};
