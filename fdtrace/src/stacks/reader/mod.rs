//! What strangers' files say of code: symbols, lines, unwind tables, what a program needs, and the maps of JIT compilers.
//!
//! Those who ask have this side: they open files, which needs privileges, hand them to a [`crate::sandbox::Child`], and wait
//! no longer than a second. All parsing is on the other side, in `service`.

mod anchors;
mod bytes;
mod code;
mod demangle;
mod filled;
mod identity;
mod needed;
mod object;
mod patience;
mod perf_map;
mod program;
mod request;
mod rule;
mod service;
mod symbols;
mod tables;

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fdtrace_common::unwind::Rule;
use serde::de::DeserializeOwned;

use self::{
    bytes::Bytes,
    code::Code,
    object::Object,
    patience::Patience,
    request::{PlainRule, Request},
};
pub(super) use self::{
    request::{Identity, Name, Needed},
    tables::{Tables, guess},
};
use crate::{
    process::{
        self, Mapping,
        procfs::Text,
        usage::{Usage, children},
    },
    runtimes::{Interpreter, Place, Placed, Program, ScriptThread, Sighting, Unplaced},
    sandbox::{Child, Limits, Spawner, Unanswered},
};

/// What a reader may take for itself: a browser's symbols are some 50 MB.
const LIMITS: Limits = Limits { memory: 80 << 20 };
/// What a reader has in memory, of a library's debug information some 50 MB, is read again in a tenth of a second.
const IDLE: Duration = Duration::from_secs(5);
/// Addresses in one question, so that no answer is long.
const MAX_AT_ONCE: usize = 256;

/// Where readers come from.
#[derive(Clone)]
pub struct Readers {
    spawner: Spawner,
    patience: Duration,
    remarks: Arc<Mutex<Vec<String>>>,
}

/// Somebody to ask.
pub(super) struct Reader {
    child: Child,
    patience: Patience,
    readers: Readers,
}

/// What came of a question about a file.
pub(super) type Read<T> = Result<T, NotRead>;

/// Why a file was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotRead {
    #[error("reading it takes too long")]
    Late,
    #[error("it is broken, or reading it takes too much memory")]
    Broken,
    #[error("there can be no process to read it")]
    NoReader,
}

impl NotRead {
    /// When it may be asked for again: a slow disk has given its bytes by then, and a busy machine is perhaps no longer one.
    pub(super) fn again(self) -> Option<Instant> {
        (self == Self::Late).then(|| Instant::now() + PAUSE)
    }
}

/// Whoever is late on purpose takes a twentieth of the time at most.
const PAUSE: Duration = Duration::from_secs(20);

impl Readers {
    /// To be called before anything is attached, and before there are threads.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn start() -> io::Result<Self> {
        let spawner = Spawner::start(service::serve, LIMITS)?;
        Ok(Self { spawner, patience: patience::at_first(), remarks: Arc::default() })
    }

    /// Readers of a test, whose program is large and slow.
    #[cfg(test)]
    pub(crate) fn of_test() -> Self {
        Self { patience: Duration::from_secs(60), ..Self::start().expect("processes") }
    }

    /// A reader, which is a process of its own as soon as it is asked something.
    pub(super) fn reader(&self) -> Reader {
        Reader {
            child: Child::new(self.spawner.clone()),
            patience: Patience::new(self.patience),
            readers: self.clone(),
        }
    }

    /// What the kernel says of a reader: `/proc/PID/status`; nothing where there can be none.
    #[must_use]
    pub(crate) fn status(&self) -> Text {
        // It ends with whoever asks it.
        let mut reader = self.reader();
        reader.child.pid().and_then(|pid| Text::of(pid, "status").ok()).unwrap_or_default()
    }

    /// What they use now, with the process that starts them.
    pub(crate) fn usage(&self) -> Usage {
        let spawner = self.spawner.pid();
        let all = children(spawner).into_iter().chain([spawner]).filter_map(Usage::of);
        all.fold(Usage::default(), |sum, one| Usage {
            time: sum.time + one.time,
            resident_bytes: sum.resident_bytes + one.resident_bytes,
            ..sum
        })
    }

    /// Sentences on files that were not read, each once.
    #[must_use]
    pub fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut *self.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has a sentence said, once.
    pub(crate) fn remark(&self, sentence: String) {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if remarks.len() < MAX_REMARKS && !remarks.contains(&sentence) {
            remarks.push(sentence);
        }
    }
}

