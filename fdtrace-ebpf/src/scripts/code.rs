//! Code objects: named by what is in them, which is sent once for each name.

use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};
use fdtrace_common::{
    counters::Counter,
    hash,
    scripts::{Code, FILE_WORDS, FUNCTION_WORDS, Interpreter, LINES_WORDS, Text, code_key, v8::SCOPE_WORDS},
    v8::V8,
    wire::Tag,
};

use super::{
    SCRIPTS, cpython, hotspot,
    memory::{copy_text, number, part, read},
    perl, php, ruby, v8,
    v8_optimized::{self, NOT_OPTIMIZED},
};
use crate::{counters::count, events, takers::TAKERS};

/// Names that user space has been sent.
#[map]
static CODES: LruHashMap<u64, u8> = LruHashMap::with_max_entries(16384, 0);

/// A power of two.
const SLOTS: u32 = 4096;

/// Names by what is looked at each time; as [`crate::unwind::pc_cache`] has addresses.
#[map]
static CODE_CACHE: Array<Slot> = Array::with_max_entries(SLOTS, 0);

/// A code object, or what two CPUs that wrote at once have left of two: then `check` does not fit.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    check: u64,
}

/// What a code object is read with that was not met before.
#[repr(C)]
struct Scratch {
    code: Code,
    /// The head of a string, or of an object of bytes: reference count, type, length, hash, state.
    head: [u64; 5],
    hash: u64,
    /// V8: parts of a string.
    strings: v8::Strings,
}

/// By who takes the stack: what interrupts a program must not write into the name that it makes.
#[map]
static CODE_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(TAKERS, 0);

/// What is read of a code object of CPython; its second word is its type.
const CODE_BYTES: u32 = 144;

const BPF_ANY: u64 = 0;

/// Words of a line table are hashed in stretches of so many: the verifier checks a stretch once, and each round of its loop.
const STRETCH: u32 = 64;

/// No name of a code object: those are even.
const UNKNOWN: u64 = 1;

/// The length of a string or of an object of bytes is its third word; the state of a string the fifth, where its hash is that
/// of an object of bytes, whose bytes follow the fourth.
const LENGTH: usize = 2;
const STATE: usize = 4;
const BYTES: u64 = 32;
/// Bits of the state: three for a character's width, compact, ASCII.
const WIDTH: u64 = 2;
const COMPACT: u64 = 1 << 5;
const ASCII: u64 = 1 << 6;

/// The name of what was read, if it was.
#[inline(always)]
fn named(taker: u32, was_read: i32) -> u64 {
    if was_read == 0 { 0 } else { scripts_name(taker) }
}

/// The name of the code object of the frame that was read last; 0 when it is none, or user space could not be told.
#[inline(always)]
pub(super) fn key(taker: u32) -> u64 {
    let brief = scripts_brief(taker);
    if brief != 0 {
        return brief;
    }
    let known = scripts_known(taker);
    let key = if known == UNKNOWN { named(taker, scripts_code(taker)) } else { known };
    scripts_keep(taker, key);
    key
}

/// The name of a code object since whose last reading no other was made; 0 for any other.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_brief(taker: u32) -> u64 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let walk = unsafe { &mut (*scripts).walk };
    walk.brief = cpython::brief(walk);
    if walk.brief == 0 { 0 } else { known(walk.brief) }
}

/// The name of a code object that was read before; [`UNKNOWN`] where it has to be read, 0 where it cannot be.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_known(taker: u32) -> u64 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    if !cpython::check(scripts) {
        return 0;
    }
    match known(scripts.walk.check) {
        0 => UNKNOWN,
        key => key,
    }
}

/// The same of PHP.
#[inline(always)]
pub(super) fn php_key(taker: u32) -> u64 {
    let known = scripts_php_known(taker);
    if known == 0 { named(taker, scripts_php_code(taker)) } else { known }
}

/// The same of Perl, of a call that was not met before.
#[inline(always)]
pub(super) fn perl_key(taker: u32) -> u64 {
    named(taker, scripts_perl_code(taker))
}

/// The same of Ruby.
#[inline(always)]
pub(super) fn ruby_key(taker: u32) -> u64 {
    let known = scripts_ruby_known(taker);
    if known == 0 { named(taker, scripts_ruby_code(taker)) } else { known }
}

