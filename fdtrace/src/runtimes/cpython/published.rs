//! What CPython says of itself from 3.13 on: `_PyRuntime` begins with offsets made for whoever reads from outside
//! (`_Py_DebugOffsets`).

use super::{
    lines::Format,
    versions::{Code, Entry, Frame, Layout, NO_FUNCTION, TEXT_3_12, Thread, Units, VERSION, Version},
};
use crate::runtimes::{Refusal, memory::Memory};

/// What it begins with.
const COOKIE: [u8; 8] = *b"xdebugpy";

/// Words of it that are read: what is wanted is among them in each version that is known.
const WORDS: usize = 64;

/// Larger structures, and so larger offsets, CPython has not: an interpreter has some 300 KB.
const LARGEST: u64 = 1 << 20;

/// Where the table has what, in words: it grows from version to version.
struct Places {
    next_interpreter: usize,
    /// The thread's state: next, then interpreter, frame, pthread, native.
    next_thread: usize,
    /// The frame: previous, code, instruction, locals, owner.
    previous: usize,
    /// The code object: its size, then file, name, qualified name, lines, first line.
    code: usize,
    instructions: usize,
    /// In the runtime, which says nothing of it: the pthread key (`autoTSSkey`), in bytes.
    thread_key: u64,
    /// In an interpreter, of which it says nothing either: `func_state.next_version`, in bytes. The same in 3.13.0, 3.13.5,
    /// 3.13.15 and 3.13.18, and in 3.14.8 and 3.14.10.
    next_version: u64,
}

const PLACES_3_13: Places = Places {
    next_interpreter: 8,
    next_thread: 21,
    previous: 29,
    code: 34,
    instructions: 43,
    thread_key: 2164,
    next_version: 17_000,
};
/// With three words more of an interpreter, and two of a frame.
const PLACES_3_14: Places = Places {
    next_interpreter: 8,
    next_thread: 24,
    previous: 32,
    code: 39,
    instructions: 48,
    thread_key: 2340,
    next_version: 14_256,
};

/// Reads the table of a running program.
pub(super) fn layout(memory: &(impl Memory + ?Sized), runtime: u64) -> Result<(Version, Layout), Refusal> {
    let bytes = memory.array::<{ 8 * WORDS }>(runtime, 0).ok_or(Refusal::Unreadable)?;
    let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    if bytes.first_chunk() != Some(&COOKIE) {
        return Err(Refusal::NotStarted);
    }
    let version = Version::from_hex(u32::try_from(words[1]).map_err(|_| Refusal::Senseless)?);
    if words[2] != 0 {
        return Err(Refusal::FreeThreaded);
    }
    let places = match version.series() {
        (3, 13) => PLACES_3_13,
        (3, 14) => PLACES_3_14,
        _ => return Err(Refusal::UnknownVersion),
    };
    of(&words, &places).map(|layout| (version, layout)).ok_or(Refusal::Senseless)
}

fn of(words: &[u64], places: &Places) -> Option<Layout> {
    let at = |place: usize| words.get(place).copied().filter(|offset| *offset < LARGEST);
    Some(Layout {
        interpreters: at(5)?,
        next_interpreter: at(places.next_interpreter)?,
        threads: at(places.next_interpreter + 1)?,
        thread_key: Some(places.thread_key),
        next_version: Some(places.next_version),
        thread: Thread {
            next: at(places.next_thread)?,
            interpreter: at(places.next_thread + 1)?,
            frame: at(places.next_thread + 2)?,
            pthread: at(places.next_thread + 3)?,
            native: Some(at(places.next_thread + 4)?),
            behind: None,
            border: None,
        },
        frame: Frame {
            previous: at(places.previous)?,
            code: at(places.previous + 1)?,
            instruction: at(places.previous + 2)?,
            units: Units::Address,
            entry: Entry::Between(at(places.previous + 4)?, NO_FUNCTION),
        },
        code: Code {
            file: at(places.code + 1)?,
            name: at(places.code + 2)?,
            qualified: Some(at(places.code + 3)?),
            lines: at(places.code + 4)?,
            first_line: at(places.code + 5)?,
            format: Format::Locations,
            instructions: at(places.instructions)?,
            version: Some(VERSION),
        },
        text: TEXT_3_12,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::memory::tests::Made;

    /// The table of a 3.13, as far as it is read.
    fn table(version: u64, free_threaded: u64) -> Vec<u64> {
        let mut words: Vec<u64> = (0..64).map(|place| place * 8).collect();
        (words[0], words[1], words[2]) = (u64::from_ne_bytes(COOKIE), version, free_threaded);
        words
    }

    fn read(words: &[u64]) -> Result<(Version, Layout), Refusal> {
        layout(&Made(0x1000, words.iter().flat_map(|word| word.to_ne_bytes()).collect()), 0x1000)
    }

    #[test]
    fn each_version_has_its_own_places() {
        let (version, older) = read(&table(0x030d_00f0, 0)).expect("a layout");
        assert_eq!((version.to_string().as_str(), older.thread.frame), ("3.13.0", 23 * 8));
        let (_, newer) = read(&table(0x030e_08f0, 0)).expect("a layout");
        assert_eq!((newer.thread.frame, newer.code.instructions), (26 * 8, 48 * 8));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(read(&table(0x030d_00f0, 1)).err(), Some(Refusal::FreeThreaded));
        assert_eq!(read(&table(0x030f_00f0, 0)).err(), Some(Refusal::UnknownVersion));
        assert_eq!(read(&table(u64::MAX, 0)).err(), Some(Refusal::Senseless));
        assert_eq!(read(&[0; 64]).err(), Some(Refusal::NotStarted));
        assert_eq!(read(&[0; 3]).err(), Some(Refusal::Unreadable));
        let mut wild = table(0x030d_00f0, 0);
        wild[29] = u64::MAX;
        assert_eq!(read(&wild).err(), Some(Refusal::Senseless));
    }
}
