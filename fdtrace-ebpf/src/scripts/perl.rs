//! Frames of Perl: contexts, of which those of subroutines, formats and evaluated code are calls.
//!
//! A frame says which statement called it, and where it goes on; the interpreter says which statement runs now. A block of one
//! statement is a part of the statement around it: its line is only with the operations, so these are gone through for the one
//! that calls. Where several lines could have called, as branches of a condition that go on at the same place, it is the line at
//! which the whole statement begins. What was found is kept by the number that each piece of code gets when it is compiled, so
//! that no statement is taken for the one that was at its place before.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::map, maps::Array};
use fdtrace_common::{
    hash,
    scripts::{ABSENT, Interpreter, Text},
    wire::MAX_FRAMES,
};

use super::{
    Frame, SCRIPTS, Scripts, end_run,
    memory::{copy_string, copy_text, read, word},
    take, thread,
};
use crate::task::{self, Task};

/// Contexts that are read at once: so many have room in the window.
const CONTEXTS: u32 = 9;
const MAX_CONTEXT_BYTES: u32 = 112;

/// In a context: what calls it, and the operation that it goes on with. `CXt_SUB`, `CXt_FORMAT`, `CXt_EVAL`, and what marks a
/// block of a pattern (`CXp_SUB_RE_FAKE`) and a block of `eval` or `try` (`CXp_TRYBLOCK`).
const CALLER: u32 = 16;
const GOES_ON: u32 = 48;
const KIND: u64 = 15;
const SUB: u64 = 9;
const FORMAT: u64 = 10;
const EVAL: u64 = 11;
const OF_PATTERN: u64 = 0x80;
const OF_BLOCK: u64 = 0x40;

/// A stack of contexts (`PERL_SI`): where they are, the stack before, how many there are. `PERLSI_MAIN` is the first one.
const STACK_WORDS: usize = 6;
const STACK_CONTEXTS: usize = 1;
const STACK_PREVIOUS: usize = 2;
const STACK_LAST: usize = 4;
const FIRST_STACK: u32 = 1;

/// An operation: the one that follows, its sibling or parent, its number once it does nothing; bits; its first child. A statement
/// has its line behind the bits, its file, and the number of its piece of code.
const OPERATION_WORDS: usize = 6;
const NEXT: usize = 0;
const SIBLING: usize = 1;
const WAS: usize = 3;
const BITS: usize = 4;
const CHILD: usize = 5;
const STATEMENT_WORDS: usize = 8;
const FILE: usize = 6;
const SEQUENCE: usize = 7;
const NUMBER: u64 = 0x1ff;
const HAS_SIBLING: u64 = 1 << 14;
const HAS_CHILDREN: u64 = 1 << 18;
/// How far operations are behind `OP_NEXTSTATE`, in all versions: `OP_DBSTATE`, and those that call (`OP_ENTERSUB`, `OP_ENTEREVAL`,
/// `OP_REQUIRE`, which `OP_DOFILE` follows).
const DEBUG_STATE: u32 = 1;
const CALLS: u32 = 11_u32.wrapping_neg();
const EVALUATES: u32 = 150;
const REQUIRES: u32 = 147;
const DOES_FILE: u32 = 148;
/// Operations that are looked at for one line, and how deep they may lie in each other.
const MAX_OPERATIONS: u32 = 1024;
/// They are looked at in stretches of so many: the verifier checks a stretch once, and each round of its loop.
const STRETCH: u32 = 32;
/// The same for all lines of a stack.
const MAX_ALL: u32 = 8192;
const MAX_DEPTH: usize = 32;

