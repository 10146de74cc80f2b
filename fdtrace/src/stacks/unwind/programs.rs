//! The programs whose tables are known.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use fdtrace_common::unwind::{Rule, VDSO};

use super::{libraries, tables::Tables};
use crate::{
    process::{self, Mapping},
    stacks::modules::{self, Modules},
};

/// Bytes of tables that are kept in memory.
const MOST_BYTES: usize = 64 << 20;

/// The most files whose places are remembered.
const MOST_SEEN: usize = 4096;

/// The most files whose tables wait to be read.
const MOST_AHEAD: usize = 1024;

/// How often all processes are looked through for files at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tables by module.
pub(super) struct Programs {
    modules: Arc<Modules>,
    /// `None` of a file that has no tables that can be read.
    tables: HashMap<u64, Option<Tables>>,
    bytes: usize,
    /// Where a filesystem shows other inode numbers than it has inside: the kernel side's key by the one that is made
    /// from what it shows.
    inner_keys: HashMap<u64, u64>,
    /// Where files were seen.
    seen: HashMap<u64, PathBuf>,
    /// Programs whose libraries were looked for.
    noted: HashSet<u64>,
    /// Files whose tables are likely to be wanted.
    ahead: VecDeque<u64>,
    /// When all processes were last looked through for files.
    looked: Option<Instant>,
}

impl Programs {
    pub(super) fn new(modules: Arc<Modules>) -> Self {
        Self {
            modules,
            tables: HashMap::new(),
            bytes: 0,
            inner_keys: HashMap::new(),
            seen: HashMap::new(),
            noted: HashSet::new(),
            ahead: VecDeque::new(),
            looked: None,
        }
    }

    /// The rule of an offset in a module that was met; `None` when its file could not be had.
    pub(super) fn rule(&mut self, module: u64, offset: u64, exact: bool) -> Option<Rule> {
        if module == VDSO && !self.tables.contains_key(&VDSO) {
            self.keep(VDSO, vdso().and_then(Tables::parse));
        }
        let tables = self.tables.get(&module)?;
        Some(tables.as_ref().map_or(Rule::UNKNOWN, |tables| tables.rule(offset, exact)))
    }

    /// Finds the file of a module that the kernel side has named: in the process, or where it was seen elsewhere when the
    /// process is gone.
    pub(super) fn find(&mut self, pid: u32, module: u64, mapping: Option<&Mapping>) {
        if self.is_known(module) {
            return;
        }
        if mapping.and_then(|mapping| self.meet(pid, mapping, Some(module))).is_none() {
            self.find_elsewhere(module);
        }
    }

    fn find_elsewhere(&mut self, module: u64) {
        if !self.seen.contains_key(&module) && self.looked.is_none_or(|last| last.elapsed() > PATIENCE) {
            self.looked = Some(Instant::now());
            self.seen.extend(modules::mapped_anywhere());
        }
        let Some(path) = self.seen.get(&module) else { return };
        if let Some((found, file)) =
            modules::open_path(path).filter(|(_, file)| modules::file_key(file) == Some(module))
        {
            self.keep_of(module, &file);
            self.modules.insert(module, found);
        }
    }

    /// Remembers where the files of a program are.
    pub(super) fn note(&mut self, pid: u32, path: &Path) {
        let inside = Path::new("/proc").join(pid.to_string()).join("cwd").join(path);
        for path in [inside, path.to_owned()] {
            let path = path.canonicalize().unwrap_or(path);
            let Some(key) = self.see(&path) else { continue };
            if self.noted.insert(key) {
                self.note_all_of(&path);
            }
            return;
        }
    }

    /// The same of what the loader will map, or of the program that runs a script.
    fn note_all_of(&mut self, path: &Path) {
        let program = libraries::interpreter(path).unwrap_or_else(|| path.to_owned());
        let files = libraries::of(&program);
        for path in std::iter::once(program).chain(files) {
            if let Some(key) = self.see(&path)
                && !self.tables.contains_key(&key)
                && self.ahead.len() < MOST_AHEAD
            {
                self.ahead.push_back(key);
            }
        }
    }

    fn see(&mut self, path: &Path) -> Option<u64> {
        let key = modules::file_key(&modules::open_regular(path)?)?;
        if self.seen.len() >= MOST_SEEN {
            self.seen.clear();
            self.noted.clear();
        }
        self.seen.insert(key, path.canonicalize().unwrap_or_else(|_| path.to_owned()));
        Some(key)
    }

    /// Reads the tables of one file that is likely to be met; `false` when there is none left.
    pub(super) fn read_ahead(&mut self) -> bool {
        let Some(module) = self.ahead.pop_front() else { return false };
        // What is in use already is worth more.
        if self.bytes < MOST_BYTES / 2
            && !self.tables.contains_key(&module)
            && let Some(file) = self.seen.get(&module).and_then(|path| modules::open_regular(path))
            && modules::file_key(&file) == Some(module)
        {
            self.keep_of(module, &file);
        }
        true
    }

    /// The key of a mapping's file, whose tables are read if nobody has met it before; `None` when it cannot be opened.
    pub(super) fn meet(&mut self, pid: u32, mapping: &Mapping, told: Option<u64>) -> Option<u64> {
        if let Some(metadata) = modules::metadata(pid, mapping) {
            let key = self.key(modules::key(mapping, &metadata), told);
            if self.is_known(key) {
                return Some(key);
            }
        }
        let (module, file) = modules::open(pid, mapping)?;
        let key = self.key(modules::key(mapping, &file.metadata().ok()?), told);
        self.keep_of(key, &file);
        self.modules.insert(key, module);
        Some(key)
    }

    /// The key that counts: the kernel side's, where that is another one than what the filesystem shows amounts to.
    fn key(&mut self, shown: u64, told: Option<u64>) -> u64 {
        if let Some(told) = told.filter(|told| *told != shown) {
            self.inner_keys.insert(shown, told);
        }
        self.inner_keys.get(&shown).copied().unwrap_or(shown)
    }

    /// Whether it was met, and has its tables here.
    pub(super) fn is_known(&self, module: u64) -> bool {
        module == VDSO || (self.tables.contains_key(&module) && self.modules.get(module).is_some())
    }

    fn keep_of(&mut self, module: u64, file: &File) {
        if !self.tables.contains_key(&module) {
            self.keep(module, Tables::read(file));
        }
    }

    fn keep(&mut self, module: u64, tables: Option<Tables>) {
        let bytes = tables.as_ref().map_or(0, Tables::bytes);
        if self.bytes + bytes > MOST_BYTES {
            self.tables.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.tables.insert(module, tables);
    }
}

/// The vDSO of this process, which is that of all processes of this architecture.
fn vdso() -> Option<&'static [u8]> {
    let range = process::vdso(std::process::id())?;
    let length = usize::try_from(range.end - range.start).ok()?;
    // SAFETY: the kernel maps it there, readable, as long as the process lives.
    Some(unsafe { std::slice::from_raw_parts(range.start as *const u8, length) })
}
