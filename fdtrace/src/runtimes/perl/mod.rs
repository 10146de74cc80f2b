//! Perl 5.30 to 5.42, with threads and without.

mod frames;
mod kernel_side;
mod versions;

use serde::{Deserialize, Serialize};

pub(super) use self::kernel_side::frame_of;
use self::versions::{Layout, Version, table};
use super::{Image, Refusal, ScriptThread, Sighting, memory::Memory};

/// The evaluation loop, and the one of the debugger.
const LOOP: &str = "Perl_runops_standard";
const DEBUG_LOOP: &str = "Perl_runops_debug";
/// The version, a byte each.
const REVISION: &str = "PL_revision";
const VERSION: &str = "PL_version";
const SUBVERSION: &str = "PL_subversion";
/// With threads: the number of the pthread key under which each has its interpreter, and the process's first interpreter.
const THREAD_KEY: &str = "PL_thr_key";
const FIRST_INTERPRETER: &str = "PL_curinterp";
/// Without threads: what is in an interpreter otherwise.
const STATEMENT: &str = "PL_curcop";
const RUNS: &str = "PL_op";
const STACK: &str = "PL_curstackinfo";

/// What a file has to say where it has.
pub(super) const SYMBOLS: [&str; 9] =
    [LOOP, REVISION, VERSION, SUBVERSION, THREAD_KEY, FIRST_INTERPRETER, STATEMENT, RUNS, STACK];
/// How the kernel side sends calls: an instruction is a line.
pub(super) const FORMAT: u32 = 0x300;

/// A Perl in a process, and how to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interpreter {
    globals: Globals,
    layout: Layout,
}

/// Where it has what is global.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Globals {
    /// In interpreters: where the key is, and where the first of them is.
    Threads { key: u64, first: u64 },
    /// In variables; offsets from the first of these.
    Variables { first: u64, statement: u32, operation: u32, stack: u32 },
}

/// Whether an image is a Perl, and which.
pub(super) fn recognise(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Sighting> {
    image.symbol(LOOP)?;
    let version = version(image, memory);
    let found = locate(image, version).and_then(|interpreter| interpreter.checked(memory));
    Some(Sighting {
        runtime: super::Runtime::Perl,
        version: version.map(|version| version.to_string()),
        found: found.map(super::Interpreter::Perl),
    })
}

/// The same by the file alone, with addresses as the file has them.
pub(super) fn recognise_file(image: &Image, file: &(impl Memory + ?Sized)) -> Option<Interpreter> {
    image.symbol(LOOP)?;
    locate(image, version(image, file)).ok()
}

/// The evaluation loop by its symbol; compilers put parts of it elsewhere (`.cold`, `.part.0`).
pub(super) fn is_loop(symbol: &[u8]) -> bool {
    let rest = |name: &str| symbol.strip_prefix(name.as_bytes());
    rest(LOOP).or_else(|| rest(DEBUG_LOOP)).is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
}

fn version(image: &Image, memory: &(impl Memory + ?Sized)) -> Option<Version> {
    let number = |name| memory.array::<1>(image.symbol(name)?, 0).map(|[number]| number);
    Some(Version { revision: number(REVISION)?, version: number(VERSION)?, subversion: number(SUBVERSION)? })
}

fn locate(image: &Image, version: Option<Version>) -> Result<Interpreter, Refusal> {
    let globals = globals(image).ok_or(Refusal::NoSymbols)?;
    let layout = version.and_then(table).ok_or(Refusal::UnknownVersion)?;
    Ok(Interpreter { globals, layout })
}

fn globals(image: &Image) -> Option<Globals> {
    if let Some(key) = image.symbol(THREAD_KEY) {
        return Some(Globals::Threads { key, first: image.symbol(FIRST_INTERPRETER)? });
    }
    let [statement, operation, stack] = [STATEMENT, RUNS, STACK].map(|name| image.symbol(name));
    let all = [statement?, operation?, stack?];
    let first = all.into_iter().min()?;
    let [Ok(statement), Ok(operation), Ok(stack)] = all.map(|symbol| u32::try_from(symbol - first)) else {
        return None;
    };
    Some(Globals::Variables { first, statement, operation, stack })
}

/// Of which versions there are tables.
const VERSIONS: [u8; 7] = [30, 32, 34, 36, 38, 40, 42];

/// Frames that are looked at to see whether they make sense, and how often.
const PROBED: usize = 4;
const LOOKS: usize = 5;

impl Interpreter {
    /// The same, if what is read by it makes sense.
    fn checked(self, memory: &(impl Memory + ?Sized)) -> Result<Self, Refusal> {
        // It runs while it is read: what makes no sense once may do so the next time.
        if (1..LOOKS).any(|_| self.frames(memory, PROBED).is_ok()) {
            return Ok(self);
        }
        self.frames(memory, PROBED).map(|_| self)
    }

    /// One of each version, with threads and without, for whoever tries all of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let kinds = [
            Globals::Threads { key: 0, first: 8 },
            Globals::Variables { first: 16, statement: 0, operation: 8, stack: 16 },
        ];
        let layouts =
            VERSIONS.into_iter().filter_map(|version| table(Version { revision: 5, version, subversion: 0 }));
        layouts.flat_map(move |layout| kinds.map(|globals| Self { globals, layout }))
    }

    /// Its first thread, with the calls in progress, innermost first. Nothing leads from there to the others.
    pub(super) fn scripts(&self, memory: &(impl Memory + ?Sized), most: usize) -> Vec<ScriptThread> {
        let frames = self.frames(memory, most).unwrap_or_default();
        vec![ScriptThread { pthread: 0, native: None, frames }]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::runtimes::memory::tests::Made;

    fn image(symbols: &[(&'static str, u64)]) -> Image {
        let symbols: HashMap<_, _> = symbols.iter().copied().chain([(LOOP, 1)]).collect();
        Image { path: "/usr/bin/perl".into(), symbols, said: None }
    }

    const SAID: [(&str, u64); 3] = [(REVISION, 0x1000), (VERSION, 0x1001), (SUBVERSION, 0x1002)];

    #[test]
    fn a_perl_without_threads_has_variables() {
        let variables = [(STATEMENT, 0x2010), (RUNS, 0x2000), (STACK, 0x2008)];
        let memory = Made(0x1000, vec![5, 36, 0]);
        let found = recognise_file(&image(&[&SAID[..], &variables].concat()), &memory).expect("a Perl");
        let wanted = Globals::Variables { first: 0x2000, statement: 0x10, operation: 0, stack: 8 };
        assert_eq!(found.globals, wanted);
        assert_eq!(recognise_file(&image(&SAID), &memory), None, "neither");
        let unknown = Made(0x1000, vec![5, 37, 0]);
        assert_eq!(recognise_file(&image(&[&SAID[..], &variables].concat()), &unknown), None);
    }

    #[test]
    fn loops_are_known_by_name() {
        assert!(is_loop(b"Perl_runops_standard") && is_loop(b"Perl_runops_debug.cold"));
        assert!(!is_loop(b"Perl_runops") && !is_loop(b"Perl_runops_standardised"));
    }
}
