//! Code objects by the names that the kernel side gave to them, and the interpreters that they are of.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    model::{Runtime, UserFrame},
    runtimes,
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
}

/// Frames that are remembered; then they are made anew.
const MAX_FRAMES: usize = 1 << 16;

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

    /// A file is an interpreter's, which has its evaluation loop there.
    pub(super) fn note_interpreter(&self, module: u64, loops: &[Range<u64>]) {
        self.known().loops.insert(module, loops.into());
    }

    /// Whether a file is an interpreter's.
    pub(in crate::stacks) fn is_interpreter(&self, module: u64) -> bool {
        self.known().loops.contains_key(&module)
    }

    /// Where its evaluation loop is.
    pub(crate) fn loops(&self, module: u64) -> Arc<[Range<u64>]> {
        self.known().loops.get(&module).cloned().unwrap_or_default()
    }

    /// The call at an instruction of a code object; `None` for one that the runtime's own stack traces leave out.
    pub(in crate::stacks) fn frame(&self, code: u64, instruction: i32) -> Option<Arc<UserFrame>> {
        let mut known = self.known();
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
        let frame = runtimes::frame(found, instruction).map(|(runtime, found)| {
            Arc::new(UserFrame {
                runtime: Some(runtime),
                symbol: Some(found.function),
                file: Some(found.file),
                line: found.line,
                ..UserFrame::default()
            })
        });
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
