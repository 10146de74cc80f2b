//! The programs whose tables are known.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::File,
    mem,
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use fdtrace_common::{
    scripts::Interpreter,
    unwind::{Rule, VDSO, note},
};

use super::libraries::{Found, Known, Program};
use crate::{
    process::Mapping,
    stacks::{
        modules::{self, Modules},
        reader::{NotRead, Reader, Tables, guess, tables_of_vdso},
        scripts::recognise,
    },
};

/// The most modules of which it is remembered whether they have tables; those that are in use are met again.
const MAX_KNOWN: usize = 4096;
/// The most files that cannot be read.
const MAX_POOR: usize = 4096;

/// The most rules that are remembered.
const MAX_RULES: usize = 1 << 15;

/// The most files whose places are remembered.
const MAX_SEEN: usize = 4096;

/// The most files whose tables wait to be read.
const MAX_AHEAD: usize = 1024;

/// How often all processes are looked through for files at most.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Tables by module.
pub(super) struct Programs {
    modules: Arc<Modules>,
    reader: Reader,
    /// Modules whose tables the reader has, and in which of its generations it read them.
    read: HashMap<u64, u64>,
    /// Modules whose tables were too much for the reader.
    poor: HashMap<u64, Option<Instant>>,
    /// Rules by module and offset, and whether an instruction is there: what the kernel side lacks of a stack is the next
    /// frame, and what comes behind it is known most of the time.
    rules: HashMap<(u64, u64, bool), Rule>,
    vdso: Option<Tables>,
    /// Where a filesystem shows other inode numbers than it has inside: the kernel side's key by the one that is made
    /// from what it shows.
    inner_keys: HashMap<u64, u64>,
    /// Where files were seen.
    seen: HashMap<u64, PathBuf>,
    /// Programs whose libraries were looked for.
    noted: HashSet<u64>,
    known: Known,
    /// Files whose tables are likely to be wanted.
    ahead: VecDeque<u64>,
    /// When all processes were last looked through for files.
    sampled: Option<Instant>,
    /// Interpreters that the kernel side has not been told of.
    recognised: Vec<(u64, Interpreter)>,
}

impl Programs {
    pub(super) fn new(modules: Arc<Modules>, reader: Reader) -> Self {
        Self {
            modules,
            reader,
            read: HashMap::new(),
            poor: HashMap::new(),
            rules: HashMap::new(),
            vdso: tables_of_vdso(),
            inner_keys: HashMap::new(),
            seen: HashMap::new(),
            noted: HashSet::new(),
            known: Known::default(),
            ahead: VecDeque::new(),
            sampled: None,
            recognised: Vec::new(),
        }
    }

    /// The rule of an offset in a module that was met; `None` when its file could not be had.
    pub(super) fn rule(&mut self, module: u64, offset: u64, exact: bool) -> Option<Rule> {
        if module == VDSO {
            return Some(self.vdso.as_ref().map_or(Rule::UNKNOWN, |tables| tables.rule(offset, exact)));
        }
        if self.is_poor(module) {
            return Some(guess(exact));
        }
        if let Some(rule) = self.rules.get(&(module, offset, exact)) {
            return Some(self.noted(module, *rule));
        }
        let generation = *self.read.get(&module)?;
        let why = match self.reader.rule(module, offset, exact) {
            // It was asked twice, and the first who was asked is gone.
            Ok(None) if self.reader.generation() != generation => NotRead::Broken,
            Ok(None) => return None,
            Ok(Some(rule)) => {
                self.remember((module, offset, exact), rule);
                return Some(self.noted(module, rule));
            }
            Err(why) => why,
        };
        self.give_up(module, why);
        Some(guess(exact))
    }

    fn remember(&mut self, place: (u64, u64, bool), rule: Rule) {
        if self.rules.len() >= MAX_RULES {
            self.rules.clear();
        }
        self.rules.insert(place, rule);
    }

    /// The rule as the kernel side is told it.
    fn noted(&self, module: u64, rule: Rule) -> Rule {
        let note = if self.modules.scripts.is_interpreter(module) { note::INTERPRETER } else { 0 };
        Rule { notes: rule.notes | note, ..rule }
    }

    pub(super) fn take_interpreters(&mut self) -> Vec<(u64, Interpreter)> {
        mem::take(&mut self.recognised)
    }

    /// Offsets of an interpreter's evaluation loop.
    pub(super) fn loops(&self, module: u64) -> Arc<[Range<u64>]> {
        self.modules.scripts.loops(module)
    }

    /// Whether a file makes code of scripts.
    pub(super) fn compiles(&self, module: u64) -> bool {
        self.modules.scripts.compiles(module)
    }

