//! Which files the kernel side's places lie in.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use fdtrace_common::unwind::module_key;

pub(super) use super::symbols::{open_regular, path_of};
use super::{
    reader::Reader,
    scripts::ScriptNames,
    symbols::{Module, Reach},
};
use crate::process::{self, Mapping};

/// What places lie in. Those who take and complete stacks fill it, and the one who names them reads it.
#[derive(Default)]
pub struct Modules {
    /// By their keys ([`module_key`]).
    files: Mutex<HashMap<u64, Arc<Module>>>,
    /// Code of scripts.
    pub(crate) scripts: ScriptNames,
}

/// More modules than any machine runs; then those that are still in use are met again.
const MAX: usize = 1 << 16;

impl Modules {
    /// The module with this key.
    #[must_use]
    pub fn get(&self, key: u64) -> Option<Arc<Module>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub(super) fn insert(&self, key: u64, module: Module) -> Arc<Module> {
        let module = Arc::new(module);
        let mut modules = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if modules.len() >= MAX {
            modules.clear();
        }
        modules.insert(key, Arc::clone(&module));
        module
    }
}

/// A mapping's module and its open file; the build-id is read from what is mapped.
pub(super) fn open(pid: u32, mapping: &Mapping, reader: &mut Reader) -> Option<(Module, File)> {
    let reach = Some(Reach { pid, range: mapping.range.clone() });
    let module = Module { path: Arc::clone(&mapping.path), build_id: None, file: None, reach };
    let file = module.open(reader)?;
    Some((module.identified_by(&file, reader), file))
}

/// The key that the kernel side gives to a mapping's file. Where a filesystem shows other numbers than it has inside, the
/// kernel side knows the file by another one.
pub(super) fn key(mapping: &Mapping, metadata: &Metadata) -> u64 {
    key_of(mapping.device, mapping.inode, metadata)
}

/// The same key, from the file alone.
pub(super) fn file_key(file: &File) -> Option<u64> {
    file.metadata().ok().map(|metadata| metadata_key(&metadata))
}

/// The key of a file at a path of ours, without opening it.
pub(super) fn path_key(path: impl AsRef<Path>) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata_key(&metadata))
}

fn metadata_key(metadata: &Metadata) -> u64 {
    let device = (libc::major(metadata.dev()) << 20) | libc::minor(metadata.dev());
    key_of(device, metadata.ino(), metadata)
}

fn key_of(device: u32, inode: u64, metadata: &Metadata) -> u64 {
    module_key(device, inode, metadata.mtime().cast_unsigned(), metadata.mtime_nsec().cast_unsigned())
}

/// The module at a path of ours.
pub(super) fn open_path(path: &Path, reader: &mut Reader) -> Option<(Module, File)> {
    let file = open_regular(path)?;
    let module = Module { path: path.into(), build_id: None, file: None, reach: None };
    Some((module.identified_by(&file, reader), file))
}

/// Where the files are that processes have mapped as code now, by their keys.
pub(super) fn mapped_anywhere() -> HashMap<u64, PathBuf> {
    let mut paths = HashSet::new();
    for pid in process::all() {
        let code =
            process::mappings(pid).into_iter().filter(|mapping| mapping.executable && mapping.inode != 0);
        paths.extend(code.map(|mapping| mapping.path));
    }
    let key = |path: &Arc<Path>| Some((file_key(&open_regular(path)?)?, path.to_path_buf()));
    paths.iter().filter_map(key).collect()
}

/// What the mapped file itself says, without opening it.
pub(super) fn metadata(pid: u32, mapping: &Mapping) -> Option<Metadata> {
    fs::metadata(Reach { pid, range: mapping.range.clone() }.map_file()).ok()
}