/// The head of a value: its body, flags, and a pointer; and which type of it is what.
const HEAD_WORDS: usize = 3;
const TYPE: u64 = 0xff;
const TYPE_GLOB: u64 = 9;
const TYPE_HASH: u64 = 12;
const TYPE_CODE: u64 = 13;
const TYPE_FORMAT: u64 = 14;
const HAS_NAME: u64 = 1 << 25;
/// The body of a subroutine: its package, its first operation, its root, its name or the glob that has it; flags.
const BODY_WORDS: usize = 12;
const PACKAGE: usize = 4;
const START: usize = 5;
const ROOT: usize = 6;
const NAMED_BY: usize = 7;
const FLAGS: usize = 11;
const IS_NAMED: u64 = 1 << 47;
const IS_LEXICAL: u64 = 1 << 48;
/// What a glob has its values in, and there: the glob that it was first.
const FIRST_GLOB: u32 = 56;
/// In the body of a glob.
const GLOB_NAME: u32 = 32;
const GLOB_PACKAGE: u32 = 40;
/// In the body of a package: the last bucket; and where its name is: how many names it has.
const LAST_BUCKET: u32 = 24;
const NAMES: u32 = 28;
/// A name: a hash, its length, its characters.
const CHARACTERS: u64 = 8;
const MAX_CHARACTERS: u64 = 1 << 20;
/// What the name of a glob has before that of a file: `_<`.
const BEFORE_FILE: u64 = 2;

/// What a frame is of; user space is told as the first line.
pub(super) mod of {
    pub(crate) const SUBROUTINE: u32 = 0;
    pub(crate) const PROGRAM: u32 = 1;
    pub(crate) const STRING: u32 = 2;
    pub(crate) const FILE: u32 = 3;
    pub(crate) const UNKNOWN: u32 = 4;
}

/// No line.
const NO_LINE: i32 = -1;

/// How far a walk is.
#[repr(C)]
pub(super) struct State {
    /// Where the next contexts are, how many are left, and which was the first one that was read.
    contexts: u64,
    previous_stack: u64,
    left: u32,
    first: u32,
    stack_kind: u32,
    is_over: u32,
    /// The statement that the next frame runs, and the operation: that one, or what follows it.
    statement: u64,
    operation: u64,
    by_next: u32,
    /// The frame that was read last: one of [`of`].
    pub(super) of: u32,
    /// Its subroutine, and what has called it.
    code: u64,
    caller: u64,
    goes_on: u64,
    /// What is looked at of it each time.
    pub(super) check: u64,
    stack: [u64; STACK_WORDS],
    now: [u64; STATEMENT_WORDS],
    head: [u64; HEAD_WORDS],
    body: [u64; BODY_WORDS],
    glob: [u64; HEAD_WORDS],
    /// What called the frame that was taken last: one of [`of`].
    called: u32,
    /// The search for a line: the operation that is next, whether it was gone through, whether it is of another statement, how
    /// deep it lies, the line at each depth; and how many lines were found, and the first one.
    is_done: u32,
    is_other: u32,
    depth: u32,
    at: u64,
    found: u32,
    line: u32,
    /// How many operations may be looked at.
    left_operations: u32,
    lines: [u32; MAX_DEPTH],
    seen: [u64; OPERATION_WORDS],
}

/// A power of two.
const SLOTS: u32 = 4096;

/// Calls that were met: their names and lines by what is looked at each time, as [`super::code`] has code objects.
#[map]
static PERL_CALLS: Array<Slot> = Array::with_max_entries(SLOTS, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    check: u64,
    line: u64,
}

/// The name and the line of the call that was read last; no name where it was not met.
#[inline(always)]
pub(super) fn known(check: u64) -> (u64, i32) {
    let Some(slot) = PERL_CALLS.get_ptr(index(check)) else { return (0, 0) };
    // SAFETY: the pointer is to a value of the map, not null; what others write meanwhile does not pass the check.
    let known = unsafe { *slot };
    if known.check ^ known.key ^ known.line.rotate_left(32) == check {
        (known.key, known.line as i32)
    } else {
        (0, 0)
    }
}

#[inline(always)]
pub(super) fn remember(perl: &State, key: u64, line: i32) {
    let check = perl.check;
    // A line that was not found for want of time may be found the next time.
    if perl.left_operations != 0
        && let Some(slot) = PERL_CALLS.get_ptr_mut(index(check))
    {
        let line = u64::from(line as u32);
        // SAFETY: the pointer is to a value of the map, not null; readers check what they find.
        unsafe { *slot = Slot { key, check: check ^ key ^ line.rotate_left(32), line } };
    }
}

#[inline(always)]
const fn index(check: u64) -> u32 {
    (check >> 52) as u32 & (SLOTS - 1)
}