/// The same of V8. What reads a part of it is not called by what reads another, for the stack.
#[inline(always)]
pub(super) fn v8_key(taker: u32) -> u64 {
    let met = scripts_v8_met(taker);
    if met != 0 {
        return met;
    }
    let known = v8_optimized::v8_call_known(taker);
    match known {
        0 => {}
        NOT_OPTIMIZED => return v8_plain_key(taker),
        key => return key,
    }
    if v8_optimized::v8_find(taker) == 0 {
        v8_optimized::v8_call_keep(taker, NOT_OPTIMIZED);
        return v8_plain_key(taker);
    }
    let key = match scripts_v8_call(taker) {
        UNKNOWN => v8_named(taker),
        key => key,
    };
    if key != 0 {
        v8_optimized::v8_call_keep(taker, key);
    }
    key
}

/// The same of a frame of bytecodes, or of code that the baseline compiler has made.
#[inline(always)]
fn v8_plain_key(taker: u32) -> u64 {
    let key = match scripts_v8_known(taker) {
        UNKNOWN => v8_named(taker),
        key => key,
    };
    scripts_v8_keep(taker, key);
    key
}

/// The name of the function of a frame that was met before; 0 for any other.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_v8_met(taker: u32) -> u64 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    v8::met(unsafe { &mut *scripts })
}

/// Remembers a frame by the name of its function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_v8_keep(taker: u32, key: u64) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr(taker) else { return 0 };
    // SAFETY: as above.
    v8::keep(unsafe { &*scripts }, key);
    0
}

/// The name of a function that was not met.
#[inline(always)]
fn v8_named(taker: u32) -> u64 {
    let file = scripts_v8_name(taker);
    if file == 0 {
        return 0;
    }
    scripts_v8_text(taker, 1, file);
    named(taker, scripts_v8_code(taker))
}

/// The same of HotSpot.
#[inline(always)]
pub(super) fn hotspot_key(taker: u32) -> u64 {
    let known = java_known(taker);
    if known == UNKNOWN { named(taker, java_code(taker)) } else { known }
}

/// Global, as all that follow, so that the verifier checks it once; and apart from what takes a frame, for all callers of a
/// function share 512 bytes of stack.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_php_known(taker: u32) -> u64 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    scripts.walk.check = php::check(&scripts.interpreter, &scripts.code, &scripts.walk);
    if scripts.walk.check == 0 { 0 } else { known(scripts.walk.check) }
}

/// The same of Ruby.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_ruby_known(taker: u32) -> u64 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    scripts.walk.check = ruby::check(&scripts.interpreter, &scripts.code, &scripts.walk);
    let (function, file) =
        (part(&scripts.code, scripts.interpreter.function), part(&scripts.code, scripts.interpreter.file));
    scripts.walk.file = ruby::path(&mut scripts.table, file);
    let file = scripts.walk.file;
    if scripts_ruby_text(taker, function) == 0 || scripts_ruby_text(taker, file) == 0 {
        scripts.walk.file = 0;
        return 0;
    }
    known(scripts.walk.check)
}

/// The same of HotSpot; [`UNKNOWN`] where it has to be read, 0 where it cannot be.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_known(taker: u32) -> u64 {
    let (Some(scripts), Some(java)) = (SCRIPTS.get_ptr_mut(taker), hotspot::state(taker)) else { return 0 };
    let check = hotspot::check_method(java);
    // SAFETY: as above.
    unsafe { (*scripts).walk.check = check };
    if check == 0 {
        return 0;
    }
    match known(check) {
        0 => UNKNOWN,
        key => key,
    }
}

/// Folds a string into what is looked at each time; 0 where there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_ruby_text(taker: u32, object: u64) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    i32::from(ruby::mix_text(unsafe { &mut *scripts }, object))
}

/// The name of the function of an optimised frame's next call; [`UNKNOWN`] where it has to be read, 0 where it cannot be.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_v8_call(taker: u32) -> u64 {
    let Some(scripts) = SCRIPTS.get_ptr(taker) else { return 0 };
    if v8_optimized::v8_call(taker) == 0 {
        return 0;
    }
    // SAFETY: as above.
    match known(unsafe { (*scripts).walk.check }) {
        0 => UNKNOWN,
        key => key,
    }
}

/// The same of V8; [`UNKNOWN`] where it has to be read.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_v8_known(taker: u32) -> u64 {
    let Some(scripts) = SCRIPTS.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    let mut bytecodes = v8::bytecodes(scripts);
    scripts.walk.class = 0;
    scripts.walk.goes_on = 0;
    if bytecodes == 0 || !v8::are_bytecodes(V8::of(&scripts.interpreter), bytecodes) {
        bytecodes = 0;
    }
    let pc = scripts.walk.outermost;
    let is_interpreted = bytecodes != 0 && v8::interprets(scripts);
    scripts.walk.line = match (bytecodes, is_interpreted) {
        (0, _) => -1,
        (_, true) => v8::offset(scripts),
        (_, false) => v8::find_baseline(scripts, pc),
    };
    // Code that was made of other code is not what it was made of.
    let with = if is_interpreted { bytecodes } else { hash::mix(bytecodes, scripts.walk.class) };
    scripts.walk.file = bytecodes;
    scripts.walk.check = v8::check(scripts, with);
    let key = known(scripts.walk.check);
    if key == 0 { UNKNOWN } else { key }
}

