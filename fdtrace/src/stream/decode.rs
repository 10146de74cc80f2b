use bytes::Buf;
use fdtrace_common::{
    description::Description,
    descriptor,
    unwind::{Registers, end},
    wire::{
        self, Cause, CodeMapping, DUMP_BYTES, DUMP_MAPPINGS, MAX_FRAMES, NO_SYSCALL, OPEN_PATH_LEN, Side,
        Tag, flag,
    },
};

use super::{
    Acquired, Alloc, AllocError, Call, ClosedBy, CodeObject, Cut, Event, Leaving, Mapped, Moment, Name, Open,
    Release, ScriptCalls, Stack, StackDump, scripts,
};

/// What a record of the ring buffer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A part of the stream.
    Event(Event),
    /// The inner part of a stack; a dump of the same name brings what is needed to complete it.
    PartialStack(Stack),
    /// The native frames of a stack with calls of scripts, which came before.
    NativeStack(Stack),
    /// Calls of scripts, of the stack of this name.
    ScriptCalls(ScriptCalls),
    /// What is in a code object.
    CodeObject(CodeObject),
    /// Stack memory for a stack that has begun.
    StackDump(StackDump),
    /// What the handle is that the last [`Event::Open`] was about.
    What(Box<What>),
}

/// What a handle is that is open when its program ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct What {
    /// The kernel's structures.
    pub description: Description,
    /// The process.
    pub tgid: u32,
    /// Its descriptor.
    pub fd: u32,
    /// The file's entry is in no directory any more, or never was in one.
    pub deleted: bool,
    /// The path, where the file is in a file system that is mounted; begins with `...` when it was too long.
    pub path: Option<String>,
}

/// Bytes that are no record of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The record has fewer or more bytes than its kind has.
    #[error("a record of kind {tag} has {length} bytes")]
    Length {
        /// Its first byte.
        tag: u8,
        /// How long it is.
        length: usize,
    },
    /// No such kind.
    #[error("there is no record of kind {0}")]
    Tag(u8),
    /// A field has a value that it cannot have.
    #[error("a record of kind {tag} has {value} for its {field}")]
    Value {
        /// The record's first byte.
        tag: u8,
        /// Which field.
        field: &'static str,
        /// What it has.
        value: u64,
    },
}

/// Decodes one record of the ring buffer.
///
/// # Errors
/// When the bytes are not exactly one record.
pub fn decode(record: &[u8]) -> Result<Record, Malformed> {
    let Some(&tag) = record.first() else { return Err(Malformed::Length { tag: 0, length: 0 }) };
    let exactly = |size: usize| match record.len() == size {
        true => Ok(&record[1..]),
        false => Err(Malformed::Length { tag, length: record.len() }),
    };
    match tag {
        tag if tag == Tag::Alloc as u8 => exactly(size_of::<wire::Alloc>()).and_then(alloc),
        tag if tag == Tag::Release as u8 => exactly(size_of::<wire::Release>()).and_then(release),
        tag if tag == Tag::Stack as u8 => return stack(record),
        tag if tag == Tag::StackDump as u8 => return dump(record),
        tag if tag == Tag::Calls as u8 => return scripts::calls(record).map(Record::ScriptCalls),
        tag if tag == Tag::Code as u8 => return scripts::code(record).map(Record::CodeObject),
        tag if tag == Tag::OpenWhat as u8 => return exactly(size_of::<wire::OpenWhat>()).map(what),
        tag if tag == Tag::Open as u8 => exactly(size_of::<wire::Open>()).and_then(open),
        tag if tag == Tag::Cut as u8 => exactly(size_of::<wire::Cut>()).map(cut),
        tag if tag == Tag::Fork as u8 => exactly(size_of::<wire::Fork>()).map(fork),
        tag if tag == Tag::Exec as u8 => exactly(size_of::<wire::Exec>()).map(exec),
        tag if tag == Tag::Exit as u8 => exactly(size_of::<wire::Exit>()).map(exit),
        tag if tag == Tag::Failure as u8 => exactly(size_of::<wire::Failure>()).map(failure),
        tag if tag == Tag::Acquired as u8 => exactly(size_of::<descriptor::Acquired>()).map(acquired),
        tag if tag == Tag::Mapped as u8 => exactly(size_of::<wire::Mapped>()).map(mapped),
        tag => Err(Malformed::Tag(tag)),
    }
    .map(Record::Event)
}

