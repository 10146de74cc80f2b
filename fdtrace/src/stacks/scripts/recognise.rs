//! Files that are interpreters, recognised before their first stacks come: a script may open a file before the tables of the
//! program that started it are read.

use std::{
    collections::HashSet,
    env,
    ffi::OsStr,
    fs::{self, File},
    mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use fdtrace_common::scripts::Interpreter;

use super::ScriptNames;
use crate::{
    process::{self, Mapping},
    stacks::{
        interpreters,
        modules::{self, Modules},
        reader::{Reader, Readers},
        script_frames,
        unwind::{Found, Known, Program},
    },
};

/// The most folders that are looked into.
const MAX_FOLDERS: usize = 64;
/// The most programs that are remembered as having been looked at.
const MAX_LOOKED_AT: usize = 1 << 16;

/// Recognises interpreters by the files of programs.
pub struct Recogniser {
    modules: Arc<Modules>,
    reader: Reader,
    looked_at: HashSet<u64>,
    known: Known,
    found: Vec<(u64, Interpreter)>,
}

impl Recogniser {
    /// One that says in `modules` what it recognised, and has files read by one of `readers`.
    #[must_use]
    pub fn new(modules: Arc<Modules>, readers: &Readers) -> Self {
        let (looked_at, known, found) = (HashSet::new(), Known::default(), Vec::new());
        Self { modules, reader: readers.reader(), looked_at, known, found }
    }

    /// Where it says it.
    #[must_use]
    pub fn modules(&self) -> Arc<Modules> {
        Arc::clone(&self.modules)
    }

    /// Gives up what was read of files, if there was nothing to recognise for a while.
    pub fn rest(&mut self) {
        self.reader.rest();
    }

    /// What was recognised since this was asked last, by module.
    pub fn take(&mut self) -> Vec<(u64, Interpreter)> {
        mem::take(&mut self.found)
    }

    /// Those that run already.
    pub fn note_running(&mut self) {
        for pid in process::all() {
            let named = |mapping: &&Mapping| mapping.executable && is_called_like_one(&mapping.path);
            for mapping in process::mappings(pid).iter().filter(named) {
                let Some((_, file)) = modules::open(pid, mapping, &mut self.reader) else { continue };
                if let Ok(metadata) = file.metadata() {
                    self.file(modules::key(mapping, &metadata), &file, &mapping.path);
                }
            }
        }
    }

    /// Those that a shell may start: a script of a moment is over before its interpreter is recognised.
    pub fn note_installed(&mut self) {
        for folder in folders() {
            let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            for path in files.filter(|path| is_called_like_one(path)) {
                self.program(Program::at(&path));
            }
        }
    }

    /// Those that a program is, or uses, which a process began to run.
    pub fn note_program(&mut self, pid: u32, path: &Path) {
        if Program::key_of(pid, path).is_none_or(|key| !self.looked_at.contains(&key)) {
            self.program(Program::of(pid, path));
        }
    }

    fn program(&mut self, program: Option<Program>) {
        let Some(program) = program else { return };
        if self.looked_at.len() >= MAX_LOOKED_AT {
            self.looked_at.clear();
        }
        if !self.looked_at.insert(program.itself.key) {
            return;
        }
        // Its script may run before its libraries are found.
        self.found(&program.itself);
        if self.modules.scripts.is_interpreter(program.itself.key) {
            return;
        }
        for library in program.libraries(&mut self.known, &mut self.reader) {
            self.found(&library);
        }
    }

    fn found(&mut self, found: &Found) {
        if is_called_like_one(&found.path) {
            self.file(found.key, &found.file, &found.path);
        }
    }

    fn file(&mut self, module: u64, file: &File, path: &Path) {
        let found = recognise(&self.modules.scripts, &mut self.reader, module, file, path);
        self.found.extend(found);
    }
}

/// Where programs are looked for: in the search path, and where pyenv puts those that its own programs start.
fn folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".pyenv")));
    let versions =
        root.and_then(|root| fs::read_dir(root.join("versions")).ok()).into_iter().flatten().flatten();
    let versions = versions.map(|version| version.path().join("bin"));
    env::split_paths(&path).chain(versions).take(MAX_FOLDERS).collect()
}

/// The interpreter that a file is, if nobody has recognised it before.
pub(in crate::stacks) fn recognise(
    scripts: &ScriptNames,
    reader: &mut Reader,
    module: u64,
    file: &File,
    path: &Path,
) -> Option<(u64, Interpreter)> {
    if scripts.is_interpreter(module) {
        return None;
    }
    let program = reader.program(file, path)?;
    scripts.note_queue(path, file, &program);
    Some((module, scripts.note_interpreter(module, &program)))
}

/// Whether a file's name is that of an interpreter. Others are recognised too, when their tables are read.
fn is_called_like_one(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    name.and_then(interpreters::named).is_some_and(script_frames::is_readable)
}