/// Reads a string into the function's name, or with 1 into the file's; how many bytes it has, negative where it is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_v8_text(taker: u32, into: u32, string: u64) -> i32 {
    let Some(scratch) = CODE_SCRATCH.get_ptr_mut(taker) else { return -1 };
    // SAFETY: as above.
    let Scratch { code, strings, .. } = unsafe { &mut *scratch };
    if into == 0 {
        v8::begin_text(&mut code.function, strings, string);
    } else {
        v8::begin_text(&mut code.file, strings, string);
    }
    let (mut steps, mut found) = (0, v8::Part::More as i32);
    while steps < 2 * v8::MAX_STRINGS && found == v8::Part::More as i32 {
        found = scripts_v8_part(taker, into);
        steps += 1;
    }
    let bytes = if into == 0 { code.function.bytes } else { code.file.bytes };
    if found == v8::Part::None as i32 { -1 } else { (bytes & 0xffff) as i32 }
}

/// Reads the next part of it: a [`v8::Part`]. Global, so that the verifier checks it once and not for each part.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_v8_part(taker: u32, into: u32) -> i32 {
    let (Some(scripts), Some(scratch)) = (SCRIPTS.get_ptr(taker), CODE_SCRATCH.get_ptr_mut(taker)) else {
        return -1;
    };
    // SAFETY: as above.
    let has = V8::of(unsafe { &(*scripts).interpreter });
    // SAFETY: as above.
    let Scratch { code, head, strings, .. } = unsafe { &mut *scratch };
    let found = if into == 0 {
        v8::text(has, &mut code.function, head, strings)
    } else {
        v8::text(has, &mut code.file, head, strings)
    };
    found as i32
}

/// Reads the function's name, and what there is to find its lines by. The name of its file, or 0 where there is no script.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_v8_name(taker: u32) -> u64 {
    let (Some(scripts), Some(scratch)) = (SCRIPTS.get_ptr_mut(taker), CODE_SCRATCH.get_ptr_mut(taker)) else {
        return 0;
    };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    if !v8::is_script(scripts) {
        return 0;
    }
    // SAFETY: as above.
    let code = unsafe { &mut (*scratch).code };
    code.function.width = 1;
    code.function.bytes = 0;
    code.function.cut = 0;
    let scope = v8::scope(scripts);
    v8::head(scripts, scope, &mut code.lines);
    if scope == 0 {
        scripts_v8_text(taker, 0, part(&scripts.code, V8::of(&scripts.interpreter).name));
        return v8::file(scripts);
    }
    if v8::is_nameless(&scripts.window) {
        return v8::file(scripts);
    }
    let mut index = 0;
    while index < SCOPE_WORDS {
        if scripts_v8_text(taker, 0, scripts.window[index]) > 0 {
            break;
        }
        index += 1;
    }
    v8::file(scripts)
}

/// A name by what is looked at each time; 0 where that was not met.
#[inline(always)]
fn known(check: u64) -> u64 {
    let Some(slot) = CODE_CACHE.get_ptr(index(check)) else { return 0 };
    // SAFETY: the pointer is to a value of the map, not null; what others write meanwhile does not pass the check.
    let known = unsafe { *slot };
    if known.check ^ known.key == check { known.key } else { 0 }
}

#[inline(always)]
const fn index(check: u64) -> u32 {
    (check >> 52) as u32 & (SLOTS - 1)
}

/// Reads what is in a code object that was not met, and sends it unless user space has it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_code(taker: u32) -> i32 {
    let (Some(scripts), Some(scratch)) = (SCRIPTS.get_ptr_mut(taker), CODE_SCRATCH.get_ptr_mut(taker)) else {
        return 0;
    };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    let of_code = scripts.walk.bias.wrapping_add(scripts.interpreter.code_type);
    if !read(&mut scripts.code, CODE_BYTES, scripts.walk.code) || scripts.code[1] != of_code {
        return 0;
    }
    // SAFETY: the map's value is one `Scratch`, which only this program uses on this CPU.
    let Scratch { code, head, .. } = unsafe { &mut *scratch };
    let (has, object) = (&scripts.interpreter, &scripts.code);
    code.first_line = number(object, has.first_line) as u32;
    code.format = has.format;
    if !text(has, &mut code.function, head, part(object, has.function))
        || !text(has, &mut code.file, head, part(object, has.file))
        || !table(&mut code.lines, head, part(object, has.lines))
    {
        return 0;
    }
    1
}