// Each of these gets the bytes behind the tag, as many as its record has: the `get_*` cannot run out.

fn alloc(mut bytes: &[u8]) -> Result<Event, Malformed> {
    let flags = bytes.get_u8();
    let syscall = bytes.get_i16_ne();
    let tid = bytes.get_u32_ne();
    let handle = bytes.get_u64_ne();
    let generation = bytes.get_u64_ne();
    let user_stack = bytes.get_u64_ne();
    let kernel_stack = bytes.get_u64_ne();
    let tgid = bytes.get_u32_ne();
    let detail = bytes.get_u32_ne();
    if handle == 0 {
        // The table of live handles marks what is empty by it.
        return Err(Malformed::Value { tag: Tag::Alloc as u8, field: "handle", value: 0 });
    }
    let call = call(user_stack, kernel_stack, detail, syscall, flags);
    Ok(Event::Alloc(Alloc { handle, generation, tgid, tid, call }))
}

/// The call of an entry of the kernel's own table.
#[must_use]
pub const fn entry_call(entry: &wire::Entry) -> Call {
    call(entry.user_stack, entry.kernel_stack, entry.detail, entry.syscall, entry.flags)
}

const fn call(user_stack: u64, kernel_stack: u64, detail: u32, syscall: i16, flags: u8) -> Call {
    Call {
        user_stack,
        kernel_stack,
        detail,
        syscall: number(syscall),
        kernel_task: flags & flag::KERNEL_TASK != 0,
        acquired: false,
    }
}

const fn number(syscall: i16) -> Option<u16> {
    if syscall == NO_SYSCALL { None } else { Some(syscall.cast_unsigned()) }
}

fn acquired(mut bytes: &[u8]) -> Event {
    bytes.advance(1);
    let found = descriptor::Acquired {
        syscall: bytes.get_i16_ne(),
        tid: bytes.get_u32_ne(),
        key: bytes.get_u64_ne(),
        time: bytes.get_u64_ne(),
        user_stack: bytes.get_u64_ne(),
        handle: bytes.get_u64_ne(),
        files: bytes.get_u64_ne(),
        tgid: bytes.get_u32_ne(),
        ..descriptor::Acquired::default()
    };
    match acquisition(&found) {
        Acquired { alloc, .. } if found.key == 0 => Event::Refused(alloc),
        _ if found.key == descriptor::LETS_GO => Event::ClosedBy(closed_by(&found)),
        acquired => Event::Acquired(acquired),
    }
}

const fn closed_by(found: &descriptor::Acquired) -> ClosedBy {
    let descriptor::Acquired { time, tgid, tid, files, user_stack, syscall, .. } = *found;
    ClosedBy { since: files, time, tgid, tid, call: call(user_stack, 0, 0, syscall, 0) }
}

/// What an entry of the kernel's own table of acquired descriptors says.
#[must_use]
pub const fn acquisition(found: &descriptor::Acquired) -> Acquired {
    let call = Call { acquired: true, ..call(found.user_stack, 0, 0, found.syscall, 0) };
    let descriptor::Acquired { key, time, tgid, tid, handle, .. } = *found;
    Acquired { alloc: Alloc { handle: key, generation: time, tgid, tid, call }, of: handle }
}

fn release(mut bytes: &[u8]) -> Result<Event, Malformed> {
    let cause = bytes.get_u8();
    let flags = bytes.get_u8();
    bytes.advance(1);
    let tgid = bytes.get_u32_ne();
    let cause = Cause::from_wire(cause).ok_or(Malformed::Value {
        tag: Tag::Release as u8,
        field: "cause",
        value: cause.into(),
    })?;
    Ok(Event::Release(Release {
        handle: bytes.get_u64_ne(),
        generation: bytes.get_u64_ne(),
        time: bytes.get_u64_ne(),
        tgid,
        cause,
        never_opened: flags & flag::NEVER_OPENED != 0,
        unaccounted: flags & flag::UNACCOUNTED != 0,
    }))
}

