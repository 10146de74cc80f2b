//! Where each version of CPython has what, as data.
//!
//! To 3.12 by tables, made of the debug information of builds; from 3.13 on a program says it itself ([`super::published`]).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{lines::Format, text::TextLayout};

/// A version, as `PY_VERSION_HEX` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) major: u8,
    pub(crate) minor: u8,
    /// `None` where the program does not say it.
    pub(crate) micro: Option<u8>,
}

impl Version {
    /// 3 and this, whatever comes behind.
    pub(super) const fn three(minor: u8) -> Self {
        Self { major: 3, minor, micro: None }
    }

    /// `0x030b02f0`
    pub(super) const fn from_hex(hex: u32) -> Self {
        let [major, minor, micro, _] = hex.to_be_bytes();
        Self { major, minor, micro: Some(micro) }
    }

    /// Major and minor number.
    pub(super) const fn series(self) -> (u8, u8) {
        (self.major, self.minor)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)?;
        self.micro.map_or(Ok(()), |micro| write!(out, ".{micro}"))
    }
}

/// What leads from a runtime to the lines of its threads' frames: offsets in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// In the runtime: the first interpreter.
    pub(super) interpreters: u64,
    /// In an interpreter: the next one.
    pub(super) next_interpreter: u64,
    /// In an interpreter: its first thread's state.
    pub(super) threads: u64,
    /// In the runtime: the number of the pthread key by which a thread has its state (`autoTSSkey`); from 3.7 on.
    pub(super) thread_key: Option<u64>,
    /// In an interpreter: the version that its next code object gets (`func_state.next_version`); from 3.13 on, for 3.12 has it
    /// in a variable without a symbol. While it stays, no code object has come to the place of another.
    pub(super) next_version: Option<u64>,
    pub(super) thread: Thread,
    pub(super) frame: Frame,
    pub(super) code: Code,
    pub(super) text: TextLayout,
}

/// In a thread's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Thread {
    pub(super) next: u64,
    pub(super) interpreter: u64,
    /// What `pthread_self` returns in it.
    pub(super) pthread: u64,
    /// Its number to the kernel; from 3.11 on.
    pub(super) native: Option<u64>,
    pub(super) frame: u64,
    /// 3.11 and 3.12 have a structure in between: where it has the frame.
    pub(super) behind: Option<u64>,
    /// 3.10 and 3.11 have a structure on the C stack for each run of the evaluation loop: where the innermost one is, and in it
    /// the one of the run before.
    pub(super) border: Option<(u64, u64)>,
}

/// In a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Frame {
    pub(super) code: u64,
    pub(super) previous: u64,
    pub(super) instruction: u64,
    pub(super) units: Units,
    pub(super) entry: Entry,
}

/// How a frame says which instruction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Units {
    /// A number of bytes.
    Bytes,
    /// 3.10: a number of code units, which have two bytes.
    Pairs,
    /// The address of a code unit.
    Address,
}

/// Which frames begin a run of the interpreter's evaluation loop, so that native frames lie before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    /// Each.
    Each,
    /// Those that have a 1 there.
    Marked(u64),
    /// From 3.12 on: frames of no function lie between two runs, whose owner is this one or above.
    Between(u64, u8),
}

/// In a code object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Code {
    pub(super) file: u64,
    pub(super) name: u64,
    pub(super) qualified: Option<u64>,
    pub(super) first_line: u64,
    pub(super) lines: u64,
    pub(super) format: Format,
    /// Where the instructions begin; from 3.11 on.
    pub(super) instructions: u64,
    /// A number that no other code object of the interpreter has; from 3.12 on.
    pub(super) version: Option<u64>,
}

impl Code {
    /// The part of a code object that tells it from others: its number, which comes behind the first line, or all that its
    /// parts are at. In words.
    pub(super) fn part(&self) -> Range<u64> {
        let offsets = match self.version {
            Some(version) => vec![self.first_line, version],
            None => {
                vec![self.first_line, self.file, self.name, self.qualified.unwrap_or(self.name), self.lines]
            }
        };
        let (first, last) = offsets
            .iter()
            .fold((u64::MAX, 0), |(first, last), offset| (first.min(*offset), last.max(*offset)));
        first - first % 8..last - last % 8 + 8
    }
}

