//! The programs whose tables are known.

use std::{collections::HashMap, sync::Arc};

use fdtrace_common::unwind::{Rule, VDSO};

use super::tables::Tables;
use crate::{
    process::{self, Mapping},
    stacks::modules::{self, Modules},
    stream::Window,
};

/// Bytes of tables that are kept in memory.
const MOST_BYTES: usize = 64 << 20;

/// Tables by module.
pub(super) struct Programs {
    modules: Arc<Modules>,
    /// `None` of a file that has no tables that can be read.
    tables: HashMap<u64, Option<Tables>>,
    bytes: usize,
    /// Where a filesystem shows other inode numbers than it has inside: the kernel side's key by the one that is made
    /// from what it shows.
    inner_keys: HashMap<u64, u64>,
}

impl Programs {
    pub(super) fn new(modules: Arc<Modules>) -> Self {
        Self { modules, tables: HashMap::new(), bytes: 0, inner_keys: HashMap::new() }
    }

    /// The rule of an offset in a module that was met; `None` when its file could not be had.
    pub(super) fn rule(&mut self, module: u64, offset: u64, exact: bool) -> Option<Rule> {
        if module == VDSO && !self.tables.contains_key(&VDSO) {
            self.keep(VDSO, vdso().and_then(Tables::parse));
        }
        let tables = self.tables.get(&module)?;
        Some(tables.as_ref().map_or(Rule::UNKNOWN, |tables| tables.rule(offset, exact)))
    }

    /// The rule of the frame that the kernel side has named by itself.
    pub(super) fn told_rule(&mut self, window: &Window, mapping: Option<&Mapping>) -> Option<Rule> {
        let Window { tgid, module, offset, start, exact, .. } = window;
        if *module != VDSO && !self.is_known(*module) {
            let mapping = mapping.filter(|mapping| mapping.range.start == *start)?;
            self.meet(*tgid, mapping, Some(*module))?;
        }
        self.rule(*module, *offset, *exact)
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
        self.keep(key, Tables::read(&file));
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

    fn is_known(&self, module: u64) -> bool {
        self.tables.contains_key(&module) && self.modules.get(module).is_some()
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