fn stack(record: &[u8]) -> Result<Record, Malformed> {
    let tag = Tag::Stack as u8;
    let wrong = |field, value: u64| Malformed::Value { tag, field, value };
    let wrong_length = Malformed::Length { tag, length: record.len() };
    if record.len() < size_of::<wire::StackHeader>() {
        return Err(wrong_length);
    }
    let mut bytes = &record[1..];
    let side = match bytes.get_u8() {
        0 => Side::User,
        1 => Side::Kernel,
        2 => Side::Code,
        value => return Err(wrong("side", value.into())),
    };
    let count = usize::from(bytes.get_u16_ne());
    let tgid = bytes.get_u32_ne();
    let name = bytes.get_u64_ne();
    let how = bytes.get_u8();
    let has_calls = bytes.get_u8() != 0;
    bytes.advance(6);
    let submitter = bytes.get_u64_ne();
    if count > MAX_FRAMES || bytes.remaining() != count * side.words() * size_of::<u64>() {
        return Err(wrong_length);
    }
    let frames: Box<[u64]> = (0..count * side.words()).map(|_| bytes.get_u64_ne()).collect();
    let stack = Stack { hash: name, side, tgid, frames, complete: how == end::COMPLETE, submitter };
    match (side, how) {
        (Side::Code, end::ASKED) => Ok(Record::PartialStack(stack)),
        (Side::Code, end::CUT | end::COMPLETE) if has_calls => Ok(Record::NativeStack(stack)),
        (_, end::CUT) | (Side::Code, end::COMPLETE) => match name == stack.name() {
            true => Ok(Record::Event(Event::Stack(stack))),
            false => Err(wrong("name", name)),
        },
        _ => Err(wrong("end", how.into())),
    }
}

fn dump(record: &[u8]) -> Result<Record, Malformed> {
    let wrong_length = Malformed::Length { tag: Tag::StackDump as u8, length: record.len() };
    if record.len() < size_of::<wire::StackDump>() {
        return Err(wrong_length);
    }
    let mut bytes = &record[1..];
    let exact = bytes.get_u8() != 0;
    bytes.advance(2);
    let tgid = bytes.get_u32_ne();
    let hash = bytes.get_u64_ne();
    let space = bytes.get_u64_ne();
    let module = bytes.get_u64_ne();
    let offset = bytes.get_u64_ne();
    let registers =
        Registers { instruction: bytes.get_u64_ne(), stack: bytes.get_u64_ne(), frame: bytes.get_u64_ne() };
    let length = bytes.get_u32_ne() as usize;
    bytes.advance(4);
    let code = (0..DUMP_MAPPINGS).map(|_| code_mapping(&mut bytes)).filter(|code| code.end != 0).collect();
    if length > DUMP_BYTES || bytes.remaining() != length {
        return Err(wrong_length);
    }
    let stack = bytes.into();
    Ok(Record::StackDump(StackDump { hash, tgid, exact, space, module, offset, registers, code, stack }))
}

fn code_mapping(bytes: &mut &[u8]) -> CodeMapping {
    CodeMapping {
        start: bytes.get_u64_ne(),
        end: bytes.get_u64_ne(),
        offset: bytes.get_u64_ne(),
        module: bytes.get_u64_ne(),
    }
}

fn fork(mut bytes: &[u8]) -> Event {
    let shares = bytes.get_u8() != 0;
    bytes.advance(2);
    let parent = bytes.get_u32_ne();
    let child = bytes.get_u32_ne();
    bytes.advance(4);
    let time = bytes.get_u64_ne();
    Event::Fork { time, parent, child, shares, comm: name(&mut bytes) }
}

fn cut(mut bytes: &[u8]) -> Event {
    bytes.advance(1);
    let syscall = number(bytes.get_i16_ne());
    let tid = bytes.get_u32_ne();
    let began = bytes.get_u64_ne();
    Event::Cut(Cut { time: bytes.get_u64_ne(), tid, began, syscall })
}

fn exec(mut bytes: &[u8]) -> Event {
    bytes.advance(3);
    let tgid = bytes.get_u32_ne();
    let time = bytes.get_u64_ne();
    let comm = name(&mut bytes);
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Event::Exec { time, tgid, comm, path: bytes[..end].to_vec() }
}

fn exit(mut bytes: &[u8]) -> Event {
    let (signal, status) = (bytes.get_u8(), bytes.get_u8());
    bytes.advance(1);
    let tgid = bytes.get_u32_ne();
    let time = bytes.get_u64_ne();
    Event::Exit { time, tgid, how: Leaving { signal, status, limit: bytes.get_u64_ne() } }
}

