//! The runtimes in a process, and where its scripts are now; and the calls of scripts that the kernel side takes.

mod merge;
mod names;
mod recognise;

use std::{collections::HashSet, fs::File, io, path::Path, sync::Arc};

pub use self::recognise::Recogniser;
pub(super) use self::recognise::recognise;
pub(crate) use self::{
    merge::merge,
    names::{QueueFile, ScriptNames},
};
use super::{modules, reader::Readers};
use crate::{
    process::{self, Mapping},
    runtimes::{Program, ScriptThread, Sighting},
};

/// A runtime that a process has mapped.
pub(crate) struct FoundRuntime {
    /// Its file, as the process sees it.
    pub(crate) file: Arc<Path>,
    pub(crate) sighting: Sighting,
    /// Its threads as they are now, where they can be read.
    pub(crate) threads: Vec<ScriptThread>,
    /// Whether work that its scripts have others do can be followed back to them; `None` where they have none do any.
    pub(crate) follows_work: Option<bool>,
}

/// What was found out about a process.
pub(crate) struct Runtimes {
    pub(crate) found: Vec<FoundRuntime>,
    /// Files that could not be looked at, and why not.
    pub(crate) unread: Vec<(Arc<Path>, String)>,
}

/// Looks for runtimes in the files that a process has mapped as code, with at most so many calls of each thread.
///
/// # Errors
/// When the process's memory may not be read, or the process is gone.
pub(crate) fn runtimes(pid: u32, readers: &Readers, most: usize) -> io::Result<Runtimes> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut reader = readers.reader();
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for mapping in code(pid) {
        let Some((_, file)) = modules::open(pid, &mapping, &mut reader) else { continue };
        match reader.runtime([&file, &memory], &mapping) {
            Ok(Some(sighting)) => {
                let interpreter = sighting.found.as_ref().ok();
                let program = reader.program(&file, &mapping.path).filter(Program::has_work_queue);
                let threads = interpreter.and_then(|found| reader.scripts(&memory, found, most).ok());
                found.push(FoundRuntime {
                    file: mapping.path,
                    sighting,
                    threads: threads.unwrap_or_default(),
                    follows_work: program.map(|program| program.work_queue.is_some()),
                });
            }
            Ok(None) => {}
            Err(why) => unread.push((mapping.path, why.to_string())),
        }
    }
    Ok(Runtimes { found, unread })
}

/// The first mapping of code of each file.
fn code(pid: u32) -> Vec<Mapping> {
    let mut seen = HashSet::new();
    let mappings = process::mappings(pid).into_iter();
    mappings
        .filter(|mapping| mapping.executable && mapping.inode != 0)
        .filter(|mapping| seen.insert((mapping.device, mapping.inode)))
        .collect()
}

#[cfg(test)]
mod tests;
