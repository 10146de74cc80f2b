//! What a reader is asked, and what it answers.

use fdtrace_common::unwind::Rule;
use serde::{Deserialize, Serialize};

use crate::runtimes::{Interpreter, Place, Unplaced};
#[cfg(doc)]
use crate::runtimes::{Placed, Program, ScriptThread, Sighting};

/// A question; the files come beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// What a file is: [`Identity`], or `null` where it is no program. The sum of all its bytes only on demand.
    Identify { sum: bool },
    /// The functions at offsets of a file: a list of [`Name`]s for each. A second file has its debug information, which is
    /// read with `lines` only.
    Names { offsets: Vec<u64>, lines: bool },
    /// Reads the unwind tables of a file, to be asked for by this number; whether there are any.
    Tables { module: u64 },
    /// The rule at an offset: [`PlainRule`], or `null` for a module whose tables were not read.
    Rule { module: u64, offset: u64, exact: bool },
    /// What a program needs to run: [`Needed`].
    Needed,
    /// The functions at addresses by a perf map: a name or `null` for each.
    PerfMap { addresses: Vec<u64> },
    /// The runtime that a file is which a process has mapped there: a [`Sighting`], or `null` where it is none. The second file
    /// is the process's memory.
    Runtime { path: String, start: u64, offset: u64 },
    /// The interpreter that a file is, which has that path: a [`Program`], or `null` where it is none.
    Program { path: String },
    /// Where a call of a script is, whose text the file is: a [`Placed`], or `null` where that is not certain.
    Place { unplaced: Box<Unplaced> },
    /// Where that is in what the script was made of, by a source map, which the file is or has in it: the source's name and a
    /// [`Place`] in that, or `null`.
    Source { place: Place, inside: bool },
    /// The threads of a runtime, with so many calls of each at most: a list of [`ScriptThread`]s. The file is the process's
    /// memory.
    Scripts { interpreter: Box<Interpreter>, most: usize },
}

/// What a file says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::stacks) struct Identity {
    pub(in crate::stacks) build_id: Option<Vec<u8>>,
    /// The name of a separate debug file, and its sum.
    pub(in crate::stacks) debug_link: Option<(Vec<u8>, u32)>,
    pub(in crate::stacks) has_debug_info: bool,
    /// CRC32 of all bytes, if it was asked for.
    pub(in crate::stacks) sum: Option<u32>,
}

/// What is known of one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::stacks) struct Name {
    pub(in crate::stacks) function: Option<String>,
    pub(in crate::stacks) file: Option<String>,
    pub(in crate::stacks) line: Option<u32>,
    pub(in crate::stacks) inlined: bool,
}

/// The files that a program's loader will map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::stacks) struct Needed {
    pub(in crate::stacks) loader: Option<Vec<u8>>,
    pub(in crate::stacks) libraries: Vec<Vec<u8>>,
    /// Where they are looked for first.
    pub(in crate::stacks) folders: Vec<Vec<u8>>,
}

/// A [`Rule`] that can be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlainRule {
    cfa: i32,
    frame: i16,
    kind: u8,
    notes: u8,
}

impl From<Rule> for PlainRule {
    fn from(Rule { cfa, frame, kind, notes }: Rule) -> Self {
        Self { cfa, frame, kind, notes }
    }
}

impl From<PlainRule> for Rule {
    fn from(PlainRule { cfa, frame, kind, notes }: PlainRule) -> Self {
        Self { cfa, frame, kind, notes }
    }
}