/// `FRAME_OWNED_BY_CSTACK`, which 3.14 gave to `FRAME_OWNED_BY_INTERPRETER`.
pub(super) const NO_FUNCTION: u8 = 3;

/// What is known of a version without reading anything; `None` where nothing is.
pub(super) fn table(version: Version) -> Option<Layout> {
    Some(match version.series() {
        (3, 6) => Layout {
            interpreters: 0,
            thread: Thread { pthread: 152, ..THREAD },
            frame: Frame { instruction: 120, ..FRAME },
            code: Code { file: 96, name: 104, lines: 112, first_line: 36, ..CODE },
            ..LAYOUT
        },
        (3, 7) => Layout {
            interpreters: 24,
            thread_key: Some(1508),
            code: Code { file: 96, name: 104, lines: 112, first_line: 36, ..CODE },
            ..LAYOUT
        },
        (3, 8) => Layout { thread_key: Some(1396), ..LAYOUT },
        (3, 9) => Layout { thread_key: Some(588), ..LAYOUT },
        (3, 10) => Layout {
            thread_key: Some(588),
            thread: Thread { border: Some((48, 8)), ..THREAD },
            frame: Frame { instruction: 96, units: Units::Pairs, ..FRAME },
            code: Code { format: Format::Ranges, ..CODE },
            ..LAYOUT
        },
        (3, 11) => Layout {
            interpreters: 40,
            threads: 16,
            thread_key: Some(596),
            thread: Thread {
                next: 8,
                interpreter: 16,
                pthread: 152,
                native: Some(160),
                frame: 56,
                behind: Some(8),
                border: Some((56, 16)),
            },
            frame: Frame { code: 32, previous: 48, entry: Entry::Marked(68), ..FRAME_3_11 },
            code: Code { first_line: 72, instructions: 184, ..CODE_3_11 },
            ..LAYOUT
        },
        (3, 12) => Layout {
            interpreters: 40,
            threads: 72,
            thread_key: Some(1548),
            thread: Thread {
                next: 8,
                interpreter: 16,
                pthread: 136,
                native: Some(144),
                frame: 56,
                behind: Some(0),
                border: None,
            },
            frame: FRAME_3_11,
            code: Code { version: Some(VERSION), ..CODE_3_11 },
            text: TEXT_3_12,
            ..LAYOUT
        },
        _ => return None,
    })
}

/// 3.8 and 3.9; the others by what differs.
const LAYOUT: Layout = Layout {
    interpreters: 32,
    next_interpreter: 0,
    threads: 8,
    thread_key: None,
    next_version: None,
    thread: THREAD,
    frame: FRAME,
    code: CODE,
    text: TextLayout { ascii: 48, other: 72 },
};
const THREAD: Thread =
    Thread { next: 8, interpreter: 16, pthread: 176, native: None, frame: 24, behind: None, border: None };
const FRAME: Frame =
    Frame { code: 32, previous: 24, instruction: 104, units: Units::Bytes, entry: Entry::Each };
const CODE: Code = Code {
    file: 104,
    name: 112,
    qualified: None,
    first_line: 40,
    lines: 120,
    format: Format::Moves,
    instructions: 0,
    version: None,
};

/// 3.12.
const FRAME_3_11: Frame = Frame {
    code: 0,
    previous: 8,
    instruction: 56,
    units: Units::Address,
    entry: Entry::Between(70, NO_FUNCTION),
};
const CODE_3_11: Code = Code {
    file: 112,
    name: 120,
    qualified: Some(128),
    first_line: 68,
    lines: 136,
    format: Format::Locations,
    instructions: 192,
    version: None,
};
/// `co_version`, from 3.12 on.
pub(super) const VERSION: u64 = 92;
pub(super) const TEXT_3_12: TextLayout = TextLayout { ascii: 40, other: 56 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_its_number() {
        let version = Version::from_hex(0x030b_02f0);
        assert_eq!((version.to_string().as_str(), version.series()), ("3.11.2", (3, 11)));
        assert_eq!(Version::three(8).to_string(), "3.8");
    }

    #[test]
    fn tables_are_of_3_6_to_3_12() {
        let known: Vec<u8> = (0..=20).filter(|minor| table(Version::three(*minor)).is_some()).collect();
        assert_eq!(known, [6, 7, 8, 9, 10, 11, 12]);
    }
}
