//! Code objects by the names that the kernel side gave to them, and the interpreters that they are of.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    mem,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fdtrace_common::scripts::{Interpreter, kind};

use crate::{
    model::{Runtime, UserFrame},
    runtimes::{self, Build, Program, Unplaced, WorkQueue},
    stacks::symbols::Located,
    stream::CodeObject,
};

/// What all code objects may take: those of a large program are a few megabytes. What comes then has no name.
const MAX_BYTES: usize = 64 << 20;

/// What was learnt of scripts.
#[derive(Default)]
pub(crate) struct ScriptNames(Mutex<Known>);

#[derive(Default)]
struct Known {
    code: HashMap<u64, CodeObject>,
    bytes: usize,
    frames: HashMap<(u64, i32), Option<Arc<UserFrame>>>,
    loops: HashMap<u64, Arc<[Range<u64>]>>,
    builds: Vec<Build>,
    compiling: HashSet<u64>,
    /// Programs with a queue of work that nobody has asked for yet; `None` where nobody will.
    queues: Option<Vec<QueueFile>>,
}

/// A file whose scripts have others work for them.
pub(crate) struct QueueFile {
    /// As the one who found it sees it.
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Where it has the queue; `None` where it does not say so.
    pub(crate) queue: Option<WorkQueue>,
}

/// The most files that wait to be asked for.
const MAX_QUEUES: usize = 64;

/// The most builds that are remembered.
const MAX_BUILDS: usize = 64;

/// Frames that are remembered; then they are made anew.
const MAX_FRAMES: usize = 1 << 16;

impl Known {
    /// Which of those that were met these are.
    fn number(&mut self, build: &Build) -> u32 {
        let known = self.builds.iter().position(|known| known == build);
        let number = known.unwrap_or_else(|| {
            if self.builds.len() < MAX_BUILDS {
                self.builds.push(build.clone());
            }
            self.builds.len() - 1
        });
        u32::try_from(number).unwrap_or(0)
    }
}

impl ScriptNames {
    /// What is in a code object.
    pub(crate) fn note(&self, code: CodeObject) {
        let mut known = self.known();
        let bytes = size_of::<CodeObject>()
            + [&code.function, &code.file, &code.lines].map(|text| text.bytes.len()).iter().sum::<usize>();
        if known.bytes + bytes <= MAX_BYTES && known.code.insert(code.key, code).is_none() {
            known.bytes += bytes;
        }
    }

    /// A file is an interpreter's. What the kernel side is told of it.
    pub(super) fn note_interpreter(&self, module: u64, program: &Program) -> Interpreter {
        let mut known = self.known();
        known.loops.insert(module, program.loops.as_slice().into());
        let layout = program.layout();
        if matches!(layout.kind, kind::V8 | kind::HOTSPOT) {
            known.compiling.insert(module);
        }
        let number = program.build().map_or(0, |build| known.number(build));
        Interpreter { format: layout.format + number, ..layout }
    }

    /// From now on files with queues of work are remembered.
    pub(crate) fn want_queues(&self) {
        self.known().queues.get_or_insert_default();
    }

    /// Whether they are.
    pub(crate) fn wants_queues(&self) -> bool {
        self.known().queues.is_some()
    }

    /// Files with queues of work that were met since this was asked last.
    pub(crate) fn take_queues(&self) -> Vec<QueueFile> {
        self.known().queues.as_mut().map(mem::take).unwrap_or_default()
    }

    /// A file may have one.
    pub(super) fn note_queue(&self, path: &Path, file: &File, program: &Program) {
        if !program.has_work_queue() {
            return;
        }
        if let Some(queues) = &mut self.known().queues
            && queues.len() < MAX_QUEUES
            && let Ok(file) = file.try_clone()
        {
            queues.push(QueueFile { path: path.to_owned(), file, queue: program.work_queue.clone() });
        }
    }

    /// Whether a file is an interpreter's.
    pub(in crate::stacks) fn is_interpreter(&self, module: u64) -> bool {
        self.known().loops.contains_key(&module)
    }

    /// Whether it is one that makes code of scripts.
    pub(in crate::stacks) fn compiles(&self, module: u64) -> bool {
        self.known().compiling.contains(&module)
    }

    /// Where its evaluation loop is.
    pub(crate) fn loops(&self, module: u64) -> Arc<[Range<u64>]> {
        self.known().loops.get(&module).cloned().unwrap_or_default()
    }

    /// The call at an instruction of a code object; `None` for one that the runtime's own stack traces leave out.
    ///
    /// `locate` looks for its line in the file that it is given, where the code object has none.
    pub(in crate::stacks) fn frame(
        &self,
        code: u64,
        instruction: i32,
        locate: impl FnOnce(&str, &Unplaced) -> Option<Located>,
    ) -> Option<Arc<UserFrame>> {
        let known = self.known();
        if let Some(frame) = known.frames.get(&(code, instruction)) {
            return frame.clone();
        }
        let Some(found) = known.code.get(&code) else {
            // It found no room. Which frame this is matters all the same.
            return Some(Arc::new(UserFrame {
                runtime: Some(Runtime::Cpython),
                offset: code,
                ..UserFrame::default()
            }));
        };
        let unplaced = runtimes::unplaced(found, instruction, &known.builds);
        let found = runtimes::frame(found, instruction);
        drop(known);
        let frame = found.map(|(runtime, found)| {
            let located = unplaced.and_then(|unplaced| locate(&found.file, &unplaced));
            let place = located.as_ref().map(|located| located.place);
            Arc::new(UserFrame {
                runtime: Some(runtime),
                symbol: Some(found.function),
                file: Some(located.and_then(|located| located.source).unwrap_or(found.file)),
                line: found.line.or(place.map(|place| place.line)),
                column: place.and_then(|place| place.column),
                ..UserFrame::default()
            })
        });
        let mut known = self.known();
        if known.frames.len() >= MAX_FRAMES {
            known.frames.clear();
        }
        known.frames.insert((code, instruction), frame.clone());
        frame
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