/// The same of PHP.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_php_code(taker: u32) -> i32 {
    let (Some(scripts), Some(scratch)) = (SCRIPTS.get_ptr(taker), CODE_SCRATCH.get_ptr_mut(taker)) else {
        return 0;
    };
    // SAFETY: as above.
    let scripts = unsafe { &*scripts };
    // SAFETY: as above.
    let Scratch { code, head, .. } = unsafe { &mut *scratch };
    let (has, object) = (&scripts.interpreter, &scripts.code);
    code.first_line = number(object, has.first_line) as u32;
    code.format = has.format;
    let file = part(object, has.file);
    if file == 0
        || !php::text(&mut code.function, head, part(object, has.function))
        || !php::text(&mut code.file, head, file)
        || !php::text(&mut code.lines, head, scripts.walk.class)
    {
        return 0;
    }
    1
}

/// The same of Perl.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_perl_code(taker: u32) -> i32 {
    let (Some(scripts), Some(scratch)) = (SCRIPTS.get_ptr(taker), CODE_SCRATCH.get_ptr_mut(taker)) else {
        return 0;
    };
    // SAFETY: as above.
    let scripts = unsafe { &*scripts };
    // SAFETY: as above.
    let Scratch { code, .. } = unsafe { &mut *scratch };
    let (has, perl) = (&scripts.interpreter, &scripts.perl);
    code.first_line = perl.of;
    code.format = has.format;
    if !perl::names(has, perl, &mut code.function, &mut code.lines) || !perl::file(has, perl, &mut code.file)
    {
        return 0;
    }
    1
}

/// The same of HotSpot.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn java_code(taker: u32) -> i32 {
    let Some(scratch) = CODE_SCRATCH.get_ptr_mut(taker) else { return 0 };
    let Some(java) = hotspot::state(taker) else { return 0 };
    // SAFETY: as above.
    let Scratch { code, .. } = unsafe { &mut *scratch };
    code.first_line = hotspot::is_hidden(java);
    code.format = java.has.format;
    if !hotspot::name(java, &mut code.function)
        || !hotspot::file(java, &mut code.file)
        || !hotspot::lines(java, &mut code.lines)
    {
        return 0;
    }
    1
}

/// The same of Ruby.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_ruby_code(taker: u32) -> i32 {
    let (Some(scripts), Some(scratch)) = (SCRIPTS.get_ptr(taker), CODE_SCRATCH.get_ptr_mut(taker)) else {
        return 0;
    };
    // SAFETY: as above.
    let scripts = unsafe { &*scripts };
    // SAFETY: as above.
    let Scratch { code, head, .. } = unsafe { &mut *scratch };
    let (has, object) = (&scripts.interpreter, &scripts.code);
    code.first_line = number(object, has.first_line) as u32;
    code.format = has.format;
    if scripts.walk.file == 0
        || !ruby::text(has, &mut code.function, head, part(object, has.function))
        || !ruby::text(has, &mut code.file, head, scripts.walk.file)
    {
        return 0;
    }
    // A call has its line already.
    code.lines.width = 1;
    code.lines.bytes = 0;
    code.lines.cut = 0;
    1
}

/// The same of V8, of which names are read.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_v8_code(taker: u32) -> i32 {
    let (Some(scripts), Some(scratch)) = (SCRIPTS.get_ptr_mut(taker), CODE_SCRATCH.get_ptr_mut(taker)) else {
        return 0;
    };
    // SAFETY: as above.
    let scripts = unsafe { &mut *scripts };
    // SAFETY: as above.
    let code = unsafe { &mut (*scratch).code };
    code.first_line = 0;
    code.format = scripts.interpreter.format;
    v8::parts(scripts, &mut code.lines);
    1
}

/// Names the code object that was read, and sends it unless user space has it; 0 when it cannot. Apart from what reads one, so that
/// the verifier goes through a line table once for all runtimes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_name(taker: u32) -> u64 {
    let (Some(scripts), Some(scratch)) = (SCRIPTS.get_ptr(taker), CODE_SCRATCH.get_ptr_mut(taker)) else {
        return 0;
    };
    // SAFETY: as above.
    let check = unsafe { (*scripts).walk.check };
    // SAFETY: as above.
    let Scratch { code, hash, .. } = unsafe { &mut *scratch };
    *hash = hash::mix(hash::mix(hash::SEED, code.format.into()), code.first_line.into());
    *hash = fold(*hash, &code.function);
    *hash = fold(*hash, &code.file);
    *hash = hash::mix(*hash, begin_of(&code.lines));
    let words = code.lines.bytes.div_ceil(8);
    let mut from = 0;
    while from < LINES_WORDS as u32 {
        if from >= words {
            break;
        }
        scripts_fold(taker, from);
        from += STRETCH;
    }
    code.key = code_key(*hash);
    if !send(code) {
        return 0;
    }
    let key = code.key;
    keep(check, key);
    key
}