fn failure(mut bytes: &[u8]) -> Event {
    bytes.advance(3);
    let tgid = bytes.get_u32_ne();
    let errno = bytes.get_i32_ne();
    let times = bytes.get_u32_ne();
    let time = bytes.get_u64_ne();
    Event::Failure(AllocError { time, tgid, errno, times, limit: bytes.get_u64_ne() })
}

fn open(mut bytes: &[u8]) -> Result<Event, Malformed> {
    let moment = match bytes.get_u8() {
        0 => Moment::Exit,
        1 => Moment::Exec,
        value => {
            return Err(Malformed::Value { tag: Tag::Open as u8, field: "moment", value: value.into() });
        }
    };
    let close_on_exec = bytes.get_u8() != 0;
    let socket_state = bytes.get_u8();
    let tgid = bytes.get_u32_ne();
    let (handle, generation, time) = (bytes.get_u64_ne(), bytes.get_u64_ne(), bytes.get_u64_ne());
    let fd = bytes.get_u32_ne();
    let deleted = bytes.get_u8() != 0;
    let of_thread = bytes.get_u8() != 0;
    bytes.advance(2);
    let tid = bytes.get_u32_ne();
    Ok(Event::Open(Open {
        handle,
        generation,
        time,
        tgid,
        fd,
        moment,
        close_on_exec,
        socket_state,
        deleted,
        of_thread: of_thread.then_some(tid),
        waiting: bytes.get_u32_ne(),
    }))
}

fn what(mut bytes: &[u8]) -> Record {
    let deleted = bytes.get_u8() != 0;
    let path_end = bytes.get_u8();
    bytes.advance(1);
    let fd = bytes.get_u32_ne();
    let tgid = bytes.get_u32_ne();
    let length = (bytes.get_u32_ne() as usize).min(OPEN_PATH_LEN);
    let (description, names) = bytes.split_at(size_of::<Description>());
    // SAFETY: as many bytes as the structure has, which is made of integers and has no padding.
    let description = unsafe { description.as_ptr().cast::<Description>().read_unaligned() };
    Record::What(Box::new(What { description, tgid, fd, deleted, path: path(&names[..length], path_end) }))
}

/// A path from the names of its entries, innermost first with a zero behind each.
fn path(names: &[u8], end: u8) -> Option<String> {
    let start = match end {
        1 => "",
        2 => "...",
        _ => return None,
    };
    let names = names.strip_suffix(&[0]).unwrap_or(names);
    let outermost_first = names.rsplit(|byte| *byte == 0);
    Some(outermost_first.fold(start.to_owned(), |path, name| path + "/" + &String::from_utf8_lossy(name)))
}

fn mapped(mut bytes: &[u8]) -> Event {
    let flags = bytes.get_u8();
    let syscall = bytes.get_i16_ne();
    let tid = bytes.get_u32_ne();
    let handle = bytes.get_u64_ne();
    let generation = bytes.get_u64_ne();
    let user_stack = bytes.get_u64_ne();
    let address = bytes.get_u64_ne();
    let length = bytes.get_u64_ne();
    let time = bytes.get_u64_ne();
    let tgid = bytes.get_u32_ne();
    let detail = bytes.get_u32_ne();
    let inode = bytes.get_u64_ne();
    let call = call(user_stack, 0, detail, syscall, flags);
    Event::Mapped(Mapped { handle, generation, time, tgid, tid, address, length, inode, call })
}

fn name(bytes: &mut &[u8]) -> Name {
    let mut name = Name::default();
    bytes.copy_to_slice(&mut name);
    name
}

#[cfg(test)]
mod tests {
    use fdtrace_common::hash;

    use super::*;

    fn event(record: &[u8]) -> Result<Event, Malformed> {
        match decode(record)? {
            Record::Event(event) => Ok(event),
            other => panic!("an event, not {other:?}"),
        }
    }

    fn bytes_of<T: Copy>(record: &T) -> Vec<u8> {
        let start = std::ptr::from_ref(record).cast::<u8>();
        // SAFETY: the wire's records have no padding (their sizes are asserted), so every byte is initialized.
        unsafe { std::slice::from_raw_parts(start, size_of::<T>()) }.to_vec()
    }

    fn stack_record(frames: &[u64], name: u64) -> Vec<u8> {
        let header = wire::StackHeader {
            tag: Tag::Stack as u8,
            side: 0,
            frames: u16::try_from(frames.len()).expect("few frames"),
            tgid: 7,
            hash: name,
            end: end::CUT,
            has_calls: 0,
            reserved: [0; 6],
            submitter: 0,
        };
        let mut record = bytes_of(&header);
        record.extend(frames.iter().flat_map(|frame| frame.to_ne_bytes()));
        record
    }