    /// Whether the file is an interpreter's, before any rule of it is asked for.
    fn recognise(&mut self, module: u64, file: &File) {
        let path = self.modules.get(module).map(|module| module.path.to_path_buf());
        let path = path.or_else(|| self.seen.get(&module).cloned()).unwrap_or_default();
        let found = recognise(&self.modules.scripts, &mut self.reader, module, file, &path);
        self.recognised.extend(found);
    }

    /// Whoever waits for such a file lets everybody wait.
    fn give_up(&mut self, module: u64, why: NotRead) {
        if self.poor.len() >= MAX_POOR {
            self.poor.clear();
        }
        self.poor.insert(module, why.again());
        let path = self.modules.get(module).map(|module| module.path.to_path_buf());
        let path = path.or_else(|| self.seen.get(&module).cloned()).unwrap_or_default();
        self.reader.remark(&path, why, "its frames are followed by frame pointers");
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
        if !self.seen.contains_key(&module) && self.sampled.is_none_or(|last| last.elapsed() > RETRY_INTERVAL)
        {
            self.sampled = Some(Instant::now());
            self.seen.extend(modules::mapped_anywhere());
        }
        let Some(path) = self.seen.get(&module) else { return };
        if let Some((found, file)) = modules::open_path(path, &mut self.reader)
            .filter(|(_, file)| modules::file_key(file) == Some(module))
        {
            self.modules.insert(module, found);
            self.read_tables(module, &file);
        }
    }

    /// Whether a program is one whose libraries were looked for.
    pub(super) fn is_noted(&self, program: Option<u64>) -> bool {
        program.is_some_and(|key| self.noted.contains(&key))
    }

    /// Remembers where the files of a program are: its own, and those that its loader will map.
    pub(super) fn note(&mut self, program: Option<Program>) {
        let Some(program) = program else { return };
        let key = program.itself.key;
        self.see(key, program.itself.path.clone());
        if !self.noted.insert(key) {
            return;
        }
        let libraries = program.libraries(&mut self.known, &mut self.reader);
        for Found { key, path, .. } in std::iter::once(program.itself).chain(libraries) {
            self.see(key, path);
            if !self.has_tables(key) && self.ahead.len() < MAX_AHEAD {
                self.ahead.push_back(key);
            }
        }
    }

    fn see(&mut self, key: u64, path: PathBuf) {
        if self.seen.len() >= MAX_SEEN {
            self.seen.clear();
            self.noted.clear();
        }
        self.seen.insert(key, path);
    }

    /// Reads the tables of one file that is likely to be met; `false` when there is none left.
    pub(super) fn read_ahead(&mut self) -> bool {
        let Some(module) = self.ahead.pop_front() else { return false };
        if !self.has_tables(module)
            && let Some(file) = self.seen.get(&module).and_then(|path| modules::open_regular(path))
            && modules::file_key(&file) == Some(module)
        {
            self.read_tables(module, &file);
        }
        true
    }

    /// The key of a mapping's file, whose tables are read if nobody has met it before; `None` when it cannot be opened.
    pub(super) fn meet(&mut self, pid: u32, mapping: &Mapping, reported: Option<u64>) -> Option<u64> {
        if let Some(metadata) = modules::metadata(pid, mapping) {
            let key = self.key(modules::key(mapping, &metadata), reported);
            if self.is_known(key) {
                return Some(key);
            }
        }
        let (module, file) = modules::open(pid, mapping, &mut self.reader)?;
        let key = self.key(modules::key(mapping, &file.metadata().ok()?), reported);
        self.modules.insert(key, module);
        self.read_tables(key, &file);
        Some(key)
    }

    /// The key that counts: the kernel side's, where that is another one than what the filesystem shows amounts to.
    fn key(&mut self, shown: u64, reported: Option<u64>) -> u64 {
        if let Some(reported) = reported.filter(|reported| *reported != shown) {
            self.inner_keys.insert(shown, reported);
        }
        self.inner_keys.get(&shown).copied().unwrap_or(shown)
    }

    /// Whether it was met, and the reader has its tables.
    pub(super) fn is_known(&self, module: u64) -> bool {
        module == VDSO || (self.has_tables(module) && self.modules.get(module).is_some())
    }

    fn has_tables(&self, module: u64) -> bool {
        self.is_poor(module) || self.read.get(&module) == Some(&self.reader.generation())
    }

    /// Whether it was too much, and is not to be tried again yet.
    fn is_poor(&self, module: u64) -> bool {
        let again = self.poor.get(&module);
        again.is_some_and(|again| again.is_none_or(|again| Instant::now() < again))
    }

    fn read_tables(&mut self, module: u64, file: &File) {
        if self.has_tables(module) {
            return;
        }
        match self.reader.read_tables(module, file) {
            Ok(_) => {
                if self.read.len() >= MAX_KNOWN {
                    self.read.clear();
                }
                self.read.insert(module, self.reader.generation());
                self.recognise(module, file);
            }
            Err(why) => self.give_up(module, why),
        }
    }
}