/// Sentences that wait; whoever makes thousands of such files shall not fill the screen.
const MAX_REMARKS: usize = 8;

impl Reader {
    /// What a file says it is; nothing where it is no program.
    pub(super) fn identify(&mut self, file: &File, sum: bool) -> Option<Identity> {
        self.ask(&Request::Identify { sum }, &[file]).ok().flatten()
    }

    /// The functions at offsets of a file, innermost first, and with `lines` by its debug information or that of a second
    /// file.
    pub(super) fn names(&mut self, files: &[&File], offsets: &[u64], lines: bool) -> Read<Vec<Vec<Name>>> {
        let mut names = Vec::with_capacity(offsets.len());
        for offsets in offsets.chunks(MAX_AT_ONCE) {
            let mut found =
                self.ask::<Vec<Vec<Name>>>(&Request::Names { offsets: offsets.to_vec(), lines }, files)?;
            found.resize(offsets.len(), Vec::new());
            names.append(&mut found);
        }
        Ok(names)
    }

    /// Reads the unwind tables of a file, for [`Self::rule`]; whether there are any.
    pub(super) fn read_tables(&mut self, module: u64, file: &File) -> Read<bool> {
        self.ask(&Request::Tables { module }, &[file])
    }

    /// The rule at an offset of a module whose tables were read in this generation; `None` where they were not.
    pub(super) fn rule(&mut self, module: u64, offset: u64, exact: bool) -> Read<Option<Rule>> {
        let rule = self.ask::<Option<PlainRule>>(&Request::Rule { module, offset, exact }, &[])?;
        Ok(rule.map(Rule::from))
    }

    /// What a program needs to run; `None` of what is none, or is not read.
    pub(super) fn needed(&mut self, file: &File) -> Option<Needed> {
        self.ask(&Request::Needed, &[file]).ok().flatten()
    }

    /// The functions at addresses, by a perf map.
    pub(super) fn perf_map(&mut self, map: &File, addresses: &[u64]) -> Read<Vec<Option<String>>> {
        let mut names = Vec::with_capacity(addresses.len());
        for addresses in addresses.chunks(MAX_AT_ONCE) {
            let mut found: Vec<Option<String>> =
                self.ask(&Request::PerfMap { addresses: addresses.to_vec() }, &[map])?;
            found.resize(addresses.len(), None);
            names.append(&mut found);
        }
        Ok(names)
    }

    /// The runtime that a mapped file is in a process whose memory is the second file.
    pub(super) fn runtime(&mut self, files: [&File; 2], mapping: &Mapping) -> Read<Option<Sighting>> {
        let path = mapping.path.to_string_lossy().into_owned();
        self.ask(&Request::Runtime { path, start: mapping.range.start, offset: mapping.offset }, &files)
    }

    /// The interpreter that a file is.
    pub(super) fn program(&mut self, file: &File, path: &Path) -> Option<Program> {
        let path = path.to_string_lossy().into_owned();
        self.ask(&Request::Program { path }, &[file]).ok().flatten()
    }

    /// Where a call of a script is whose text the file is.
    pub(super) fn place(&mut self, file: &File, unplaced: &Unplaced) -> Read<Option<Placed>> {
        self.ask(&Request::Place { unplaced: unplaced.clone().into() }, &[file])
    }

    /// The source of a place of a script, as its source map calls it, and the place in that. The file is the map, or has it inside.
    pub(super) fn source(&mut self, map: &File, inside: bool, place: Place) -> Read<Option<(String, Place)>> {
        self.ask(&Request::Source { place, inside }, &[map])
    }