    #[test]
    fn decodes_what_the_kernel_side_writes() {
        let record = wire::Alloc {
            tag: Tag::Alloc as u8,
            flags: flag::KERNEL_TASK,
            syscall: 257,
            tid: 2,
            handle: 3,
            generation: 4,
            user_stack: 5,
            kernel_stack: 6,
            tgid: 7,
            detail: 8,
        };
        let call = Call {
            user_stack: 5,
            kernel_stack: 6,
            detail: 8,
            syscall: Some(257),
            kernel_task: true,
            acquired: false,
        };
        let expected = Alloc { handle: 3, generation: 4, tgid: 7, tid: 2, call };
        assert_eq!(event(&bytes_of(&record)), Ok(Event::Alloc(expected)));

        let record = wire::Release {
            tag: Tag::Release as u8,
            cause: Cause::Exit as u8,
            flags: flag::NEVER_OPENED,
            reserved: 0,
            tgid: 1,
            handle: 2,
            generation: 3,
            time: 4,
        };
        let Ok(Event::Release(release)) = event(&bytes_of(&record)) else { panic!("a release") };
        assert_eq!((release.cause, release.never_opened, release.unaccounted), (Cause::Exit, true, false));
        assert_eq!((release.tgid, release.handle, release.generation, release.time), (1, 2, 3, 4));
    }

    #[test]
    fn decodes_who_closes() {
        let record = descriptor::Acquired {
            tag: Tag::Acquired as u8,
            syscall: 3,
            tid: 1,
            key: descriptor::LETS_GO,
            time: 20,
            user_stack: 7,
            files: 10,
            tgid: 2,
            ..descriptor::Acquired::default()
        };
        let call = Call { user_stack: 7, syscall: Some(3), ..Call::default() };
        let expected = ClosedBy { since: 10, time: 20, tgid: 2, tid: 1, call };
        assert_eq!(event(&bytes_of(&record)), Ok(Event::ClosedBy(expected)));
    }

    #[test]
    fn decodes_a_mapping() {
        let record = wire::Mapped {
            tag: Tag::Mapped as u8,
            flags: 0,
            syscall: 9,
            tid: 1,
            handle: 2,
            generation: 3,
            user_stack: 4,
            address: 5,
            length: 6,
            time: 7,
            tgid: 8,
            detail: 9,
            inode: 10,
        };
        let call = Call {
            user_stack: 4,
            kernel_stack: 0,
            detail: 9,
            syscall: Some(9),
            kernel_task: false,
            acquired: false,
        };
        let mapped = Mapped {
            handle: 2,
            generation: 3,
            time: 7,
            tgid: 8,
            tid: 1,
            address: 5,
            length: 6,
            inode: 10,
            call,
        };
        assert_eq!(event(&bytes_of(&record)), Ok(Event::Mapped(mapped)));
    }

    #[test]
    fn decodes_what_is_open_at_the_end() {
        let record = wire::Open {
            tag: Tag::Open as u8,
            moment: 1,
            close_on_exec: 1,
            socket_state: 8,
            waiting: 13,
            tgid: 5,
            handle: 6,
            generation: 7,
            time: 8,
            fd: 9,
            deleted: 1,
            of_thread: 1,
            reserved: 0,
            tid: 10,
        };
        let open = Open {
            handle: 6,
            generation: 7,
            time: 8,
            tgid: 5,
            fd: 9,
            moment: Moment::Exec,
            close_on_exec: true,
            socket_state: 8,
            waiting: 13,
            of_thread: Some(10),
            deleted: true,
        };
        assert_eq!(event(&bytes_of(&record)), Ok(Event::Open(open)));
        let strange = wire::Open { moment: 2, ..record };
        assert_eq!(
            event(&bytes_of(&strange)),
            Err(Malformed::Value { tag: Tag::Open as u8, field: "moment", value: 2 })
        );
    }

    #[test]
    fn a_path_is_read_from_its_end() {
        assert_eq!(path(b"log\0var\0", 1).as_deref(), Some("/var/log"));
        assert_eq!(path(b"log\0var\0", 2).as_deref(), Some(".../var/log"));
        assert_eq!(path(b"[eventfd]\0", 0), None);
        assert_eq!(path(b"", 1).as_deref(), Some("/"));
    }