/// The current thread's innermost stack of contexts, and what runs; 0 where there is none.
#[inline(always)]
pub(super) fn begin(scripts: &mut Scripts, bias: u64, task: Task) -> u64 {
    let has = &scripts.interpreter;
    let runtime = bias.wrapping_add(has.runtime);
    let (stack, statement, operation) = if has.thread_key == ABSENT {
        if !task::is_first_thread() {
            return 0;
        }
        (word(runtime, has.frame), word(runtime, has.statement), word(runtime, has.instruction))
    } else {
        let interpreter = thread::value(task.plain().fsbase(), word(runtime, 0) as u32);
        if interpreter == 0 || !read(&mut scripts.state, 256, interpreter) {
            return 0;
        }
        let state = &scripts.state;
        (
            thread::part(state, has.frame),
            thread::part(state, has.statement),
            thread::part(state, has.instruction),
        )
    };
    let perl = &mut scripts.perl;
    perl.statement = statement;
    perl.operation = operation;
    perl.by_next = 0;
    perl.called = 0;
    perl.is_over = 0;
    perl.left_operations = MAX_ALL;
    if statement != 0 && load_stack(&scripts.interpreter, perl, stack) { stack } else { 0 }
}

/// Begins with the contexts of a stack.
#[inline(always)]
fn load_stack(has: &Interpreter, perl: &mut State, stack: u64) -> bool {
    if stack == 0 || !read(&mut perl.stack, (STACK_WORDS * 8) as u32, stack) {
        return false;
    }
    perl.contexts = perl.stack[STACK_CONTEXTS];
    perl.previous_stack = perl.stack[STACK_PREVIOUS];
    let last = perl.stack[STACK_LAST] as i32;
    perl.left = if last < 0 { 0 } else { last as u32 + 1 };
    perl.first = perl.left;
    let kind = if has.stack_kind == 40 { perl.stack[5] } else { perl.stack[5] >> 32 };
    perl.stack_kind = kind as u32;
    true
}

/// Goes to the next frame.
#[inline(always)]
pub(super) fn read_frame(scripts: &mut Scripts) -> Frame {
    if scripts.walk.calls >= MAX_FRAMES as u32 || scripts.perl.is_over != 0 {
        return Frame::End;
    }
    if scripts.perl.left == 0 {
        if scripts.perl.stack_kind == FIRST_STACK {
            scripts.perl.is_over = 1;
            scripts.perl.of = of::PROGRAM;
            return Frame::Call;
        }
        let previous = scripts.perl.previous_stack;
        let found = load_stack(&scripts.interpreter, &mut scripts.perl, previous);
        return if found { Frame::Between } else { Frame::End };
    }
    if scripts.perl.left <= scripts.perl.first && !load_contexts(scripts) {
        return Frame::End;
    }
    let size = scripts.interpreter.frame_bytes & (MAX_CONTEXT_BYTES | 15);
    let mut looked = 0;
    while looked < CONTEXTS {
        if scripts.perl.left <= scripts.perl.first {
            break;
        }
        scripts.perl.left -= 1;
        let at = (scripts.perl.left - scripts.perl.first) * size;
        if is_call(scripts, at) {
            return Frame::Call;
        }
        looked += 1;
    }
    Frame::Between
}

#[inline(always)]
fn load_contexts(scripts: &mut Scripts) -> bool {
    let left = scripts.perl.left;
    let count = if left < CONTEXTS { left } else { CONTEXTS };
    let size = scripts.interpreter.frame_bytes & (MAX_CONTEXT_BYTES | 15);
    scripts.perl.first = left - count;
    let from = scripts.perl.contexts.wrapping_add(u64::from(left - count) * u64::from(size));
    read(&mut scripts.window, count * size, from)
}