    /// The threads of a runtime, with at most so many calls of each.
    pub(super) fn scripts(
        &mut self,
        memory: &File,
        interpreter: &Interpreter,
        most: usize,
    ) -> Read<Vec<ScriptThread>> {
        self.ask(&Request::Scripts { interpreter: interpreter.clone().into(), most }, &[memory])
    }

    /// Says, once, that a file was not read.
    pub(super) fn remark(&self, path: &Path, why: NotRead, what_follows: &str) {
        self.readers.remark(format!("{}: {why}; {what_follows}", path.display()));
    }

    /// Gives up the process and all that it has read, if nobody needs it for a while. Not for whoever asks for rules: of a file
    /// that is gone they cannot be read again.
    pub(super) fn rest(&mut self) {
        self.child.rest(IDLE);
    }

    /// What was read before this number changed is gone.
    pub(super) const fn generation(&self) -> u64 {
        self.child.generation
    }

    fn ask<T: DeserializeOwned>(&mut self, request: &Request, files: &[&File]) -> Read<T> {
        let question = serde_json::to_vec(request).map_err(|_| NotRead::Broken)?;
        match self.child.ask(&question, files, self.patience.now()) {
            Ok(answer) => serde_json::from_slice(&answer).map_err(|_| NotRead::Broken),
            Err(Unanswered::Late) => {
                self.patience.lost();
                Err(NotRead::Late)
            }
            Err(Unanswered::Died) => Err(NotRead::Broken),
            Err(Unanswered::NoChild) => Err(NotRead::NoReader),
        }
    }
}

/// Names of offsets in the vDSO, which is the kernel's and that of all processes of this architecture.
pub(super) fn names_in_vdso(offsets: &[u64]) -> Vec<Option<String>> {
    let code = vdso().and_then(Object::parse).map(|object| Code::of(object, false));
    let name = |offset: &u64| {
        let code = code.as_ref()?;
        code.names(code.address(*offset)?).pop()?.function
    };
    offsets.iter().map(name).collect()
}

/// The unwind tables of the vDSO.
pub(super) fn tables_of_vdso() -> Option<Tables> {
    vdso().and_then(Object::parse).and_then(Tables::of)
}

fn vdso() -> Option<Bytes> {
    let range = process::vdso(std::process::id())?;
    let length = usize::try_from(range.end - range.start).ok()?;
    // SAFETY: the kernel maps it there, readable, as long as the process lives.
    Some(unsafe { std::slice::from_raw_parts(range.start as *const u8, length) }.to_vec().into())
}

/// All that a reader makes of a file, in this process: for a fuzzer.
#[cfg(fuzzing)]
pub(super) fn read_all(bytes: &[u8], offsets: &[u64]) -> usize {
    let object = || Object::parse(bytes.to_vec().into());
    let Some(identity) = object().map(|object| identity::of(&object, None)) else { return 0 };
    let needed = object().and_then(|object| needed::of(&object)).unwrap_or_default();
    let names = |lines| {
        let Some(code) = object().map(|object| Code::of(object, lines)) else { return 0 };
        let addresses = offsets.iter().filter_map(|offset| code.address(*offset));
        addresses.map(|address| code.names(address).len()).sum::<usize>()
    };
    let tables = object().and_then(Tables::of);
    let rules = offsets.iter().filter_map(|offset| Some(tables.as_ref()?.rule(*offset, true)));
    identity.build_id.map_or(0, |id| id.len())
        + needed.libraries.len()
        + names(true)
        + names(false)
        + rules.count()
}

/// The same of a perf map.
#[cfg(fuzzing)]
pub(super) fn read_perf_map(map: &File, addresses: &[u64]) -> usize {
    let mut functions = perf_map::PerfMap::default();
    let _ = functions.update(map);
    addresses.iter().filter(|address| functions.name(map, **address).is_some()).count()
}