    #[test]
    fn a_stack_must_bear_its_own_name() {
        let frames = [1, 2, 3];
        let name = hash::stack(&frames);
        let Ok(Event::Stack(stack)) = event(&stack_record(&frames, name)) else { panic!("a stack") };
        assert_eq!(&*stack.frames, &frames);
        assert_eq!(
            event(&stack_record(&frames, name + 2)),
            Err(Malformed::Value { tag: 3, field: "name", value: name + 2 })
        );
    }

    fn places_record(words: &[u64], end: u8, name: u64) -> Vec<u8> {
        let header = wire::StackHeader {
            tag: Tag::Stack as u8,
            side: Side::Code as u8,
            frames: u16::try_from(words.len() / 2).expect("few frames"),
            tgid: 7,
            hash: name,
            end,
            has_calls: 0,
            reserved: [0; 6],
            submitter: 0,
        };
        let mut record = bytes_of(&header);
        record.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        record
    }

    #[test]
    fn a_stack_of_places_says_how_it_ended() {
        let words = [1, 2, 3, 4];
        for (how, complete) in [(end::COMPLETE, true), (end::CUT, false)] {
            let name = hash::places(&words, how);
            let Ok(Event::Stack(stack)) = event(&places_record(&words, how, name)) else { panic!("a stack") };
            assert_eq!((&*stack.frames, stack.complete), (&words[..], complete));
        }
        let other = hash::places(&words, end::CUT);
        assert!(decode(&places_record(&words, end::COMPLETE, other)).is_err(), "another one's name");
        assert!(decode(&places_record(&words, 9, other)).is_err(), "there is no such end");
    }

    #[test]
    fn a_stack_that_has_begun_is_completed_by_its_window() {
        let Ok(Record::PartialStack(partial)) = decode(&places_record(&[], end::ASKED, 5)) else {
            panic!("a stack")
        };
        assert_eq!((partial.hash, partial.frames.len()), (5, 0));
        let part = CodeMapping { start: 1, end: 2, offset: 3, module: 4 };
        let mut code = [CodeMapping::default(); DUMP_MAPPINGS];
        code[7] = part;
        let header = wire::StackDump {
            tag: Tag::StackDump as u8,
            exact: 1,
            tgid: 7,
            hash: 5,
            space: 6,
            module: 8,
            offset: 9,
            registers: Registers { instruction: 11, stack: 12, frame: 13 },
            bytes: 3,
            code,
            reserved: 0,
            reserved2: 0,
        };
        let mut record = bytes_of(&header);
        record.extend([1, 2, 3]);
        let dump = StackDump {
            hash: 5,
            tgid: 7,
            exact: true,
            space: 6,
            module: 8,
            offset: 9,
            registers: header.registers,
            code: [part].into(),
            stack: [1, 2, 3].into(),
        };
        assert_eq!(decode(&record), Ok(Record::StackDump(dump)));
        assert!((0..record.len()).all(|length| decode(&record[..length]).is_err()));
    }

    #[test]
    fn every_wrong_length_is_refused() {
        let name = hash::stack(&[1, 2, 3]);
        let exit = wire::Exit { tag: Tag::Exit as u8, tgid: 9, ..wire::Exit::default() };
        for record in [stack_record(&[1, 2, 3], name), bytes_of(&exit)] {
            for length in 0..record.len() {
                assert!(decode(&record[..length]).is_err(), "cut to {length}");
            }
            let mut longer = record.clone();
            longer.push(0);
            assert!(decode(&longer).is_err());
        }
        assert_eq!(decode(&[99]), Err(Malformed::Tag(99)));
    }

    #[test]
    fn a_handle_lies_somewhere() {
        let record = wire::Alloc { tag: Tag::Alloc as u8, ..wire::Alloc::default() };
        assert_eq!(decode(&bytes_of(&record)), Err(Malformed::Value { tag: 1, field: "handle", value: 0 }));
    }

    #[test]
    fn an_unknown_cause_is_refused() {
        let record = wire::Release { tag: Tag::Release as u8, cause: 77, ..wire::Release::default() };
        assert_eq!(decode(&bytes_of(&record)), Err(Malformed::Value { tag: 2, field: "cause", value: 77 }));
    }
}