/// Whether a context is that of a call, which is read then.
#[inline(always)]
fn is_call(scripts: &mut Scripts, at: u32) -> bool {
    let kind = context(scripts, at);
    let of = match kind & KIND {
        SUB if kind & OF_PATTERN == 0 => of::SUBROUTINE,
        FORMAT => of::SUBROUTINE,
        // A block is no call of its own: its function's is.
        EVAL if kind & OF_BLOCK == 0 => {
            let file = context(scripts, at.wrapping_add(scripts.interpreter.code).wrapping_sub(8));
            if file == 0 { of::STRING } else { of::FILE }
        }
        _ => return false,
    };
    let (caller, goes_on) = (context(scripts, at + CALLER), context(scripts, at + GOES_ON));
    let code = context(scripts, at.wrapping_add(scripts.interpreter.code));
    let perl = &mut scripts.perl;
    perl.of = of;
    perl.caller = caller;
    perl.goes_on = goes_on;
    perl.code = code;
    true
}

#[inline(always)]
fn context(scripts: &Scripts, at: u32) -> u64 {
    scripts.window[(at >> 3) as usize & (super::WINDOW_WORDS - 1)]
}

/// Reads what tells the call from others; false for what is none.
#[inline(always)]
pub(super) fn look(scripts: &mut Scripts) -> bool {
    let Scripts { interpreter: has, perl, walk, .. } = scripts;
    if !read(&mut perl.now, (STATEMENT_WORDS * 8) as u32, perl.statement) {
        return false;
    }
    let number = (perl.now[BITS] & NUMBER) as u32;
    // What is being compiled has a statement of its own, which is no operation.
    if number != 0 && number.wrapping_sub(has.next_state) > 1 {
        return false;
    }
    // Threads have operations in common, and numbers of their own.
    let thread = bpf_get_current_pid_tgid();
    let mut check = hash::mix(hash::mix(walk.space, thread), perl.statement);
    let called = u64::from(perl.by_next) << 32 | u64::from(perl.called) << 16;
    let mut other = hash::mix(perl.operation, called | u64::from(perl.of));
    check = hash::mix(hash::mix(check, perl.now[BITS]), perl.now[FILE]);
    other = hash::mix(other, perl.now[SEQUENCE]);
    if perl.of == of::SUBROUTINE {
        if !read(&mut perl.head, (HEAD_WORDS * 8) as u32, perl.code) {
            return false;
        }
        let kind = (perl.head[1] >> 32) & TYPE;
        if (kind != TYPE_CODE && kind != TYPE_FORMAT)
            || !read(&mut perl.body, (BODY_WORDS * 8) as u32, perl.head[0])
        {
            return false;
        }
        check = hash::mix(hash::mix(check, perl.code), perl.body[NAMED_BY]);
        check = hash::mix(hash::mix(check, perl.body[START]), perl.body[ROOT]);
        other = hash::mix(hash::mix(other, perl.body[PACKAGE]), perl.body[FLAGS]);
        if perl.body[NAMED_BY] == 0 {
            perl.of = of::UNKNOWN;
        } else if perl.body[FLAGS] & IS_NAMED == 0 {
            if !read(&mut perl.glob, (HEAD_WORDS * 8) as u32, perl.body[NAMED_BY])
                || (perl.glob[1] >> 32) & TYPE != TYPE_GLOB
            {
                return false;
            }
            other = hash::mix(hash::mix(other, perl.glob[0]), perl.glob[2]);
        }
    }
    perl.check = hash::mix(check, other);
    true
}

/// Takes the call that was read last, and goes to what called it.
#[inline(always)]
pub(super) fn take_call(scripts: &mut Scripts, key: u64, line: i32) {
    take(scripts, key, line);
    let perl = &mut scripts.perl;
    // What a function of C calls goes on nowhere.
    let ends_run = perl.is_over != 0 || perl.goes_on == 0;
    perl.statement = perl.caller;
    perl.operation = perl.goes_on;
    perl.by_next = 1;
    perl.called = perl.of;
    if ends_run {
        end_run(scripts, 0);
    }
}

/// The line of the call that was read last.
#[inline(always)]
pub(super) fn line(taker: u32) -> i32 {
    scripts_perl_line(taker)
}