/// Adds some words of the line table to the hash of the code object.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_fold(taker: u32, from: u32) -> i32 {
    let Some(scratch) = CODE_SCRATCH.get_ptr_mut(taker) else { return 0 };
    // SAFETY: as above.
    let Scratch { code, hash, .. } = unsafe { &mut *scratch };
    let words = code.lines.bytes.div_ceil(8);
    let mut index = 0;
    while index < STRETCH {
        let at = from.wrapping_add(index);
        if at >= words {
            break;
        }
        *hash = hash::mix(*hash, code.lines.words[at as usize & (LINES_WORDS - 1)]);
        index += 1;
    }
    0
}

/// Remembers the name of the code object that was read last by what it is known by while no other is made.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scripts_keep(taker: u32, key: u64) -> i32 {
    let Some(scripts) = SCRIPTS.get_ptr(taker) else { return 0 };
    // SAFETY: as above.
    let brief = unsafe { (*scripts).walk.brief };
    if key != 0 {
        keep(brief, key);
    }
    0
}

/// Remembers a name by what is looked at, which is 0 where it must not be.
#[inline(always)]
fn keep(check: u64, key: u64) {
    if check != 0
        && let Some(slot) = CODE_CACHE.get_ptr_mut(index(check))
    {
        // SAFETY: the pointer is to a value of the map, not null; readers check what they find.
        unsafe { *slot = Slot { key, check: check ^ key } };
    }
}

/// Reads a string.
#[inline(always)]
fn text<const WORDS: usize>(
    has: &Interpreter,
    into: &mut Text<WORDS>,
    head: &mut [u64; 5],
    from: u64,
) -> bool {
    if !read(head, 40, from) {
        return false;
    }
    let state = head[STATE];
    let width = (state >> WIDTH) & 7;
    if state & COMPACT == 0 || width == 0 || width > 4 {
        return false;
    }
    let skipped = if state & ASCII == 0 { has.other } else { has.ascii };
    into.width = width as u16;
    copy_text(into, from.wrapping_add(skipped.into()), head[LENGTH].wrapping_mul(width))
}

/// Reads a line table.
#[inline(always)]
fn table<const WORDS: usize>(into: &mut Text<WORDS>, head: &mut [u64; 5], from: u64) -> bool {
    into.width = 1;
    read(head, 24, from) && copy_text(into, from.wrapping_add(BYTES), head[LENGTH])
}

/// What a hash of a text begins with.
#[inline(always)]
fn begin_of<const WORDS: usize>(text: &Text<WORDS>) -> u64 {
    u64::from(text.bytes) << 16 | u64::from(text.width)
}

#[inline(always)]
fn fold<const WORDS: usize>(hash: u64, text: &Text<WORDS>) -> u64 {
    let mut hash = hash::mix(hash, begin_of(text));
    let words = text.bytes.div_ceil(8) as usize;
    let mut index = 0;
    while index < WORDS {
        if index >= words {
            break;
        }
        hash = hash::mix(hash, text.words[index]);
        index += 1;
    }
    hash
}

/// Sends what is in a code object unless user space has it; false when the ring is full.
#[inline(always)]
fn send(code: &mut Code) -> bool {
    if CODES.get_ptr(code.key).is_some() {
        return true;
    }
    code.tag = Tag::Code as u8;
    code.reserved = [0; 3];
    code.reserved2 = 0;
    let lines = code.lines.bytes as usize & (LINES_WORDS * 8 - 1);
    let bytes = size_of::<Code>() - LINES_WORDS * 8 + lines;
    // SAFETY: `bytes` is at most the size of the record.
    let record = unsafe { core::slice::from_raw_parts((&raw const *code).cast::<u8>(), bytes) };
    if !events::send_bytes(record) {
        count(Counter::LostStacks);
        return false;
    }
    let _ = CODES.insert(code.key, 1, BPF_ANY);
    true
}

const _: () = assert!(
    FUNCTION_WORDS.is_power_of_two() && FILE_WORDS.is_power_of_two() && LINES_WORDS.is_power_of_two()
);