/// Global, as what it calls, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_perl_line(taker: u32) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return NO_LINE };
    // SAFETY: the map's value is one `Scripts`, which only this program uses on this CPU; here and below.
    let perl = unsafe { &mut (*scripts).perl };
    let own = line_of(perl.now[BITS]);
    perl.lines[0] = own;
    perl.depth = 0;
    perl.is_done = 0;
    perl.is_other = 0;
    perl.found = 0;
    perl.at = if perl.now[BITS] & HAS_SIBLING == 0 { 0 } else { perl.now[SIBLING] };
    if perl.at == 0 || perl.operation == 0 {
        return shown(own);
    }
    let mut looked = 0;
    while looked < MAX_OPERATIONS {
        let found = scripts_perl_operations(taker);
        if found == Search::Found as i32 {
            // SAFETY: as above.
            let perl = unsafe { &(*scripts).perl };
            return shown(perl.lines[perl.depth as usize & (MAX_DEPTH - 1)]);
        }
        if found == Search::Over as i32 {
            // SAFETY: as above.
            let perl = unsafe { &(*scripts).perl };
            return shown(if perl.found == 1 { perl.line } else { own });
        }
        if found == Search::Lost as i32 {
            return NO_LINE;
        }
        looked += STRETCH;
    }
    NO_LINE
}

/// Looks at some operations: a [`Search`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_perl_operations(taker: u32) -> i32 {
    let mut looked = 0;
    while looked < STRETCH {
        let found = scripts_perl_operation(taker);
        if found != Search::GoesOn as i32 {
            return found;
        }
        looked += 1;
    }
    Search::GoesOn as i32
}

/// A line of 0 is none.
#[inline(always)]
const fn shown(line: u32) -> i32 {
    if line == 0 || line > i32::MAX as u32 { NO_LINE } else { line as i32 }
}

#[inline(always)]
const fn line_of(bits: u64) -> u32 {
    (bits >> 32) as u32
}

/// How a search goes on.
#[repr(i32)]
enum Search {
    GoesOn = 0,
    /// The line is that of the depth.
    Found,
    /// All of the statement was looked at.
    Over,
    /// It cannot be told.
    Lost,
}

/// Looks at the next operation of a statement: a [`Search`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_perl_operation(taker: u32) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return Search::Lost as i32 };
    // SAFETY: as above.
    let Scripts { interpreter: has, perl, .. } = unsafe { &mut *scripts };
    search(has, perl) as i32
}

#[inline(always)]
fn search(has: &Interpreter, perl: &mut State) -> Search {
    if perl.left_operations == 0 {
        return Search::Lost;
    }
    perl.left_operations -= 1;
    if perl.at == 0 || !read(&mut perl.seen, (OPERATION_WORDS * 8) as u32, perl.at) {
        return Search::Lost;
    }
    let bits = perl.seen[BITS];
    let depth = perl.depth as usize & (MAX_DEPTH - 1);
    if perl.is_done == 0 {
        let number = (bits & NUMBER) as u32;
        let behind = number.wrapping_sub(has.next_state);
        if depth != 0 && number == 0 && perl.seen[WAS] == u64::from(has.next_state) {
            perl.lines[depth] = line_of(bits);
        } else if depth != 0 && behind <= DEBUG_STATE {
            // A statement that says itself when it runs.
            perl.is_other = 1;
        }
    }
    if perl.is_done == 0 && perl.is_other == 0 {
        let behind = ((bits & NUMBER) as u32).wrapping_sub(has.next_state);
        if perl.by_next == 0 {
            if perl.at == perl.operation {
                return Search::Found;
            }
        } else if perl.seen[NEXT] == perl.operation && has_called(perl.called, behind) {
            let line = perl.lines[depth];
            if perl.found == 0 {
                perl.found = 1;
                perl.line = line;
            } else if perl.line != line {
                perl.found = 2;
            }
        }
        if bits & HAS_CHILDREN != 0 && perl.seen[CHILD] != 0 {
            if depth + 1 >= MAX_DEPTH {
                return Search::Lost;
            }
            perl.lines[(depth + 1) & (MAX_DEPTH - 1)] = perl.lines[depth];
            perl.depth = depth as u32 + 1;
            perl.at = perl.seen[CHILD];
            return Search::GoesOn;
        }
    }
    if depth == 0 {
        return Search::Over;
    }
    perl.at = perl.seen[SIBLING];
    perl.is_done = u32::from(bits & HAS_SIBLING == 0);
    if perl.is_done != 0 {
        perl.is_other = 0;
        perl.depth = depth as u32 - 1;
    }
    Search::GoesOn
}

/// Whether an operation is one that begins such a frame.
#[inline(always)]
const fn has_called(called: u32, behind: u32) -> bool {
    match called {
        of::STRING => behind == EVALUATES,
        of::FILE => behind == REQUIRES || behind == DOES_FILE,
        _ => behind == CALLS,
    }
}

/// Reads the name and the package of the call that was read last.
#[inline(always)]
pub(super) fn names<const NAME: usize, const LINES: usize>(
    has: &Interpreter,
    perl: &State,
    function: &mut Text<NAME>,
    package: &mut Text<LINES>,
) -> bool {
    function.width = 1;
    package.width = 1;
    if perl.of != of::SUBROUTINE {
        return copy_text(function, 0, 0) && copy_text(package, 0, 0);
    }
    let (name, stash) = if perl.body[FLAGS] & IS_NAMED != 0 {
        let is_lexical = perl.body[FLAGS] & IS_LEXICAL != 0;
        (perl.body[NAMED_BY], if is_lexical { 0 } else { perl.body[PACKAGE] })
    } else {
        let first = word(perl.glob[2], FIRST_GLOB);
        let body = if first == 0 { perl.glob[0] } else { word(first, 0) };
        (word(body, GLOB_NAME), word(body, GLOB_PACKAGE))
    };
    let package_name = if stash == 0 { 0 } else { package_name(has, stash) };
    text(function, name, 0)
        && (if package_name == 0 { copy_text(package, 0, 0) } else { text(package, package_name, 0) })
}

/// Where a package has its name; 0 for none.
#[inline(always)]
fn package_name(has: &Interpreter, package: u64) -> u64 {
    let flags = word(package, 8) >> 32;
    if flags & TYPE != TYPE_HASH || flags & HAS_NAME == 0 {
        return 0;
    }
    let body = word(package, 0);
    let place = if has.package_name == ABSENT {
        let buckets = word(body, LAST_BUCKET).wrapping_add(1);
        word(package, 16).wrapping_add(buckets.wrapping_mul(8))
    } else {
        body.wrapping_add(u64::from(has.package_name))
    };
    let name = word(place, 0);
    // One that has several has a list of them.
    if word(place, NAMES) as u32 == 0 { name } else { word(name, 0) }
}

/// Reads a name, but for so many bytes at its beginning.
#[inline(always)]
fn text<const WORDS: usize>(into: &mut Text<WORDS>, name: u64, skipped: u64) -> bool {
    // Less than none is more than there may be.
    let length = (word(name, 0) >> 32).wrapping_sub(skipped) & (2 * MAX_CHARACTERS - 1);
    if name == 0 || length > MAX_CHARACTERS {
        return false;
    }
    copy_text(into, name.wrapping_add(CHARACTERS + skipped), length)
}

/// Reads the file of the call that was read last.
#[inline(always)]
pub(super) fn file<const WORDS: usize>(has: &Interpreter, perl: &State, into: &mut Text<WORDS>) -> bool {
    into.width = 1;
    let from = perl.now[FILE];
    let found = if has.file_is_glob == 0 {
        copy_string(into, from)
    } else {
        text(into, word(word(from, 0), GLOB_NAME), BEFORE_FILE)
    };
    if found && is_numbered(into) {
        // `(eval 12)` is the twelfth string of the process, which is no name of it.
        into.words[0] = u64::from_le_bytes(*b"(eval)\0\0");
        into.bytes = 6;
    }
    found
}

/// Whether a file is called as evaluated strings are.
#[inline(always)]
fn is_numbered<const WORDS: usize>(file: &Text<WORDS>) -> bool {
    const BEGINNING: u64 = u64::from_le_bytes(*b"(eval \0\0");
    if file.words[0] & 0xffff_ffff_ffff != BEGINNING || file.bytes < 8 || file.bytes > 20 {
        return false;
    }
    let mut at = 6;
    while at < 20 {
        let byte = (file.words[at >> 3] >> ((at & 7) * 8)) as u8;
        if at as u32 + 1 >= file.bytes {
            return byte == b')';
        }
        if !byte.is_ascii_digit() {
            return false;
        }
        at += 1;
    }
    false
}
